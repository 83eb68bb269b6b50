"""Approvals, rejections, rollbacks and holds in order: each test continues from the one before.

Guards against a release that is deployed on the approval of another one, and against the automatic return of a bad
release after its rollback.
"""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from llmops_assets.config.settings_file import dump_settings
from llmops_assets.delivery.approvals import current_ask
from llmops_assets.domain.approval import Decision
from resources.serving.client import ask
from tests.support.commands import llmops
from tests.support.projects import LIGHT, Outcome, Project, Watched, World
from tests.support.waiting import wait_for

ADA, EVE = "ada@example.com", "eve@example.com"
AFTER = {"release_approval", "production_endpoint", "endpoint_health"}


class Case(Watched):
    """A project whose releases need approval, the world that watches it, and a terminal for `llmops`."""

    def __init__(self, project: Project, world: World, reopen: Callable[[], World]):
        super().__init__(project, world)
        self._reopen = reopen
        (world.home / "settings.yaml").write_text(dump_settings(world.settings))
        self.releases: list[str] = []

    @property
    def jobs(self) -> int:
        """The number of job folders that programs have left."""
        return len(list((self.world.home / "jobs").glob("*")))

    def reopen(self) -> None:
        """Discards all state that is not on disk, as a reboot does."""
        self.world = self._reopen()

    def llmops(self, *words: str, who: str = EVE) -> tuple[int, str]:
        env = {k: v for k, v in os.environ.items() if k != "DAGSTER_HOME"}
        env |= {"LLMOPS_SETTINGS": str(self.world.home / "settings.yaml"), "LLMOPS_USER": who, "COLUMNS": "250"}
        done = llmops(*words, env=env)
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stdout + done.stderr

    def ship(self, message: str, change: dict[str, Any] | None = None) -> Outcome:
        self.project.ship(message, change)
        return self.world.settle()

    def release(self, number: int) -> Outcome:
        """Ships a new release that differs only in an engine limit: no training, no quantization."""
        return self.ship(f"Release {number}", {"deployment": {"serving": {"max_tokens": 100 + number}}})

    def approve(self) -> Outcome:
        code, said = self.llmops("approve", "--reason", "I looked at it")
        assert code == 0, said
        return self.world.settle()

    def answered(self) -> str:
        answer = ask(self.world.clients.serving.base_url("zoo", "production"), "zoo", "cat", max_tokens=4)
        assert answer.ok and answer.release
        return answer.release

    def decide(self, *also: str, **config: str) -> dg.ExecuteInProcessResult:
        """Materializes release_approval, and the stages in `also`, as Dagster's launchpad does with this config."""
        run_config = {"ops": {"zoo__release_approval": {"config": config}}}
        return self.world.materialize("zoo", "release_approval", *also, config=run_config)

    def refused(self, **config: str) -> str:
        """The launchpad's error for a decision that is refused."""
        result = self.decide(**config)
        assert not result.success
        said = result.failure_data_for_node("zoo__release_approval").user_failure_data
        assert said is not None and said.description is not None
        return said.description

    def job(self, name: str, **config: Any) -> dg.ExecuteInProcessResult:
        """Runs a job as a click in Dagster's launchpad does."""
        job = self.world.defs.resolve_job_def(name)
        op = job.graph.nodes[0].name
        run_config = {"ops": {op: {"config": config}}}
        return job.execute_in_process(instance=self.world.instance, run_config=run_config, raise_on_error=False)


@pytest.fixture(scope="module")
def case(make_project: Callable[[], Project], make_world: Callable[..., World], computed: Path) -> Case:
    project = make_project()
    world = make_world(project, computed=computed, dagster_on_disk=True)

    def reopen() -> World:
        return World(world.home, project, serving=world.settings.serving, dagster_on_disk=True)

    return Case(project, world, reopen)


