"""Asks a DVC remote what it holds, and tells a remote that lacks data from one that does not answer.

DVC's own check answers "not there" to both: it treats a refused connection, a timeout or a server error like a missing
file. A project was then told to run `dvc push` while its storage was down.
"""

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.parse import urlparse

from llmops_assets.domain.formatting import excerpt
from llmops_assets.machine.redaction import redacted
from resources.project_source.dvc_files import Output
from resources.project_source.errors import RemoteUnreachable, SourceError

DVC_2 = "md5-dos2unix"
"""DVC 3's name for the hash of DVC 2, whose pointers name none."""
_TIMEOUTS = {"connect_timeout": 5, "read_timeout": 15}
"""Seconds, for remotes that have these options and do not set them. Five attempts of a minute each are the default."""
_WITH_TIMEOUTS = ("s3", "http", "https")
_BUCKETS = ("s3", "gs", "azure")
T = TypeVar("T")


LISTING_BYTES = 64 * 1024 * 1024
"""A folder's list of files: about 90 bytes a file, so 700,000 files. It is read into memory."""


def missing_in_remote(tree: Path, tracked: Mapping[str, Output]) -> list[str]:
    """The paths whose version the default remote does not hold.

    Args:
        tree: a checkout of the project.
        tracked: paths, and the entries of their DVC files.

    Raises:
        RemoteUnreachable: the remote does not answer, or refuses access.
        SourceError: the project's DVC configuration is invalid, or names no remote.
    """
    with _opened(tree) as at:
        missing = []
        for path, out in tracked.items():
            cache, remote = at.stores(out)
            if not (cache.exists(out.md5) or _holds(remote, out.md5)):
                missing.append(path)
        at.refuse_without_root(missing)
        return missing


def listings(tree: Path, folders: Mapping[str, Output]) -> dict[str, bytes]:
    """The lists of files of tracked folders, from where DVC reads them: its cache, then the remote.

    A list that neither holds is left out: DVC's pull says that it is missing.

    Args:
        tree: a checkout of the project.
        folders: paths, and the entries of their DVC files.

    Raises:
        RemoteUnreachable: the remote does not answer, or refuses access: then nothing is known of the list.
        SourceError: a list is too long; the project's DVC configuration is invalid, or names no remote.
    """
    found: dict[str, bytes] = {}
    with _opened(tree) as at:
        for path, out in folders.items():
            store = next((store for store in at.stores(out) if _holds(store, out.md5)), None)
            if store is None:
                at.refuse_without_root([path])
                continue
            with store.fs.open(store.oid_to_path(out.md5), "rb") as file:
                found[path] = file.read(LISTING_BYTES + 1)
            if len(found[path]) > LISTING_BYTES:
                longest = LISTING_BYTES // 1024**2
                raise SourceError(f"{path}: its list of files is longer than {longest} MB; pack them into fewer files")
    return found


class _Remote:
    """A project's DVC cache and default remote, opened."""

    def __init__(self, repo: Any, url: str, shown: str):
        self.repo, self.url, self.shown = repo, url, shown
        self._odb = repo.cloud.get_remote_odb()

    def stores(self, out: Output) -> tuple[Any, Any]:
        """The cache and the remote that hold this output."""
        if out.of_dvc_2:
            return self.repo.cache.legacy, self.repo.cloud.get_remote_odb(hash_name=DVC_2)
        return self.repo.cache.local, self._odb

    def refuse_without_root(self, missing: list[str]) -> None:
        """Refuses a remote that is not there at all, which lacks everything.

        Raises:
            RemoteUnreachable: its bucket or folder does not exist.
        """
        if missing and not _exists(self._odb.fs, _root(self.url, self._odb.fs, self._odb.path)):
            raise RemoteUnreachable(
                f"{self.shown} does not exist. Is it mounted, and its name right? A new one is created by `dvc push`"
            )


