"""`llmops gc` on a home that has computed real results: what goes, what stays, and what every page says afterwards."""

import json
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from llmops_assets.delivery.garbage import Collector
from llmops_assets.delivery.tombstones import Tombstones
from llmops_assets.domain.chain import WORK
from llmops_assets.domain.records import CiReport, RegisteredModel
from resources.artifact_store.store import ArtifactStore
from resources.assembly import build_clients
from resources.ledger import Ledger
from resources.project_environments.environments import ENVIRONMENTS, ProjectEnvironments
from tests.support.projects import LIGHT, Project, World
from tests.support.records import made_by

DAY_S = 86400.0


def age(world: World, days: float) -> None:
    """Makes everything in a home look as if it had been made and used so many days ago."""
    then = days * DAY_S
    with closing(sqlite3.connect(world.home / "ledger.sqlite")) as c:
        c.execute("UPDATE records SET created = created - ?", (then,))
        c.execute("UPDATE edges SET updated = updated - ?", (then,))
        c.commit()
    for top in ("store", "work", "dvc-cache", "jobs", "services"):
        for path in ((world.home / top), *(world.home / top).rglob("*")):
            if path.exists() and not path.is_symlink():
                os.utime(path, (path.stat().st_atime, path.stat().st_mtime - then))


@pytest.fixture
def old(make_project: Callable[[], Project], make_world: Callable[..., World], computed: Path) -> tuple[Project, World]:
    """A home whose head needs only the light evaluation; the full one of the first commit was last used 40 days ago."""
    project = make_project()
    project.ship("Light", LIGHT)
    world = make_world(project, computed=computed)
    world.source().git.fetch()
    age(world, 40)
    return project, world


def gc(world: World, *words: str) -> dict[str, Any]:
    code, said = world.llmops("gc", "--json", *words)
    assert code == 0, said
    return dict(json.loads(said))


def collect(world: World, dry_run: bool = False, sole_ledger: bool = False) -> dict[str, Any]:
    """As `gc`, with clients of its own but without a process, which costs 3 CPU seconds."""
    report = Collector(build_clients(world.settings), world.instance, dry_run, sole_ledger=sole_ledger).run()
    return dict(json.loads(report.model_dump_json()))


