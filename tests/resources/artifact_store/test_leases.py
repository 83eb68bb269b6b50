"""Garbage collection of a store never takes away what someone uses, and a process that comes meanwhile waits for it."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest

from resources.artifact_store.leases import ABANDONED_S
from resources.artifact_store.store import ArtifactStore, StoreError
from tests.resources.artifact_store.racing import race
from tests.support.waiting import CEILING_S

HOUR_S = 3600.0


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ArtifactStore]:
    """A store in a folder, and one in remote (in-memory) storage."""
    url = str(tmp_path / "store") if request.param == "folder" else f"memory://{tmp_path.name}"
    yield ArtifactStore(url, tmp_path / "cache")
    fsspec.filesystem("memory").store.clear()


@pytest.fixture
def make(tmp_path: Path) -> Callable[[str], Path]:
    def folder(text: str) -> Path:
        made = tmp_path / text
        made.mkdir()
        (made / "weights.txt").write_text(text * 100)
        return made

    return folder


def later() -> float:
    """A limit after which nothing was used."""
    return time.time() + HOUR_S


def test_an_unused_artifact_goes_whole(store: ArtifactStore, make: Callable[[str], Path]) -> None:
    gone, kept = store.put(make("old")), store.put(make("other"))
    freed = store.collect(gone.digest, later())
    assert freed is not None and freed >= 300
    assert [s.identity for s in store.stored()] == [kept.digest]
    with pytest.raises(StoreError, match="is not in the store"):
        store.manifest(gone.uri)
    store.fetch(kept.uri)


def test_a_use_protects_an_artifact_for_the_grace_period(store: ArtifactStore, make: Callable[[str], Path]) -> None:
    artifact = store.put(make("model"))
    [there] = store.stored()
    before = time.time() - HOUR_S
    assert store.last_use(there) > before
    assert store.collect(artifact.digest, before) is None
    store.fetch(artifact.uri)


@pytest.mark.parametrize("use", ["put", "fetch", "quick_check"])
def test_every_use_counts_also_of_an_artifact_stored_long_ago(
    tmp_path: Path, make: Callable[[str], Path], use: str
) -> None:
    """A run that reuses a result from last month, or stores the same bytes again, must keep it."""
    store, folder = ArtifactStore(str(tmp_path / "store"), tmp_path / "cache"), make("model")
    artifact = store.put(folder)
    here = tmp_path / "store" / "artifacts" / artifact.digest
    for path in (*here.rglob("*"), here):
        os.utime(path, (0, 0))
    assert store.last_use(store.stored()[0]) < time.time() - HOUR_S
    if use == "put":
        store.put(folder)
    else:
        getattr(store, use)(artifact.uri)
    assert store.collect(artifact.digest, time.time() - HOUR_S) is None


def test_a_user_waits_while_its_artifact_is_collected_and_then_finds_none(
    store: ArtifactStore, make: Callable[[str], Path]
) -> None:
    """Half an artifact is worse than none: its reader would report damage, its writer would keep the gap."""
    folder = make("model")
    artifact = store.put(folder)
    leases = store._leases()
    marker = leases._path("collecting", artifact.digest)
    assert leases._mark(artifact.digest, marker)
    done = threading.Event()
    writer = threading.Thread(target=lambda: (store.put(folder), done.set()))
    writer.start()
    assert not done.wait(1.0), "the collector is not done"
    leases.fs.rm(leases._path("artifacts", artifact.digest), recursive=True)
    leases.fs.rm_file(marker)
    assert done.wait(CEILING_S)
    writer.join()
    store.fetch(artifact.uri)


def test_a_collector_that_was_killed_holds_nobody_up_and_the_next_one_continues(
    store: ArtifactStore, make: Callable[[str], Path]
) -> None:
    artifact = store.put(make("model"))
    leases = store._leases()
    marker = leases._path("collecting", artifact.digest)
    leases._mark(artifact.digest, marker)
    assert store.collect(artifact.digest, later()) is None, "another collector has it"
    leases.fs.pipe_file(marker, str(time.time() - ABANDONED_S - 1).encode())
    store.fetch(artifact.uri)
    assert store.collect(artifact.digest, later()) is not None


def test_users_and_a_collector_at_work_at_the_same_time_never_meet(tmp_path: Path, make: Callable[[str], Path]) -> None:
    """Two processes store and read the same artifacts while a third collects whatever was not used for two seconds."""
    folders = [make(name) for name in ("one", "two", "three")]
    freed, wrong = race(str(tmp_path / "store"), tmp_path, folders)
    assert wrong == []
    assert freed >= len(folders), "in the end nobody used them"
    assert ArtifactStore(str(tmp_path / "store"), tmp_path / "c").stored() == []
