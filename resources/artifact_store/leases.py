"""Keeps garbage collection and users of an artifact apart, on any store that fsspec reaches.

A user first notes the use of an artifact, then looks whether it is being collected, and waits while it is. The
collector first writes a marker, then looks when the artifact was last used. So at least one of them sees the other, on
every store where a read after a write finds it, and no lock has to be held while an artifact is used: a use protects
it for as long as the collector's grace period.

`artifacts/<digest>` of a local store keeps the time of the last use as its modification time; on object storage, where
nothing can be touched, it is the content of `uses/<digest>`. Which artifacts may go is decided elsewhere.
"""

import errno
import os
import posixpath
import re
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from llmops_assets.domain.models import Frozen
from resources.artifact_store.artifact import MANIFEST

ABANDONED_S = 300.0
"""A collector deletes one artifact within seconds. A marker as old as this is from one that was killed."""
_REMEMBERED_S = 600.0
"""On object storage a process notes the same use at most this often. Grace periods are an hour or more."""
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Stored(Frozen):
    """What lies in the store under one digest: an artifact, or the remains of an upload."""

    identity: str
    size: int
    uploaded: float
    """When its newest file was written. On a local store also the last use."""


class Leases:
    """Uses and collections of the artifacts of one store."""

    def __init__(self, fs: Any, root: str, is_local: bool, clock: Callable[[], float] = time.time):
        self.fs, self.root, self.is_local, self.clock = fs, root, is_local, clock
        self._noted: dict[str, float] = {}

    def _path(self, kind: str, identity: str) -> str:
        return posixpath.join(self.root, kind, identity)

    def note(self, identity: str, again: bool = False) -> bool:
        """Notes a use, and waits while the artifact is being collected; afterwards it exists completely or not at all.

        Args:
            again: also if this process has noted it a moment ago, as a writer must.

        Returns:
            False if this process had noted it a moment ago.
        """
        if self.is_local:
            folder = Path(self._path("artifacts", identity))
            for path in (folder, folder / MANIFEST):
                # Absent: there is nothing to protect. Another user's, or read-only: then nothing is collected either.
                with suppress(OSError):
                    os.utime(path)
        elif again or self.clock() - self._noted.get(identity, 0.0) > _REMEMBERED_S:
            self.fs.pipe_file(self._path("uses", identity), str(self.clock()).encode())
            self._noted[identity] = self.clock()
        else:
            return False
        while self._is_collected_now(identity):
            time.sleep(0.2)
        return True

    def _is_collected_now(self, identity: str) -> bool:
        try:
            begun = float(self.fs.cat_file(self._path("collecting", identity)))
        except FileNotFoundError:
            return False
        except ValueError:
            return True  # it is being written
        return self.clock() - begun < ABANDONED_S

    def stored(self, identity: str = "") -> list[Stored]:
        """Everything in the store, or under one digest."""
        top = self._path("artifacts", identity) if identity else posixpath.join(self.root, "artifacts")
        found: dict[str, Stored] = {}
        start = len(posixpath.join(self.root, "artifacts", ""))
        for path, info in self.fs.find(top, detail=True).items():
            name = path[start:].partition("/")[0]
            if not _DIGEST.fullmatch(name):
                continue  # a placeholder of the folder, or not ours
            known = found.get(name) or Stored(identity=name, size=0, uploaded=0.0)
            written = _modified(info)
            newest = max(known.uploaded, self.clock() if written is None else written)  # unknown: it stays
            found[name] = Stored(identity=name, size=known.size + int(info["size"] or 0), uploaded=newest)
        return sorted(found.values(), key=lambda s: s.identity)

    def last_use(self, stored: Stored) -> float:
        """When an artifact was last used, read now."""
        if self.is_local:
            with suppress(FileNotFoundError):
                return max(stored.uploaded, Path(self._path("artifacts", stored.identity)).stat().st_mtime)
            return stored.uploaded
        try:
            noted = float(self.fs.cat_file(self._path("uses", stored.identity)))
        except FileNotFoundError:
            return stored.uploaded  # stored by an older version
        return max(stored.uploaded, noted)

    def collect(self, identity: str, unused_since: float) -> int | None:
        """Deletes what lies under a digest, unless it was used since; returns the bytes freed, None if it stays.

        Its manifest goes first, so that no reader takes a part for the whole.
        """
        marker = self._path("collecting", identity)
        if not self._mark(identity, marker):
            return None  # by another collector
        try:
            here = self.stored(identity)
            if not here:
                return 0
            if self.last_use(here[0]) >= unused_since:
                return None
            folder = self._path("artifacts", identity)
            manifest = posixpath.join(folder, MANIFEST)
            if self.fs.exists(manifest):
                self.fs.rm_file(manifest)
            self.fs.rm(folder, recursive=True)
            if not self.is_local and self.fs.exists(self._path("uses", identity)):
                self.fs.rm_file(self._path("uses", identity))
            return here[0].size
        finally:
            self.fs.rm_file(marker)

    def _mark(self, identity: str, marker: str) -> bool:
        if self._is_collected_now(identity):
            return False
        body = str(self.clock()).encode()
        if self.is_local:
            Path(marker).parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            self.fs.rm_file(marker)  # of a collector that was killed
        try:
            self.fs.pipe_file(marker, body, mode="create")
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno != errno.ENOSYS:
                raise
            self.fs.pipe_file(marker, body)  # a server without conditional writes
        return True


def _modified(info: dict[str, Any]) -> float | None:
    """When a file was last written, however this file system names it."""
    for name in ("mtime", "LastModified", "last_modified", "updated", "created"):
        value = info.get(name)
        if isinstance(value, int | float):
            return float(value)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, str):
            with suppress(ValueError):
                return datetime.fromisoformat(value).timestamp()
    return None
