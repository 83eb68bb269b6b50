"""The ledger's errors, with messages: locked, disk full, unreachable, other version."""

from contextlib import suppress
from pathlib import Path

import psutil

from llmops_assets.machine.disk_space import full, has_no_room, is_full
from resources.ledger import sql

_WRITE_LOCK = 120
"""The byte of the file NAME-shm that a writer locks, according to SQLite's file format."""


class Conflict(Exception):
    """Another process was faster: the row exists, or has changed since it was read."""


class LedgerError(Exception):
    """The ledger is unusable; the message names the remedy."""


def is_locked(error: "sql.DBAPIError") -> bool:
    return "database is locked" in str(error.orig)


def locked(url: str) -> str:
    """Which process holds the lock of a SQLite ledger, as text."""
    return f"{sql.make_url(url).database} is locked by {_holder(Path(sql.make_url(url).database or ''))}"


def unavailable(error: "sql.DBAPIError", url: str, waited_s: float) -> str:
    """Why an operation failed, and the remedy. It was one transaction, so nothing was changed."""
    place = sql.make_url(url)
    if is_locked(error):
        return (
            f"the ledger {locked(url)}, for more than {waited_s:g} s. Nothing was changed; sensors and runs retry "
            "automatically. Remedy: end that process if it hangs"
        )
    if place.get_backend_name() == "sqlite" and (is_full(error) or has_no_room(Path(place.database or "/").parent)):
        return full("the ledger", Path(place.database or "/").parent, "; sensors and runs then continue automatically")
    said = next(iter(str(error.orig).strip().splitlines()), type(error.orig).__name__)
    if "not a database" in said or "malformed" in said:
        return (
            f"the ledger {place.database} is damaged: {said}. Nothing was changed. Remedy: stop `llmops`, restore the "
            "file from a backup or from NAME.v1 beside it, and start again"
        )
    return (
        f"the ledger {place.render_as_string(hide_password=True)} is not available: {said}. Nothing was changed. "
        "Remedy: check that it exists and that this user can write to it"
    )


def shown(url: str) -> str:
    """The ledger's address without its password."""
    return str(sql.make_url(url).render_as_string(hide_password=True))


def _holder(database: Path) -> str:
    """The process that holds SQLite's write lock, if Linux shows it."""
    with suppress(OSError, ValueError, psutil.Error):
        inode = database.with_name(f"{database.name}-shm").stat().st_ino
        for line in Path("/proc/locks").read_text().splitlines():
            # 5: POSIX  ADVISORY  WRITE 1234 fd:01:5678 120 120
            _, _, _, kind, pid, where, first, *_ = line.replace("-> ", "").split()
            if kind == "WRITE" and int(where.rsplit(":", 1)[1]) == inode and int(first) == _WRITE_LOCK:
                return f"process {pid} ({psutil.Process(int(pid)).name()})"
    return "another process"