def test_results_that_nobody_needs_go_and_every_page_says_when(
    old: tuple[Project, World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store only ever grew: each rejected experiment left its checkpoint there for good.

    Afterwards the head still reuses everything, and the plan and the trace of the older commit say what happened.
    """
    project, world = old
    first = project.git("rev-parse", "HEAD~1")
    before = {s.identity for s in world.clients.store.stored()}
    tried = gc(world, "--dry-run")
    assert {i["name"] for i in tried["items"] if i["kind"] == "result"} == {
        f"{stage} of zoo {first[:12]}" for stage in ("ci_report", "evaluation_report", "served_evaluation_report")
    }
    assert {s.identity for s in world.clients.store.stored()} == before, "a dry run deletes nothing"
    done = gc(world)
    assert done["items"] == tried["items"] and done["freed_bytes"] == tried["freed_bytes"] > 0
    left = {s.identity for s in world.clients.store.stored()}
    assert len(left) == len(before) - 3
    assert set(world.ledger.artifact_digests()) <= left, "or a store without its marker would be taken for another"
    _, said = world.llmops("plan", "--json")
    assert {s["action"] for s in json.loads(said)["stages"] if s["stage"] in {w.name for w in WORK}} == {"reuse"}, said
    _, said = world.llmops("plan", "--revision", first)
    assert f"was collected on {time.strftime('%Y-%m-%d', time.gmtime())} (not used for 14 days" in said
    _, said = world.llmops("trace", first, "--json")
    trace = json.loads(said)
    assert trace["evaluation"]["collected"] and trace["evaluation"]["metrics"]["perplexity"] > 0
    assert "collected" not in trace["checkpoint"]
    monkeypatch.setenv("DAGSTER_HOME", str(world.home / "dagster"))  # as the command has opened it
    with dg.DagsterInstance.get() as instance:
        page = instance.fetch_observations(dg.AssetKey(["zoo", "evaluation_report"]), limit=1).records[0]
    shown = page.asset_observation
    assert shown is not None and shown.metadata["policy"].value.startswith("not used for 14 days")
    assert (shown.description or "").startswith(f"collected on {time.strftime('%Y-%m-%d', time.gmtime())}: not used")
    assert f"remake it by `llmops run zoo --revision {first[:12]}`" in (shown.description or "")
    tracking, key = world.clients.tracking, shown.metadata["key"].value
    assert tracking.tags(tracking.find("zoo", str(key)))["llmops.collected"] == shown.description
    _, said = world.llmops("audit")  # it also names the rows that this test has aged by plain SQL
    assert said.count("collected: key") == 3, said
    assert collect(world)["items"] == []


def test_the_model_version_of_a_collected_checkpoint_says_that_its_weights_are_gone(old: tuple[Project, World]) -> None:
    """The registry went on offering a version that nobody could load."""
    _, world = old
    checkpoint = next(r for r in world.ledger.inventory().results if r.stage == "fine_tuned_checkpoint")
    model = world.ledger.records_of("zoo", checkpoint.revision)["registered_model"]
    assert isinstance(model, RegisteredModel)
    with dg.instance_for_test() as instance:
        pages = Tombstones(instance, world.clients)
        pages.tell(checkpoint, time.time(), "not used for 14 days")
    assert pages.fault is None
    said = world.clients.registry.tags(model.name, model.version)["llmops.collected"]
    assert "not used for 14 days; remake it by `llmops run zoo --revision" in said


def test_a_collected_result_that_is_computed_again_counts_again(old: tuple[Project, World]) -> None:
    _, world = old
    ledger = world.ledger
    record = CiReport(key="k", made_by=made_by(), checks=())
    ledger.commit(record)
    result = next(r for r in ledger.inventory().results if r.key == "k")
    ledger.bury([(result, 5)], "nobody needs it")
    assert ledger.find("k") is None and "was collected on" in (ledger.unreadable("k") or "")
    again = record.model_copy(update={"made_by": made_by("r2")})
    assert ledger.commit(again) == again
    assert ledger.find("k") == again and ledger.unreadable("k") is None
    ledger.bury([(result, 5)], "the old one")
    assert ledger.find("k") == again, "a result that was replaced meanwhile is not the one that was collected"


def test_what_a_release_needs_stays_although_nobody_has_used_it_for_long(old: tuple[Project, World]) -> None:
    """A rollback to last month's release must find its weights, its data and its reports."""
    project, world = old
    first = project.git("rev-parse", "HEAD~1")
    world.ledger.serve("zoo", "production", "c" * 64, first)
    world.ledger.serve("zoo", "production", "d" * 64, project.head)
    assert [i for i in collect(world)["items"] if i["kind"] == "result"] == []


def test_a_baseline_that_a_gate_names_stays_and_one_that_is_gone_is_named_before_the_run(
    old: tuple[Project, World],
) -> None:
    """It went after 14 days without a use, and the gate that names it failed from then on."""
    project, world = old
    first = project.git("rev-parse", "HEAD~1")
    gate = {"metric": "rougeL", "no_worse_than": "baseline", "baseline": first[:12]}
    unknown = {**gate, "baseline": "abcdef1"}
    change = {"evaluation": {"max_rows": 3}, "gates": [gate, unknown]}
    project.ship("More rows, gated against the first commit", change)
    world.source().git.fetch()
    done = collect(world)
    assert not [i for i in done["items"] if i["kind"] == "result" and first[:12] in i["name"]]
    assert f"zoo: {first[:12]}: a gate's baseline" in done["roots"], done["roots"]
    ledger, key = world.ledger, world.ledger.records_of("zoo", first)["fine_tuned_checkpoint"].key
    ledger.bury([(r, 1) for r in ledger.inventory().results if r.key == key], "unused")
    _, said = world.llmops("plan")
    remedy = "set the gate's `baseline` in llmops.yaml to a release or commit that `llmops status` shows"
    assert f"(unused); compute it again with `llmops run --revision {first[:12]}`, or {remedy}" in said
    assert f"no release or commit of this project with results has this name; {remedy}" in said


def test_caches_programs_and_logs_go_by_age(old: tuple[Project, World]) -> None:
    project, world = old
    source = world.source()
    tree = source.pull(source.at(project.head), ["data/train.jsonl"])
    (world.home / "jobs" / "train-0123456789ab").mkdir(parents=True)
    (world.home / "jobs" / "train-0123456789ab" / "log.txt").write_text("a failed training")
    (world.home / "services").mkdir(exist_ok=True)
    (world.home / "services" / "run-old-1.log").write_text("old")
    (world.home / "services" / "run-new-1.log").write_text("new")
    cached = [p for p in (world.home / "dvc-cache").rglob("*") if p.is_file()]
    assert tree.is_dir() and cached
    kinds = {i["kind"] for i in collect(world)["items"]}
    assert not kinds & {"work tree", "DVC cache", "program", "log"}, "all of it was just used"
    age(world, 40)
    (world.home / "services" / "run-new-1.log").write_text("new")
    kinds = {i["kind"] for i in collect(world)["items"]}
    assert kinds >= {"work tree", "program", "log"}
    assert not tree.exists() and not (world.home / "jobs" / "train-0123456789ab").exists()
    assert [p.name for p in (world.home / "services").glob("run-*")] == ["run-new-1.log"]
    collect(world)
    assert not [p for p in cached if p.exists()], "no work tree links to them any more"
    old_one = ProjectEnvironments(world.home / ENVIRONMENTS)
    for folder in (old_one.folder / ("a" * 32), old_one.folder / ("b" * 32), old_one.cache):
        (folder / "lib").mkdir(parents=True)
        (folder / ".complete").touch()
    for path in (old_one.cache, old_one.folder / ("a" * 32) / ".complete"):
        os.utime(path, (1, 1))
    names = {i["name"] for i in collect(world)["items"] if i["kind"] in ("environment", "packages")}
    assert names == {"a" * 12, "ci-environments/uv-cache"}
    assert [p.name for p in old_one.folder.iterdir() if p.is_dir()] == ["b" * 32]
    again = source.pull(source.at(project.head), ["data/train.jsonl"])
    assert (again / "data/train.jsonl").is_file(), "all of it is fetched again when it is needed"


def test_artifacts_that_an_older_or_another_ledger_recorded_are_left_alone(old: tuple[Project, World]) -> None:
    """An operator lost the ledger and started a new one on the same store: to the new one all artifacts look unused."""
    _, world = old
    for file in world.home.glob("ledger.sqlite*"):
        file.unlink()
    world.ledger.engine.dispose()
    world.ledger.commit(CiReport(key="k", made_by=made_by(), checks=()))
    world.ledger.forget("k", "the first event of the new ledger")
    stored = world.clients.store.stored()
    done = collect(world)
    assert world.clients.store.stored() == stored
    assert [text for text in done["left"] if f"{len(stored)} artifacts" in text and "another ledger" in text]
    collect(world, dry_run=True, sole_ledger=True)
    assert collect(world)["left"] == done["left"], "a dry run says nothing to the store"
    assert {i["kind"] for i in collect(world, sole_ledger=True)["items"]} >= {"artifact"}
    assert world.clients.store.stored() == []


def test_nothing_is_collected_of_a_store_that_two_ledgers_share(old: tuple[Project, World], tmp_path: Path) -> None:
    """A warning was all: one ledger deleted what only the other had stored, or what both had and the other needed."""
    _, world = old
    store = world.clients.store
    other = ArtifactStore(store.url, tmp_path / "other/store-cache", ledger=Ledger(f"sqlite:///{tmp_path}/l").identity)
    (tmp_path / "made").mkdir()
    (tmp_path / "made/report.html").write_text("<p>of the other</p>")
    other.put(tmp_path / "made")
    age(world, 40)
    stored = store.stored()
    for _ in range(2):
        done = collect(world)
        assert [text for text in done["left"] if f"{tmp_path}/other, since" in text and "its own `store`" in text]
        assert store.stored() == stored and not {"result", "artifact"} & {i["kind"] for i in done["items"]}
    assert {i["kind"] for i in gc(world, "--sole-ledger")["items"]} >= {"result", "artifact"}
    other.put(tmp_path / "made")
    assert [owner.where for owner in store.other_ledgers()] != [], "it lives, and notes itself again"


def test_one_collection_at_a_time(old: tuple[Project, World]) -> None:
    _, world = old
    from llmops_assets.machine.locks import alone

    with alone(world.home / "gc.lock"):
        code, said = world.llmops("gc")
    assert code == 1 and "another garbage collection" in said


def test_the_nightly_job_does_the_same_in_dagster(old: tuple[Project, World]) -> None:
    _, world = old
    result = world.defs.resolve_job_def("collect_garbage").execute_in_process(instance=world.instance)
    assert result.success
    assert Collector(world.clients, world.instance, dry_run=True).run().items == ()
