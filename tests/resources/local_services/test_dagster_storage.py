"""The local profile's storage of Dagster's events reads and writes what Dagster's own does, and prepares it once."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path

import dagster as dg
import psutil
import pytest
import sqlalchemy as sql
import yaml
from alembic.script import ScriptDirectory

from resources.local_services.dagster_storage import HomeStorage

HOME = yaml.safe_load(files("resources.local_services").joinpath("dagster.yaml").read_text())


@dg.asset
def model() -> None: ...


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    yield tmp_path


def opened(home: Path, ours: bool = True) -> dg.DagsterInstance:
    """A new instance on these files, as each tick has one."""
    (home / "dagster.yaml").write_text(yaml.safe_dump({"storage": HOME["storage"]} if ours else {}))
    return dg.DagsterInstance.from_config(str(home))


def materialize(instance: dg.DagsterInstance) -> str:
    return dg.materialize([model], instance=instance).run_id


def seen(instance: dg.DagsterInstance, run: str) -> tuple[bool, int, bool]:
    """Whether the run succeeded, how many events it has, and whether it is the model's newest."""
    record, newest = instance.get_run_by_id(run), instance.get_latest_materialization_event(model.key)
    return bool(record and record.is_success), len(instance.all_logs(run)), bool(newest and newest.run_id == run)


@pytest.mark.parametrize("ours_first", [True, False])
def test_each_storage_reads_what_the_other_wrote(home: Path, ours_first: bool) -> None:
    with opened(home, ours_first) as first:
        run = materialize(first)
        written = seen(first, run)
    with opened(home, not ours_first) as second:
        assert isinstance(second.get_ref().storage, HomeStorage) != ours_first
        assert seen(second, run) == written
        assert written[0] and written[1] > 5 and written[2]
        assert seen(second, materialize(second)) == written


def test_a_second_instance_loads_no_migration(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dagster makes one for each tick: loading them took most of the time of ticks that find nothing to do."""
    with opened(home) as first:
        run = materialize(first)
        written = seen(first, run)

    def load(*_: object) -> ScriptDirectory:
        raise AssertionError("migrations are loaded again")

    monkeypatch.setattr(ScriptDirectory, "from_config", load)
    with opened(home) as second:
        assert seen(second, run) == written
    with pytest.raises(AssertionError, match="loaded again"), opened(home, ours=False) as third:
        seen(third, run)


def test_files_that_were_deleted_are_prepared_again(home: Path) -> None:
    """`rm -r` of a home in trouble, while a daemon still runs."""
    with opened(home) as before:
        materialize(before)
    for file in home.rglob("*.db*"):
        file.unlink()
    with opened(home) as after:
        assert after.get_runs_count() == 0
        assert seen(after, materialize(after))[0]


def test_a_run_in_progress_writes_nothing_into_files_that_are_gone(home: Path) -> None:
    """A connection that is kept would write on into the deleted file, and nobody would ever read that."""
    with opened(home) as instance:
        materialize(instance)
        for file in home.rglob("*.db*"):
            file.unlink()
        with pytest.raises(Exception, match="no such table"):
            materialize(instance)


def test_an_error_in_the_middle_of_a_result_locks_nothing(home: Path) -> None:
    """A kept connection with rows left to read saw the past for ever, and writing failed: "database is locked"."""
    with opened(home) as instance, opened(home, ours=False) as other:
        run = materialize(instance)
        materialize(instance)
        with pytest.raises(KeyError) as kept, instance.run_storage.connect() as connection:  # type: ignore[attr-defined]
            rows = connection.execute(sql.text("select run_id from runs"))
            raise KeyError(rows.fetchone())
        other.add_run_tags(run, {"by": "another process"})
        instance.add_run_tags(run, {"and": "by us"})
        found = instance.get_run_by_id(run)
        assert found and found.tags.items() >= {("by", "another process"), ("and", "by us")}
        assert kept.tb is not None, "the error, and with it the result, lives until here"


def open_databases(home: Path) -> list[str]:
    return [file.path for file in psutil.Process().open_files() if file.path.startswith(f"{home}/history/")]


def test_a_fork_inherits_no_connection(home: Path) -> None:
    """SQLite's locks belong to a process: with an inherited connection, a fork and its parent corrupt a database."""
    with opened(home) as instance:
        run = materialize(instance)
        written = seen(instance, run)
        assert open_databases(home) != [], "connections are kept"
        child = os.fork()
        if child == 0:
            try:
                told = f"{open_databases(home)} {seen(instance, run)}"
            except BaseException as error:
                told = repr(error)
            (home / "told").write_text(told)
            os._exit(0)
        os.waitpid(child, 0)
        assert (home / "told").read_text() == f"[] {written}"
        assert seen(instance, materialize(instance)) == written


def test_instances_of_many_threads_lose_no_event(home: Path) -> None:
    def work(_: int) -> str:
        with opened_again() as instance:
            return materialize(instance)

    def opened_again() -> dg.DagsterInstance:
        return dg.DagsterInstance.from_config(str(home))

    with opened(home) as instance, ThreadPoolExecutor(4) as pool:
        runs = list(pool.map(work, range(8)))
        counts = {len(instance.all_logs(run)) for run in runs}
        assert all(record.is_success for record in instance.get_runs()) and len(set(runs)) == 8
        assert len(counts) == 1
