"""`llmops backup` beside a home at work, and `llmops restore` into an empty one: it answers everything as before."""

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from llmops_assets.domain.records import Release
from tests.support.projects import Project, World


def released(world: World, revision: str, template: str) -> Release:
    """Production serves a release of the computed weights, as a rollout ends it."""
    weights = world.ledger.records_of("zoo", revision)["quantized_artifact"]
    assert weights.made is not None
    release = Release(
        project="zoo", artifact_digest="d", artifact_uri=weights.made, file="model.gguf", chat_template=template,
        engine="llama.cpp",
    )  # fmt: skip
    world.ledger.add_release(release, revision)
    world.ledger.serve("zoo", "production", release.digest, revision)
    return release


@pytest.fixture(scope="module")
def source(
    make_project: Callable[[], Project], make_world: Callable[..., World], computed: Path
) -> tuple[Project, World, list[Release]]:
    """A home with real results of one commit, whose production has served two releases."""
    project = make_project()
    project.push()
    world = make_world(project, computed=computed)
    world.source().git.fetch()
    return project, world, [released(world, project.head, text) for text in ("one", "two")]


def test_a_restored_home_serves_status_trace_and_rollback_as_the_old_one(
    source: tuple[Project, World, list[Release]], make_world: Callable[..., World], tmp_path: Path
) -> None:
    """A backup that nobody has restored is a hope. Taken while another process stores artifacts and commits records."""
    project, world, (first, _) = source
    over = threading.Event()

    def work() -> None:
        number = 0
        while not over.is_set():
            number += 1
            (tmp_path / "made").mkdir(exist_ok=True)
            (tmp_path / "made" / "file.txt").write_text(str(number))
            world.clients.store.put(tmp_path / "made")
            world.ledger.pin(f"run-{number}", "zoo", project.head)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        code, said = world.llmops("backup", str(tmp_path / "backup"))
    finally:
        over.set()
        worker.join()
    assert code == 0, said
    assert "damaged or missing" not in said
    before = {words: world.llmops(*words)[1] for words in (("status", "--json"), ("trace", "production", "--json"))}
    fresh = make_world(project)
    shutil.rmtree(fresh.home)
    fresh.home.mkdir()
    code, said = fresh.llmops("restore", str(tmp_path / "backup"))
    assert code == 0, said
    for words, text in before.items():
        assert json.loads(fresh.llmops(*words)[1]) == json.loads(text)
    assert fresh.ledger.rollback_target("zoo", None) == (first.digest, project.head)
    assert fresh.ledger.verify_audit() > 0
    for record in fresh.ledger.records_of("zoo", project.head).values():
        for uri in record.artifacts:
            fresh.clients.store.fetch(uri)
    assert (fresh.home / "mlflow.sqlite").is_file()
    assert {s["action"] for s in json.loads(fresh.llmops("plan", "--json")[1])["stages"][:3]} == {"reuse"}


def test_a_second_backup_into_the_same_folder_copies_only_what_is_new(
    source: tuple[Project, World, list[Release]], tmp_path: Path
) -> None:
    _, world, _ = source
    assert world.llmops("backup", str(tmp_path / "b"))[0] == 0
    code, said = world.llmops("backup", str(tmp_path / "b"))
    assert code == 0 and "0 B of them new" in said


def test_a_restoration_never_overwrites_a_home_and_an_incomplete_backup_is_refused(
    source: tuple[Project, World, list[Release]], make_world: Callable[..., World], tmp_path: Path
) -> None:
    _, world, _ = source
    assert world.llmops("backup", str(tmp_path / "b"))[0] == 0
    code, said = world.llmops("restore", str(tmp_path / "b"))
    assert code == 1 and "is not empty (ledger.sqlite" in said
    (tmp_path / "b" / "backup.json").rename(tmp_path / "b" / "backup.json.begun")
    code, said = world.llmops("restore", str(tmp_path / "b"))
    assert code == 1 and "was interrupted; run `llmops backup` again" in said
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("not a backup")
    code, said = world.llmops("backup", str(tmp_path / "mine"))
    assert code == 1 and "is not empty and no backup" in said
