"""Ledger fixtures on both databases: an empty ledger per test, on SQLite and on a real PostgreSQL server."""

import os
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from resources.ledger import Ledger


def _postgres_tools() -> Path | None:
    """The folder with initdb, which Debian does not put on the PATH."""
    found = shutil.which("initdb")
    places = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return next((p for p in reversed(places) if (p / "initdb").exists()), None)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of this session's PostgreSQL server, with a placeholder for the database."""
    tools = _postgres_tools()
    if tools is None:
        pytest.skip("PostgreSQL is not installed")
    pytest.importorskip("psycopg2")
    folder = Path(f"/tmp/llmops-postgres-{uuid.uuid4().hex[:8]}")  # a socket's path is limited to 107 characters
    folder.mkdir(mode=0o700)
    user: str | None = None
    if os.getuid() == 0:  # the server refuses to run as root
        user = "nobody"
        shutil.chown(folder, "nobody")

    def call(*command: str) -> None:
        done = subprocess.run(
            [str(tools / command[0]), *command[1:]], cwd=folder, capture_output=True, text=True, user=user
        )
        assert done.returncode == 0, done.stderr + done.stdout

    try:
        call("initdb", "-D", str(folder / "data"), "-U", "llmops", "--auth=trust", "--no-sync")
        options = f"-k {folder} -c listen_addresses='' -c fsync=off"
        call("pg_ctl", "-D", str(folder / "data"), "-l", str(folder / "log"), "-o", options, "-w", "start")
        yield f"postgresql+psycopg2://llmops@/{{database}}?host={folder}"
        call("pg_ctl", "-D", str(folder / "data"), "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def new_ledger_url(request: pytest.FixtureRequest) -> Callable[[str, Path], str]:
    """Makes the URL of a ledger that does not exist yet, on the given kind of database."""

    def make(kind: str, folder: Path) -> str:
        if kind == "sqlite":
            return f"sqlite:///{folder / 'ledger.sqlite'}"
        from sqlalchemy import NullPool, create_engine

        server, name = request.getfixturevalue("postgres"), f"l{uuid.uuid4().hex}"
        administration = server.format(database="postgres")
        with create_engine(administration, isolation_level="AUTOCOMMIT", poolclass=NullPool).connect() as c:
            c.exec_driver_sql(f"CREATE DATABASE {name}")
        return str(server.format(database=name))

    return make


@pytest.fixture(params=["sqlite", "postgres"])
def ledger_url(request: pytest.FixtureRequest, new_ledger_url: Callable[[str, Path], str], tmp_path: Path) -> str:
    """The URL of an empty ledger for one test."""
    return new_ledger_url(request.param, tmp_path)


class Clock:
    """A clock that only the test advances."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(ledger_url: str, clock: Clock) -> Iterator[Ledger]:
    ledger = Ledger(ledger_url, clock)
    yield ledger
    ledger.engine.dispose()