def test_a_release_that_needs_a_person_waits_without_a_fault_and_production_is_skipped(case: Case) -> None:
    case.project.configure({**LIGHT, "ci": {"tests": False, "ruff": False}})
    outcome = case.ship("Ask a person", {"deployment": {"approval": {"required": True}}})
    assert [r.success for r in outcome.runs] == [True]
    assert "smoke_test_report" in outcome.materialized and not outcome.materialized & AFTER
    (check,) = [e for r in outcome.runs for e in r.get_asset_check_evaluations() if e.check_name == "decided"]
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert (check.description or "").startswith("waiting for approval: llmops approve zoo")
    assert (case.request.status, case.request.active) == ("waiting", False)
    assert case.world.ledger.serving("zoo", "production") is None
    assert "waiting for approval: llmops approve zoo" in outcome.skips["zoo:git"]
    assert "waiting for approval" in outcome.skips["zoo:recovery"]


def test_it_waits_through_a_restart_of_everything(case: Case) -> None:
    case.reopen()
    outcome = case.world.settle()
    assert outcome.runs == [] and case.request.status == "waiting"
    code, said = case.llmops("status")
    assert code == 0 and "waiting for approval" in said


@pytest.mark.parametrize(
    ("words", "who", "code", "expected"),
    [
        (("approve", "--reason", "mine is fine"), ADA, 1, "ada@example.com is an author of this change"),
        (("approve", "--reason", "fine", "--release", "feedc0ffee"), EVE, 1, "does not wait for approval"),
        (("approve", "--reason", " "), EVE, 1, "needs a reason"),
        (("approve",), EVE, 2, "--reason"),
        (("retry",), EVE, 1, "waiting for approval"),
        (("rollback", "--reason", "why not"), EVE, 1, "production serves nothing yet"),
        (("unhold", "--reason", "why not"), EVE, 1, "held: none"),
    ],
)
def test_an_invalid_decision_is_refused_and_changes_nothing(
    case: Case, words: tuple[str, ...], who: str, code: int, expected: str
) -> None:
    found, said = case.llmops(*words, who=who)
    assert (found, expected in said) == (code, True), said
    assert case.request.status == "waiting"
    assert case.world.settle().runs == []


def test_a_newer_commit_runs_and_replaces_the_one_that_waits(case: Case) -> None:
    older = case.request
    outcome = case.release(1)
    assert outcome.failures == "" and case.request.revision != older.revision
    assert [r.status for r in case.world.ledger.requests("zoo")] == ["superseded", "waiting"]


def test_once_approved_a_sensor_resumes_it_and_nothing_is_computed_again(case: Case) -> None:
    jobs = case.jobs
    outcome = case.approve()
    assert outcome.failures == "" and outcome.materialized == AFTER
    assert (case.request.status, case.request.generation) == ("released", 2)
    assert "approved by eve@example.com: I looked at it" in case.request.reason
    assert case.answered() == case.production
    assert case.jobs == jobs
    code, said = case.llmops("trace", "--json")
    assert code == 0 and json.loads(said)["approval"] == {
        "decision": "approved", "by": EVE, "reason": "I looked at it", "replaces": None,
    }  # fmt: skip
    case.releases.append(case.production)


def test_an_approval_that_expired_is_invalid_and_the_check_says_so(case: Case) -> None:
    case.release(2)
    ledger, source = case.world.ledger, case.world.source()
    found = current_ask(source, ledger, case.request.revision)
    assert found is not None
    given = {"ask": found, "revision": case.request.revision, "choice": "approved", "by": EVE, "reason": "long ago"}
    ledger.decide(Decision(**given, at=time.time() - 8 * 86400))
    assert "waiting" in case.skip("recovery") and case.production == case.releases[-1]
    result = case.world.materialize("zoo", "release_approval")
    assert result.success and not result.get_asset_materialization_events()
    (check,) = [c for c in result.get_asset_check_evaluations() if c.check_name == "decided"]
    assert "approved by eve@example.com, not valid: it expired 1 d ago" in (check.description or "")


def test_production_alone_does_not_take_an_approval_for_granted(case: Case) -> None:
    result = case.world.materialize("zoo", "production_endpoint")
    assert "no release_approval for the release" in Outcome.of(result).refusals["production_endpoint"]
    assert not result.get_asset_materialization_events()
    assert case.production == case.releases[-1]


