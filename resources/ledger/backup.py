"""Copies a ledger as a whole: SQLite by its backup API, PostgreSQL by pg_dump. Both while it is in use."""

import os
import shutil
import sqlite3
import subprocess
from pathlib import Path

from llmops_assets.machine.sqlite_files import copy_database
from resources.ledger import sql
from resources.ledger.faults import LedgerError

SQLITE, DUMP = "ledger.sqlite", "ledger.pgdump"


def copy_ledger(url: str, folder: Path) -> str:
    """Copies the ledger into a folder; returns the file's name.

    Raises:
        LedgerError: it cannot be copied; the message names the remedy.
    """
    place = sql.make_url(url)
    if place.get_backend_name() == "sqlite":
        try:
            copy_database(Path(place.database or ""), folder / SQLITE)
        except (sqlite3.Error, OSError) as error:
            raise LedgerError(f"the ledger {place.database} cannot be copied to {folder}: {error}") from error
        return SQLITE
    if shutil.which("pg_dump") is None:
        raise LedgerError(
            "the ledger is on PostgreSQL, and pg_dump is not installed here. Remedy: install the PostgreSQL client "
            "tools (Debian: postgresql-client), or back up the database on its server and use --without-ledger"
        )
    host = place.host or place.query.get("host")
    options = {"--host": host, "--port": place.port, "--username": place.username, "--dbname": place.database}
    arguments = [f"{name}={value}" for name, value in options.items() if value]
    # The password goes through the environment: arguments are visible to every user of the machine.
    password = {"PGPASSWORD": str(place.password)} if place.password else {}
    done = subprocess.run(
        ["pg_dump", "--format=custom", f"--file={folder / DUMP}", "--no-password", *arguments],
        env={**os.environ, **password},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        raise LedgerError(f"pg_dump failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    return DUMP
