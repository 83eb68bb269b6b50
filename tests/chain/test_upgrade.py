"""A newer code location on an older one's home, and an older code location on a newer one's home.

Covers a ledger of schema version 1, written by the code of that version; a ledger newer than the code; and records that
this version of the code cannot read.
"""

import json
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from llmops_assets.cli.execution import open_by_person
from llmops_assets.delivery.planning import plan_revision
from llmops_assets.delivery.request_runs import run_request
from llmops_assets.domain.plan import Plan
from resources.ledger import schema as tables
from tests.support.projects import Outcome, Project, World

V1 = Path(__file__).parents[1] / "resources" / "ledger" / "ledger_v1.sql"
SENSORS = ("zoo_git", "zoo_dvc", "zoo_recovery")


def rows(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    with closing(sqlite3.connect(path)) as c:
        names = [n for (n,) in c.execute("SELECT name FROM sqlite_master WHERE type = 'table'") if "sqlite" not in n]
        return {n: c.execute(f"SELECT * FROM {n}").fetchall() for n in names}


def change(path: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(path)) as c:
        assert c.execute(statement, values).rowcount == 1
        c.commit()


@pytest.fixture
def project(make_project: Callable[[], Project]) -> Project:
    project = make_project()
    project.push()
    return project


@pytest.fixture
def world(make_world: Callable[..., World], project: Project) -> World:
    return make_world(project)


def test_an_older_ledger_is_taken_over_once_by_any_process_and_a_backup_is_kept(world: World) -> None:
    ledger = world.home / "ledger.sqlite"
    with closing(sqlite3.connect(ledger)) as c:
        c.executescript(V1.read_text())
    before = rows(ledger)
    with ThreadPoolExecutor(4) as people:
        status = [people.submit(world.llmops, "status") for _ in range(3)]
        audit = people.submit(world.llmops, "audit")
        ticks = {name: world.tick(name) for name in SENSORS}
    for code, said in (s.result() for s in status):
        assert code == 0 and "released" in said, said
    code, said = audit.result()
    assert code == 0 and "events is intact" in said, said
    assert all(skip for skip, _ in ticks.values()), "each tick says what it makes of an older home"
    after = rows(ledger)
    assert after["schema_version"] == [(tables.SCHEMA_VERSION,)]
    for name in set(before) - {"schema_version", "requests", "active_requests", "rollouts"}:
        assert after[name][: len(before[name])] == before[name], f"{name} lost rows"
    (was,), (rollout,) = before["rollouts"], after["rollouts"]
    assert rollout[:4] == was[:4] and rollout[5] == "returned", "no run of this version owns it, so it has ended"
    known = [r[1:4] for r in before["requests"]]
    assert [r[1:4] for r in after["requests"]][: len(known)] == known, "its requests are known, and carried on"
    assert rows(ledger.with_name("ledger.sqlite.v1")) == before, "the way back"
    assert list(world.home.glob("*.part")) == []


def test_a_newer_ledger_is_refused_with_a_clear_message_by_every_command_and_not_changed(world: World) -> None:
    ledger = world.home / "ledger.sqlite"
    assert world.llmops("status")[0] == 0
    newer = tables.SCHEMA_VERSION + 1
    change(ledger, "UPDATE schema_version SET version = ?", newer)
    before = rows(ledger)
    told = f"the ledger has schema version {newer}, this code has {tables.SCHEMA_VERSION}; use the matching release"
    for name in SENSORS:
        skip, requests = world.tick(name)
        assert requests == [] and skip is not None and skip.startswith(told)
    result = world.materialize("zoo", "ci_report")
    assert Outcome.of(result).failures.startswith(told)
    code, said = world.llmops("status")
    assert code == 2 and said.startswith(f"error: {told}") and len(said.strip().splitlines()) == 1
    assert rows(ledger) == before


def ask_for(world: World, sha: str, *stages: str) -> tuple[Plan, Outcome]:
    """Plans, opens and runs a request, as `llmops run --only` does."""
    source, ledger = world.source(), world.ledger
    plan = plan_revision(source, ledger, world.clients.store, sha, sha)
    request = open_by_person(source, ledger, sha, plan, "asked for", stages)
    outcome = Outcome.of(world.execute("zoo", run_request(source, request, stages)))
    world.tick("zoo_recovery")
    return plan, outcome


def test_records_that_this_version_cannot_read_are_named_and_made_again(world: World, project: Project) -> None:
    """They made every later tick raise, permanently."""
    sha, stages = project.head, ("ci_report", "dataset_version")
    world.source().git.fetch()
    assert ask_for(world, sha, *stages)[1].computed == set(stages)
    whole = world.ledger.records_of("zoo", sha)
    bodies = {s: json.loads(whole[s].model_dump_json()) for s in stages}
    bodies["ci_report"]["stage"] = "cosmic_report"
    bodies["dataset_version"].pop("train")
    for stage, body in bodies.items():
        update = "UPDATE records SET body = ? WHERE key = ?"
        change(world.home / "ledger.sqlite", update, json.dumps(body), whole[stage].key)
    assert world.ledger.records_of("zoo", sha) == {}
    for name in SENSORS:
        world.tick(name)
    code, said = world.llmops("plan", "--json")
    reasons = {s["stage"]: s["reasons"][0] for s in json.loads(said)["stages"]}
    assert code == 0
    for stage, told in (("ci_report", "cosmic_report"), ("dataset_version", "dataset_version.train: Field required")):
        assert f"the record of {stage} in the ledger cannot be read by this version of the code" in reasons[stage]
        assert told in reasons[stage] and reasons[stage].endswith("it is recomputed")
    for request in world.ledger.requests("zoo"):
        world.ledger.close(request, "cancelled", "for this test")
    _, outcome = ask_for(world, sha, *stages)
    assert (outcome.failures, outcome.computed) == ("", set(stages))
    log = "\n".join(e.message for e in world.instance.all_logs(outcome.runs[0].run_id))
    assert "the record of dataset_version in the ledger cannot be read" in log
    again = world.ledger.records_of("zoo", sha)
    assert {s: r.outputs for s, r in again.items()} == {s: r.outputs for s, r in whole.items()}
    assert [e["event"] for e in world.ledger.events()].count("replaced record") == 2
    assert world.ledger.verify_audit() > 0