def test_an_approval_in_dagsters_launchpad_counts_as_one_at_a_terminal(case: Case) -> None:
    release = case.world.ledger.serving("zoo", "staging").release  # type: ignore[union-attr]
    assert "is an author" in case.refused(decision="approve", release=release[:12], reason="fine", by=ADA)
    assert "needs a reason" in case.refused(decision="approve", release=release[:12], by=EVE)
    assert f"{release[:12]} waits" in case.refused(decision="approve", reason="fine", by=EVE)
    assert f"{release[:12]} does" in case.refused(decision="approve", release="abcdef", reason="fine", by=EVE)
    other = {"revision": case.world.ledger.requests("zoo")[0].revision, "decision": "approve", "reason": "fine"}
    assert "leave `revision` empty" in case.refused(**other, release=release[:12], by=EVE)
    approved = case.decide(decision="approve", release=release[:12], reason="fine", by=EVE)
    assert approved.success and approved.asset_materializations_for_node("zoo__release_approval")
    outcome = case.world.settle()
    assert outcome.materialized == AFTER and case.production == release
    case.releases.append(release)


def test_a_rejection_closes_the_request_with_its_reason(case: Case) -> None:
    case.release(3)
    code, said = case.llmops("reject", "--reason", "too terse")
    assert code == 0, said
    assert (case.request.status, case.request.detail) == ("rejected", "rejected by eve@example.com: too terse")
    outcome = case.world.settle()
    assert outcome.runs == [] and "too terse" in outcome.skips["zoo:git"]
    assert case.production == case.releases[-1]


def test_a_rejection_in_dagsters_launchpad_ends_it_likewise_and_production_is_left_alone(case: Case) -> None:
    case.release(9)
    waits = case.world.ledger.serving("zoo", "staging").release  # type: ignore[union-attr]
    click = case.decide("production_endpoint", decision="reject", release=waits[:12], reason="too bold", by=EVE)
    assert click.success and not click.get_asset_materialization_events()
    (check,) = [c for c in click.get_asset_check_evaluations() if c.check_name == "decided"]
    assert not check.passed
    assert check.description == "rejected by eve@example.com: too bold"
    assert (case.request.status, case.request.detail) == ("rejected", check.description)
    assert case.world.settle().runs == [] and case.production == case.releases[-1]


def test_a_rollback_computes_nothing_and_holds_what_it_left(case: Case) -> None:
    bad, good = case.releases[-1], case.releases[-2]
    runs, jobs = len(case.world.instance.get_runs()), case.jobs
    code, said = case.llmops("rollback", "--reason", "answers are cut short", who=ADA)
    assert code == 0, said
    assert case.production == good == case.answered()
    assert (len(case.world.instance.get_runs()), case.jobs) == (runs + 1, jobs), "its own run, and no program"
    assert [h.release for h in case.world.ledger.holds("zoo")] == [bad]
    assert "is held" in said and "answers are cut short" in case.llmops("status")[1]
    shown = case.world.instance.get_latest_materialization_event(dg.AssetKey(["zoo", "production_endpoint"]))
    assert shown is not None and shown.asset_materialization is not None
    assert shown.asset_materialization.metadata["outcome"].value == "rolled_back"
    found = json.loads(case.llmops("trace", "--json")[1])
    assert found["release"] == good


def test_no_sensor_brings_a_held_release_back(case: Case) -> None:
    """A commit that only fixed tests, on top of the bad commit, would have released it again automatically."""
    assert "is held" in case.world.settle().skips["zoo:git"]
    case.project.write("tests/test_nothing_is_broken.py", "def test_three():\n    assert 1 + 2 == 3\n")
    outcome = case.release(2)
    assert outcome.materialized == {"ci_report"} and outcome.failures == ""
    assert "is held" in outcome.skips["zoo:git"]
    assert case.production == case.releases[-2]


def test_a_run_that_reaches_production_with_a_held_release_refuses_clearly(case: Case) -> None:
    """A run started by a click does not check the plan. All verdicts pass; only the hold blocks the release."""
    case.world.materialize("zoo", "staging_endpoint", "smoke_test_report")
    code, said = case.llmops("approve", "--reason", "let us see")
    assert code == 0 and "no run waits for it" in said
    result = case.world.materialize("zoo", "release_approval", "production_endpoint")
    said = Outcome.of(result).refusals["production_endpoint"]
    assert "is held: ada@example.com rolled it back (answers are cut short)" in said and "llmops unhold" in said
    assert case.production == case.releases[-2]


