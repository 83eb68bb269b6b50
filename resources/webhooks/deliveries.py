"""The deliveries that were accepted, so that none is acted on twice: a small SQLite database of the receiver's own.

It holds digests only. It is no evidence and no part of the ledger: the receiver, which is reached from outside, does
not open that.
"""

import hashlib
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

KEPT_S = 30 * 86400.0
"""How long a delivery is remembered. Signed times are checked against minutes; without them, an older one is accepted
again, which leads to one needless look at the branch."""
MOST = 200_000
"""The most that are remembered, about 20 MB; then the oldest are forgotten first."""


class Deliveries:
    """Safe for several threads: each call opens the database again, which takes less than the write to disk."""

    def __init__(self, file: Path, clock: Callable[[], float] = time.time, most: int = MOST):
        self._file, self._clock, self._most = file, clock, most
        file.parent.mkdir(parents=True, exist_ok=True)
        with closing(self._open()) as c:
            c.execute("PRAGMA journal_mode=WAL")
            c.execute("CREATE TABLE IF NOT EXISTS deliveries (digest TEXT PRIMARY KEY, at REAL NOT NULL)")
            c.execute("CREATE INDEX IF NOT EXISTS by_time ON deliveries (at)")

    def add(self, sender: str, identity: Sequence[str]) -> bool:
        """Remembers a delivery, on disk before this returns; False if any part of its identity was known."""
        now = self._clock()
        with closing(self._open()) as c:
            c.execute("BEGIN IMMEDIATE")
            c.execute("DELETE FROM deliveries WHERE at < ?", (now - KEPT_S,))
            rows = [
                (hashlib.sha256(f"{sender}\0{part}".encode(errors="replace")).hexdigest(), now) for part in identity
            ]
            marks = ",".join("?" * len(rows))
            known = c.execute(f"SELECT 1 FROM deliveries WHERE digest IN ({marks})", [d for d, _ in rows]).fetchone()
            c.executemany("INSERT OR IGNORE INTO deliveries VALUES (?, ?)", rows)
            too_many = "SELECT rowid FROM deliveries ORDER BY at DESC LIMIT -1 OFFSET ?"
            c.execute(f"DELETE FROM deliveries WHERE rowid IN ({too_many})", (self._most,))
            c.execute("COMMIT")
        return known is None

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(self._file, timeout=30, isolation_level=None)
