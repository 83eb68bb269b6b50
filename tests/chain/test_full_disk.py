"""Store, programs and ledger on separate small disks that fill up one after the other; tests run in order.

Each time there is one error that says what is full, where and what to do; no partial result is used; and once there is
space again, the same request continues to its release.
"""

import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from resources.artifact_store.store import MANIFEST
from tests.support.projects import Project, Watched, World
from tests.support.tiny_model import smollm2_tokenizer, tiny_model


class Disk:
    """A tmpfs of a few megabytes."""

    def __init__(self, folder: Path, megabytes: int):
        self.folder, self.ballast = folder, folder / "ballast"
        folder.mkdir(parents=True, exist_ok=True)
        options = ["-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
        done = subprocess.run(["mount", *options], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"a small disk cannot be mounted here ({done.stderr.strip()}); it takes root's rights")

    def fill(self, but: int) -> None:
        """Fills the disk except for `but` bytes."""
        at_hand = os.statvfs(self.folder)
        with self.ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, at_hand.f_bavail * at_hand.f_bsize - but))

    def free(self) -> None:
        self.ballast.unlink()

    def unmount(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.folder)], check=True)


class Small(Watched):
    """A world whose store, jobs and ledger are on three small disks."""

    def __init__(self, project: Project, world: World, store: Disk, jobs: Disk, ledger: Disk):
        super().__init__(project, world)
        self.store, self.jobs, self.ledger = store, jobs, ledger

    def retry(self) -> tuple[int, str]:
        return self.world.llmops("retry", "--wait")

    def assert_nothing_half_made_counts(self) -> None:
        with closing(sqlite3.connect(self.ledger.folder / "ledger.sqlite")) as c:
            assert c.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert self.world.ledger.verify_audit() > 0
        for record in self.world.ledger.records_of("zoo", self.project.head).values():
            for uri in record.artifacts:
                self.world.clients.store.fetch(uri)
        artifacts = self.store.folder / "artifacts"
        assert list(artifacts.rglob("*.part")) == [], "what did not fit does not keep the disk full"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[Small]:
    """Its base model has SmolLM2's vocabulary: 7 MB that fill a disk."""
    folder, mounted = tmp_path_factory.mktemp("disks"), list[Disk]()
    world: World | None = None
    try:
        for name, megabytes in (("store", 48), ("home/jobs", 96), ("ledger", 4)):
            mounted.append(Disk(folder / name, megabytes))
        base = cache / "base-of-7-mb"
        project = Project.create(folder / "zoo", "zoo", tiny_model(base, smollm2_tokenizer))
        url = f"sqlite:///{folder}/ledger/ledger.sqlite"
        world = World(folder / "home", project, store=str(folder / "store"), ledger=url)
        yield Small(project, world, *mounted)
    finally:
        if world is not None:
            world.down()
        for disk in mounted:
            disk.unmount()


def test_a_ledger_without_room_is_not_harmed_and_every_sensor_says_why_it_waits(small: Small) -> None:
    small.project.push()
    outcome = small.world.settle(on_run=lambda request: small.ledger.fill(but=0))
    assert outcome.failures.startswith("no space left for the ledger: the disk of"), outcome.failures
    assert str(small.ledger.folder) in outcome.failures and "free of 4 MiB" in outcome.failures
    assert "no space left for the ledger" in outcome.skips["zoo:recovery"], outcome.skips
    assert len(outcome.runs) == 1
    small.ledger.free()
    small.assert_nothing_half_made_counts()
    assert small.world.ledger.records_of("zoo", small.project.head) == {}


def test_with_room_in_the_ledger_it_continues_without_help_until_the_store_is_full(small: Small) -> None:
    small.store.fill(but=2_000_000)  # enough for the rows, not for the base model
    outcome = small.world.settle()
    assert small.request.generation == 2
    said = outcome.failures
    assert said.startswith("no space left for an artifact of the store: the disk of"), said
    assert str(small.store.folder) in said and "free of 48 MiB" in said and "`llmops retry`" in said
    assert (small.request.status, small.request.detail) == ("failed", f"fine_tuned_checkpoint: {said}")
    assert len(outcome.runs) == 1, "nothing fills again, by itself, what a person frees"
    small.assert_nothing_half_made_counts()
    assert set(small.world.ledger.records_of("zoo", small.project.head)) == {
        "ci_report",
        "container_image",
        "dataset_version",
    }


def test_a_program_without_room_fails_with_a_clear_message_and_uses_up_no_retry(small: Small) -> None:
    small.store.free()
    small.jobs.fill(but=300_000)
    code, said = small.retry()
    assert code == 1
    assert "no space left for what train writes: the disk of" in said.replace("\n", " "), said
    assert small.request.status == "failed" and str(small.jobs.folder / "train-") in small.request.detail
    assert "free of 96 MiB" in small.request.detail and "`llmops retry`" in small.request.detail
    small.assert_nothing_half_made_counts()
    assert set(small.world.ledger.records_of("zoo", small.project.head)) == {
        "ci_report",
        "container_image",
        "dataset_version",
    }


def test_with_room_again_the_same_request_is_released_and_resumes_from_complete_results(small: Small) -> None:
    small.jobs.free()
    code, said = small.retry()
    assert code == 0, said
    assert small.request.status == "released" and small.request.revision == small.project.head
    records = small.world.ledger.records_of("zoo", small.project.head)
    made = {records[s].made_by.run_id for s in ("ci_report", "dataset_version", "fine_tuned_checkpoint")}
    assert len(made) == 2, "what was complete before was not made again"
    small.assert_nothing_half_made_counts()
    artifacts = small.store.folder / "artifacts"
    assert [p for p in artifacts.iterdir() if not (p / MANIFEST).exists()] == []