def test_an_approval_against_a_champion_that_is_gone_is_invalid(case: Case) -> None:
    case.release(3)
    waits = case.request
    ask = current_ask(case.world.source(), case.world.ledger, waits.revision)
    assert ask is not None and ask.replaces == case.releases[-2]
    stale = {"ask": ask.model_copy(update={"replaces": case.releases[-1]}), "revision": waits.revision}
    case.world.ledger.decide(Decision(**stale, choice="approved", by=EVE, reason="before the rollback", at=time.time()))
    assert case.world.settle().runs == [] and case.request.status == "waiting"
    result = case.world.materialize("zoo", "release_approval")
    (check,) = [c for c in result.get_asset_check_evaluations() if c.check_name == "decided"]
    assert "it was given to replace" in (check.description or "")


def test_a_release_that_comes_ends_the_hold_and_a_lifted_one_may_be_deployed_again(case: Case) -> None:
    held = case.releases[-1]
    outcome = case.approve()
    assert outcome.materialized == AFTER and case.world.ledger.holds("zoo") == []
    case.releases.append(case.production)
    code, said = case.llmops("rollback", "--to", held[:12], "--reason", "the older one was better after all")
    assert code == 0, said
    assert case.production == held and "lifts it" in said
    code, said = case.llmops("unhold", "--reason", "the cause was elsewhere")
    assert code == 0 and case.world.ledger.holds("zoo") == []
    assert case.llmops("retry", "--wait")[0] == 1, "it waits for a person again"
    outcome = case.approve()
    assert outcome.materialized == AFTER and case.production == case.releases[-1] == case.answered()


def test_a_rollback_blocked_by_another_run_says_so(case: Case) -> None:
    """The ledger's lock decides: two processes that move traffic at once would leave it in an undefined state."""
    busy = case.world.ledger.open_request("zoo", case.project.head, 99, "running")
    code, said = case.llmops("rollback", "--reason", "now")
    assert code == 1 and "is active" in said and "llmops cancel" in said
    assert case.world.ledger.holds("zoo") == []
    case.world.ledger.close(busy, "done", "over")


def test_every_decision_stands_in_a_trail_that_can_be_verified(case: Case) -> None:
    code, said = case.llmops("audit", "--json", "--last", "0")
    found = json.loads(said)
    assert code == 0 and found["verified"] and len(found["events"]) == found["events_total"]
    kinds = [e["event"] for e in found["events"]]
    assert {"approved", "rejected", "rolled back", "lifted", "closed"} <= set(kinds)
    told = next(e for e in found["events"] if e["event"] == "rejected")
    assert (told["by"], told["reason"], told["environment"]) == (EVE, "too terse", "production")
    assert len(told["reports"]) == 2 and told["replaces"] == case.releases[1]


def test_a_newer_commit_that_says_so_cancels_the_active_run(case: Case) -> None:
    """The training ends with its run; the newest commit starts at once and includes all changes."""
    slow = {"training": {"max_steps": 50000}}
    case.project.ship("Trains for minutes", slow)
    code, said = case.llmops("run")
    assert code == 0, said
    older, compute = case.request, case.world.clients.compute
    jobs = case.world.home / "jobs"
    running = wait_for("a training", lambda: [p.parent for p in jobs.glob("train-*/pid")])
    case.project.ship("Quick again", {"training": {"max_steps": 4}, "deployment": {"serving": {"max_tokens": 102}}})
    assert "waits for" in (case.world.tick("zoo_git")[0] or ""), "to wait is the default"
    case.project.ship("Now", {"on_newer": "cancel"})
    outcome = case.world.settle()
    assert outcome.failures == "" and case.request.status == "waiting", "it is as far as it gets without a person"
    was = case.world.ledger.now(older)
    assert was.status == "superseded" and case.project.head[:12] in was.detail
    assert not any(compute.cancel(folder.name) for folder in running), "the training was ended"
    # The cancelled commit was never delivered: the newest commit is compared with the base of the cancelled one.
    assert case.request.base == older.base
    assert "max_tokens" in case.request.reason and "50000" not in case.request.reason
