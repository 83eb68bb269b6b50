"""Copies a SQLite database while other processes use it."""

import sqlite3
import uuid
from contextlib import closing
from pathlib import Path


def copy_database(source: Path, target: Path) -> None:
    """A consistent copy of a database, with everything that was committed; replaces `target` as a whole.

    Raises:
        sqlite3.Error, OSError: it cannot be read, or the copy cannot be written or is damaged.
    """
    part = target.with_name(f"{target.name}.{uuid.uuid4().hex}.part")
    try:
        with closing(sqlite3.connect(f"file:{source}?mode=rw", uri=True)) as old, closing(sqlite3.connect(part)) as new:
            old.backup(new)
            # A copy in WAL mode would need a second file beside it.
            new.execute("PRAGMA journal_mode=DELETE")
            if (said := new.execute("PRAGMA quick_check").fetchone()[0]) != "ok":
                raise sqlite3.DatabaseError(f"{source} is damaged: {said}")
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
