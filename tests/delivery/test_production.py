"""One production under real processes: interruptions, losses and rollbacks, as operators and users meet them.

Each test continues from the one before. The world's project was never fetched and its MLflow is down: neither is needed
to keep production as the ledger says, or to roll it back.
"""

import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import psutil
import pytest

from llmops_assets.delivery.run_tags import REQUEST_TAG
from llmops_assets.domain.keys import short
from llmops_assets.domain.records import RegisteredModel, Release
from llmops_assets.domain.rollout import RolloutPolicy, begin
from llmops_assets.machine.processes import MARK, marked
from resources.serving.client import ask
from tests.support.projects import Project, World
from tests.support.records import TEMPLATE, made_by
from tests.support.waiting import wait_for

FIRST, SECOND, CUT = "1" * 40, "2" * 40, "3" * 40


class Production:
    """A world whose ledger knows three releases of the same tiny weights."""

    def __init__(self, world: World, weights: Path):
        self.world, self.ledger, self.serving = world, world.ledger, world.clients.serving
        artifact = world.clients.store.put(weights.parent)
        self.release: dict[str, Release] = {}
        for number, revision in enumerate((FIRST, SECOND, CUT)):
            release = Release(
                project="zoo", artifact_digest=artifact.digest, artifact_uri=artifact.uri, file=weights.name,
                chat_template=f"{TEMPLATE}{{# {number} #}}", engine="llama.cpp", serving={"parallel": 4, "threads": 1},
            )  # fmt: skip
            self.release[revision] = release
            self.ledger.add_release(release, revision)
            model = RegisteredModel(
                key=f"model {number}", made_by=made_by(revision), name="zoo", version=number + 1, model_uri="", uri="",
                checkpoint_digest=f"c{number}",
            )  # fmt: skip
            self.ledger.commit(model)
            self.ledger.record_use("zoo", revision, model, reused=False)
        for revision in (FIRST, SECOND):
            self.ledger.serve("zoo", "production", self.digest(revision), revision)

    def digest(self, revision: str) -> str:
        return self.release[revision].digest

    def answered_by(self) -> str | None:
        answer = ask(self.serving.base_url("zoo", "production"), "zoo", "Hello", max_tokens=4)
        assert answer.ok, answer.error
        return answer.release

    def engines(self) -> list[int]:
        """The process ids of this home's engines."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            line = process.info["cmdline"] or []
            if "--spec" in line and str(self.world.home) in " ".join(line):
                found.append(process.pid)
        return sorted(found)

    def tick(self) -> str:
        """What the next tick says, or a later one on a machine that is too slow for one tick."""

        def said() -> str | None:
            reason, requests = self.world.tick("zoo_recovery")
            assert requests == []
            told.append(reason or "")
            return None if "not done after" in told[-1] else "all"

        told: list[str] = []
        wait_for("the end of the tick's work", said)
        return "; ".join(told)

    def assert_serves(self, revision: str) -> None:
        digest = self.digest(revision)
        serving = self.ledger.serving("zoo", "production")
        assert serving is not None and serving.release == digest == self.answered_by()
        assert self.serving.weights("zoo", "production") == {digest: 1.0}
        assert self.serving.deployed("zoo", "production") == (digest,)
        assert len(self.engines()) == 1


@pytest.fixture(scope="module")
def production(make_world: Callable[..., World], make_project: Callable[[], Project], model_file: Path) -> Production:
    return Production(make_world(make_project(), mlflow="http://127.0.0.1:1"), model_file)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow's client tries an unreachable server for minutes."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


def test_a_taken_port_is_named_in_the_tick_and_a_dead_run_is_still_closed(production: Production) -> None:
    """A serving fault in the recovery sensor stopped approvals and dead runs for as long as it lasted."""
    request = production.ledger.open_request("zoo", CUT, 1, "because")
    run = dg.DagsterRun(job_name="zoo_deliver", status=dg.DagsterRunStatus.CANCELED, tags={REQUEST_TAG: request.name})
    production.world.instance.add_run(run)
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", production.world.settings.serving.port))
        holder.listen()
        said = production.tick()
    assert f"{short(CUT)} is cancelled" in said
    assert "endpoints: production: port" in said and "is in use by pid" in said and "LLMOPS_SETTINGS" in said
    assert production.ledger.active_request("zoo") is None


def test_the_next_tick_starts_what_the_ledger_says_is_served(production: Production) -> None:
    production.tick()
    production.assert_serves(SECOND)


def test_a_rollout_that_nobody_resumes_gives_its_share_back_in_one_tick(production: Production) -> None:
    """A run that died for the fourth time at 50 % left half of production on an unjudged release."""
    world, cut, champion = production.world, production.release[CUT], production.digest(SECOND)
    request = production.ledger.open_request("zoo", CUT, 2, "because")
    state = begin(cut.digest, champion, RolloutPolicy()).model_copy(update={"owner": request.owner})
    production.ledger.begin_rollout("zoo", CUT, state)
    file = world.clients.store.fetch(cut.artifact_uri) / cut.file
    production.serving.deploy("zoo", "production", cut, file)
    production.serving.route("zoo", "production", {champion: 0.5, cut.digest: 0.5})
    production.ledger.close(request, "failed", "4 runs ended without an outcome")
    production.tick()
    production.assert_serves(SECOND)
    found = production.ledger.rollout("zoo")
    assert found is not None and found[3].status == "returned"
    assert "4 runs ended without an outcome" in found[3].reasons[0]


def test_a_tick_where_nothing_differs_starts_and_writes_nothing(production: Production) -> None:
    def seen() -> object:
        return production.engines(), {
            p: p.stat().st_mtime_ns for p in (production.world.home / "serving").rglob("*.json")
        }

    before = seen()
    said = wait_for("what is wrong", lambda: said if "endpoints" in (said := production.tick()) else None)
    assert "endpoints: the registry's alias champion is not moved yet" in said, "MLflow is down, and nothing else is"
    assert seen() == before


def test_a_lost_state_is_made_again_around_the_engine_that_runs(production: Production) -> None:
    """Every later release failed, because the champion was not deployed."""
    before = production.engines()
    (production.world.home / "serving" / "state.json").unlink()
    production.tick()
    production.assert_serves(SECOND)
    assert production.engines() == before, "users noticed nothing"


def test_a_lost_folder_and_dead_processes_come_back_from_the_store(production: Production) -> None:
    for process in marked(MARK, str(production.world.home / "serving")):
        process.kill()
    shutil.rmtree(production.world.home / "serving")
    production.tick()
    production.assert_serves(SECOND)


def test_a_rollback_needs_neither_mlflow_nor_the_git_mirror(production: Production) -> None:
    """It was reported as cut off when MLflow was down, although production had moved."""
    code, said = production.world.llmops("rollback", "--reason", "answers are cut short")
    assert code == 0, said
    production.assert_serves(FIRST)
    assert "alias champion is not moved yet" in said and "the probes use the default conditions" in said
    request = production.ledger.requests("zoo")[-1]
    assert (request.status, request.rollback) == ("done", True)
    assert [hold.release for hold in production.ledger.holds("zoo")] == [production.digest(SECOND)]


def test_repeating_it_changes_nothing_and_says_how_to_go_further_back(production: Production) -> None:
    """It went one release further back, although the first one had succeeded."""
    code, said = production.world.llmops("rollback", "--reason", "again")
    assert code == 1 and "rolled" in said and "nothing was changed" in said
    production.assert_serves(FIRST)


def test_a_person_can_stop_it_all_and_the_ticks_leave_it_stopped(production: Production) -> None:
    production.serving.down(forget=True)
    production.tick()
    assert production.engines() == [] and production.serving.stopped()