@contextmanager
def _opened(tree: Path) -> Iterator[_Remote]:
    """Opens the default remote of a checkout, and translates what its storage raises inside the block.

    Raises:
        RemoteUnreachable: the remote does not answer, or refuses access.
        SourceError: the project's DVC configuration is invalid, or names no remote.
    """
    os.environ.setdefault("DVC_NO_ANALYTICS", "1")
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc_objects.fs.errors import AuthError, ConfigError, RemoteMissingDepsError

    shown = "the DVC remote"
    try:
        with Repo(str(tree)) as repo:
            remote = repo.config["remote"].get(repo.config["core"].get("remote"), {})
            url = str(remote.get("url", ""))
            if urlparse(url).scheme in _WITH_TIMEOUTS:
                remote.update({name: value for name, value in _TIMEOUTS.items() if name not in remote})
            shown = f"the DVC remote {redacted(url)}"
            yield _Remote(repo, url, shown)
    except (PermissionError, AuthError) as error:
        raise RemoteUnreachable(f"{shown} refuses access ({_said(error)}). Remedy: check its credentials") from error
    except (RemoteMissingDepsError, ImportError) as error:
        raise SourceError(f"{shown} needs a package that is not installed: {_said(error)}") from error
    except (DvcException, ConfigError) as error:
        raise SourceError(f"{shown} cannot be read: {_said(error)}") from error
    except SourceError:
        raise
    except Exception as error:  # each kind of storage has its own errors, which say that it did not answer
        raise RemoteUnreachable(
            f"{shown} cannot be reached ({type(error).__name__}: {_said(error)}). Nothing is lost: it is asked again"
        ) from error


def _holds(store: Any, md5: str | None) -> bool:
    return _exists(store.fs, store.oid_to_path(md5))


def _exists(fs: Any, path: str) -> bool:
    """Whether a path exists. `exists` and `isfile` of the file systems also say no if they cannot tell."""
    try:
        fs.info(path)
    except FileNotFoundError:
        return False
    return True


def _root(url: str, fs: Any, path: str) -> str:
    """What must exist before a remote can lack anything: the bucket, or the folder."""
    if urlparse(url).scheme in _BUCKETS:
        return path.lstrip("/").split("/")[0]
    return str(fs.parent(fs.parent(path)) if path.endswith("/files/md5") else path)


def _said(error: Exception) -> str:
    return redacted(excerpt(str(error).strip() or type(error).__name__, 300))


class _Call(threading.Thread, Generic[T]):
    """A call in a thread of its own, with its result or error once it has ended."""

    def __init__(self, about: object, call: Callable[[], T]):
        super().__init__(daemon=True)
        self.about, self._call = about, call
        self._results: list[T] = []
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._results.append(self._call())
        except BaseException as error:
            self._error = error

    def outcome(self) -> T:
        if self._error is not None:
            raise self._error
        return self._results[0]


class TimeLimit(Generic[T]):
    """Runs a call in a thread, and gives up waiting after a limit. While that call hangs, another one is refused.

    An answer that comes later is not lost: it is that of the next call about the same.
    """

    def __init__(self, what: str, seconds: float):
        self.what, self.seconds = what, seconds
        self._running: _Call[T] | None = None

    def __call__(self, call: Callable[[], T], about: object = None, seconds: float | None = None) -> T:
        """The call's result or exception.

        Args:
            about: what is asked; None: a late answer is not kept.
            seconds: to wait, instead of the usual limit.

        Raises:
            RemoteUnreachable: it has not returned within the limit.
        """
        limit = self.seconds if seconds is None else seconds
        if (late := self._running) is not None:
            if late.is_alive():
                raise RemoteUnreachable(f"{self.what} has not answered for more than {limit:g} s; it is asked again")
            self._running = None
            if about is not None and late.about == about:
                return late.outcome()
        made = _Call(about, call)
        made.start()
        made.join(limit)
        if made.is_alive():
            self._running = made
            raise RemoteUnreachable(f"{self.what} does not answer within {limit:g} s; it is asked again")
        return made.outcome()
