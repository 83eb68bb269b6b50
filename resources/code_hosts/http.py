"""JSON over HTTP for code hosts: bounded, with one way to fail, and never a token in a message.

Our own client over httpx instead of PyGithub or python-gitlab: a dozen requests are used, each library would bring a
client of its own (requests, PyNaCl, …) for one host, and PyGithub sleeps through rate limits by itself, which would
hold up a sensor's thread for up to an hour.
"""

import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import Any, Protocol

import httpx

from llmops_assets.config.documents import DocumentError, parse_json
from llmops_assets.domain.formatting import excerpt
from llmops_assets.domain.redaction import redact
from llmops_assets.machine.redaction import redacted
from resources.code_hosts.interface import HostRefuses, HostUnavailable

TIMEOUT_S = 10.0
"""How long one request waits for a connection, and for each part of the answer."""
LARGEST = 8 * 2**20
"""Bytes of an answer that are read."""
PAGE, PAGES = 100, 30
"""Entries of a page, and pages that are looked through: 3,000 comments."""
SHORTEST_LIMIT_S = 60.0
"""A secondary rate limit without a time, as GitHub's documentation asks."""


class Bearer(Protocol):
    """A token that changes."""

    def __call__(self) -> str:
        """The token that is valid now."""

    def forget(self) -> None:
        """Notes that the host does not accept it any more."""


class Api:
    """One host's API.

    Args:
        headers: of every request; they hold the token, unless `bearer` gives it.
        token: hidden in every message.
        clock: epoch seconds, to read when a rate limit ends.
        bearer: gives the token of each request, if it changes.
        timeout_s: how long one request waits for a connection, and for each part of the answer.
    """

    def __init__(
        self,
        base: str,
        headers: Mapping[str, str],
        token: str,
        clock: Callable[[], float] = time.time,
        bearer: Bearer | None = None,
        timeout_s: float = TIMEOUT_S,
    ):
        self._base, self._headers, self._token, self._clock = base, dict(headers), token, clock
        self._bearer, self._timeout_s = bearer, timeout_s

    @cached_property
    def _client(self) -> httpx.Client:
        """Kept: a new one reads all certificates, which takes longer than most requests."""
        return httpx.Client(headers=self._headers, timeout=self._timeout_s)

    def close(self) -> None:
        self._client.close()

    def get(self, path: str, **query: Any) -> Any:
        return self.request("GET", path, query=query)

    def pages(self, path: str, size: str = "per_page", length: int = PAGE, **query: Any) -> list[dict[str, Any]]:
        """All entries of a list.

        Args:
            size: the host's name for the length of a page.
            length: the most entries that the host puts on one.
        """
        found: list[dict[str, Any]] = []
        for page in range(1, PAGES + 1):
            entries = self.get(path, **query, **{size: length, "page": page})
            if not isinstance(entries, list):
                raise HostUnavailable(f"GET {path} is answered with something other than a list")
            found += [entry for entry in entries if isinstance(entry, dict)]
            if len(entries) < length:
                break
        return found

    def request(self, method: str, path: str, body: Any = None, query: Mapping[str, Any] | None = None) -> Any:
        """The answer's JSON; None if it has no body.

        Raises:
            HostUnavailable, HostRefuses: see there.
        """
        if self._bearer is not None:
            self._token = self._bearer()
        own = {"Authorization": f"Bearer {self._token}"} if self._bearer is not None else None
        try:
            # Streamed, so that an endless answer is not read. Redirects are not followed: the token is for this host.
            with self._client.stream(method, self._base + path, json=body, params=query or None, headers=own) as answer:
                content = self._content(answer)
        except httpx.TimeoutException as error:
            raise HostUnavailable(f"no answer within {self._timeout_s:g} s") from error
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            raise HostUnavailable(f"it cannot be reached ({type(error).__name__})") from error
        if not 200 <= answer.status_code < 300:
            raise self._failure(method, path, answer, content)
        if not content.strip():
            return None
        try:
            return parse_json(content.decode())
        except (DocumentError, UnicodeDecodeError) as error:
            raise HostUnavailable(f"{method} {path} is not answered with JSON; is `api` its API?") from error

    def _content(self, answer: httpx.Response) -> bytes:
        content, ends = b"", time.monotonic() + 6 * self._timeout_s
        for part in answer.iter_bytes():
            content += part
            if len(content) > LARGEST:
                raise HostUnavailable(f"its answer is longer than {LARGEST // 2**20} MiB")
            if time.monotonic() > ends:
                raise HostUnavailable(f"its answer takes longer than {6 * self._timeout_s:g} s")
        return content

    def _failure(self, method: str, path: str, answer: httpx.Response, content: bytes) -> Exception:
        status, said = answer.status_code, self._said(content)
        text = f"{method} {path}: {status}" + (f": {said}" if said else "")
        if status == 429 or (status == 403 and self._limits(answer, said)):
            wait_s = self._wait_s(answer)
            return HostUnavailable(f"it limits the rate of requests, for {wait_s:.0f} s", wait_s)
        if status == 401 and self._bearer is not None:
            self._bearer.forget()
        if status == 401:
            return HostUnavailable(f"it does not accept the token ({text})")
        if status >= 500:
            return HostUnavailable(f"it answered with status {status}", self._retry_after(answer))
        if 300 <= status < 400:
            return HostRefuses(f"{text}: it has moved; correct code_host.api or code_host.repository", status)
        return HostRefuses(text, status)

    def _said(self, content: bytes) -> str:
        """The host's own message: GitHub and Gitea have `message` and `errors`, GitLab `message` or `error`."""
        try:
            told = parse_json(content.decode(errors="replace"))
        except DocumentError:
            return ""
        if not isinstance(told, dict):
            return ""
        parts = [told.get("message") or told.get("error") or told.get("detail"), told.get("errors")]
        parts += [told.get("validation")]
        return excerpt(redact(redacted("; ".join(str(part) for part in parts if part)), [self._token]), 300)

    @staticmethod
    def _limits(answer: httpx.Response, said: str) -> bool:
        return (
            "retry-after" in answer.headers
            or answer.headers.get("x-ratelimit-remaining") == "0"
            or "rate limit" in said.lower()
        )

    def _wait_s(self, answer: httpx.Response) -> float:
        if (named := self._retry_after(answer)) is not None:
            return named
        reset = answer.headers.get("x-ratelimit-reset") or answer.headers.get("ratelimit-reset") or ""
        exhausted = answer.headers.get("x-ratelimit-remaining", answer.headers.get("ratelimit-remaining", "0")) == "0"
        if exhausted and reset.isdecimal() and len(reset) < 12:
            return max(1.0, float(reset) - self._clock())
        return SHORTEST_LIMIT_S

    def _retry_after(self, answer: httpx.Response) -> float | None:
        value = answer.headers.get("retry-after", "").strip()
        if value.isdecimal() and len(value) < 7:
            return float(value)
        try:
            return max(0.0, parsedate_to_datetime(value).timestamp() - self._clock()) if value else None
        except (ValueError, TypeError, OverflowError):
            return None
