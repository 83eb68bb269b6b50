"""The gateway's access log: its format, and readers that follow it while a rollout is judged.

One JSON object per request, written when it ends: which release, how it ended, how long it took. No content, no
address and no path of a client. Envoy writes it; `envoy.Gateway` rotates it, so it takes at most twice ROTATE_AT.
"""

import json
import os
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from llmops_assets.domain.canary_evidence import UserRequest
from resources.serving.interface import UserTraffic

ROTATE_AT = 32 * 1024 * 1024
KEPT = 100_000
"""Requests of a release that a reader keeps: more would not narrow any bound that matters."""
USERS, NAMED, OURS = "users", "named", "ours"
"""Names of the routes: by weight, to the release that the request names, and by weight for requests of our own."""
FORMAT: Mapping[str, str] = {
    "start": "%START_TIME(%s.%6f)%",
    "route": "%ROUTE_NAME%",
    "cluster": "%UPSTREAM_CLUSTER%",
    "method": "%REQ(:METHOD)%",
    "status": "%RESPONSE_CODE%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "flags": "%RESPONSE_FLAGS%",
    "ms": "%DURATION%",
    "first_ms": "%RESPONSE_DURATION%",
    "sent": "%BYTES_SENT%",
    "received": "%BYTES_RECEIVED%",
}
"""Envoy's command operators: https://www.envoyproxy.io/docs/envoy/latest/configuration/observability/access_log"""
LEFT = frozenset({"DC", "DR"})
"""Response flags of a request whose client closed the connection."""


def rotated(path: Path) -> Path:
    """Where the gateway keeps the log before this one."""
    return path.with_name(f"{path.name}.1")


def request_of(entry: Mapping[str, Any]) -> UserRequest | None:
    """An entry as evidence; None if it is none: not an answer, or refused by the gateway itself."""
    if entry["route"] != USERS or entry["method"] != "POST":
        return None
    status, flags = int(entry["status"] or 0), {f for f in (entry["flags"] or "-").split(",") if f != "-"}
    refused = 400 <= status < 500
    if refused and entry["details"] != "via_upstream":
        return None
    left = bool(flags & LEFT)
    return UserRequest(
        # A status of 200 with a flag: the engine broke the stream in the middle.
        ok=0 < status < 400 and not flags,
        latency_s=float(entry["ms"]) / 1000,
        refused=refused,
        left=left,
        unanswered=left and not entry["sent"],
        at=float(entry["start"]),
        size=entry.get("received"),  # not in the log of a gateway that an older version started
    )


class AccessLogReader(UserTraffic):
    """Follows the log across rotations.

    Args:
        endpoint: as in the names of the gateway's clusters.
        since: start of the oldest request to read, in epoch seconds, as far as the log reaches back; None: now.
    """

    def __init__(self, path: Path, endpoint: str, since: float | None = None) -> None:
        self._path, self._prefix = path, f"{endpoint}/"
        self._began = time.time() if since is None else since
        self._found: dict[str, deque[UserRequest]] = {}
        self._rest = ""
        self._file: TextIO | None = self._open(rotated(path)) if since is not None else None
        if self._file is None:
            self._file = self._open(path)
        if self._file is not None and since is None:
            self._file.seek(0, os.SEEK_END)

    def by_release(self) -> Mapping[str, Sequence[UserRequest]]:
        for release, request in self.newer():
            self._found.setdefault(release, deque(maxlen=KEPT)).append(request)
        return self._found

    def newer(self) -> Iterator[tuple[str, UserRequest]]:
        for line in self._lines():
            try:
                entry = json.loads(line)
                cluster, request = str(entry["cluster"]), request_of(entry)
                # Requests that had begun before belong to the step before, with its weights.
                counts = request is not None and float(entry["start"]) >= self._began
            except (ValueError, KeyError, TypeError):
                continue  # a line that was cut off when the gateway was killed
            if request is not None and counts and cluster.startswith(self._prefix):
                yield cluster.removeprefix(self._prefix), request

    def _lines(self) -> Iterator[str]:
        """All lines that are complete by now."""
        while True:
            if self._file is None:
                self._file = self._open(self._path)
            if self._file is None:
                return
            while chunk := self._file.read(1 << 20):
                *lines, self._rest = (self._rest + chunk).split("\n")
                yield from lines
            if not self._rotated():
                return
            self._file.close()
            self._file, self._rest = None, ""

    @staticmethod
    def _open(path: Path) -> TextIO | None:
        try:
            return path.open(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return None

    def _rotated(self) -> bool:
        """Whether the path names another file than the one that is being read."""
        assert self._file is not None
        try:
            return os.fstat(self._file.fileno()).st_ino != self._path.stat().st_ino
        except FileNotFoundError:
            return False  # between the two steps of a rotation: the rest comes with the next call
