"""Runs of some stages only: recorded as such, and judged like every other run.

Each test continues from the one before.
"""

import json
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from llmops_assets.delivery.run_tags import MODEL_TAG, STAGES_TAG
from llmops_assets.domain.chain import EVIDENCE_CHECK
from llmops_assets.domain.requests import PARTIAL
from tests.support.projects import LIGHT, Project, Watched, World, rows, write_rows

RELEASING = ["staging_endpoint", "smoke_test_report", "release_approval", "production_endpoint", "endpoint_health"]


class Case(Watched):
    def llmops(self, *words: str) -> str:
        code, said = self.world.llmops(*words)
        assert code == 0, said
        return said

    def refused(self, *words: str) -> str:
        code, said = self.world.llmops(*words)
        assert code != 0
        return said

    @property
    def run(self) -> dg.DagsterRun:
        return self.world.instance.get_runs(limit=1)[0]

    def made_by(self, stage: str) -> str:
        return self.world.ledger.records_of("zoo", self.project.head)[stage].made_by.run_id


@pytest.fixture(scope="module")
def case(make_project: Callable[[], Project], make_world: Callable[..., World], computed: Path) -> Case:
    project = make_project()
    project.configure({**LIGHT, "ci": {"tests": False, "ruff": False}})
    project.ship("In production")
    found = Case(project, make_world(project, computed=computed, dagster_on_disk=True))
    assert found.world.settle().failures == "" and found.request.status == "released"
    return found


def test_a_release_is_deployed_again_through_the_same_gates_and_computes_nothing(case: Case) -> None:
    said = case.llmops("run", "--redeploy", "--reason", "the machine was replaced", "--wait")
    assert "redeployed: the machine was replaced; runs only staging_endpoint" in said
    request = case.request
    assert (request.asked_by, request.status, list(request.stages)) == (PARTIAL, "released", RELEASING)
    assert case.run.tags[STAGES_TAG] == ", ".join(RELEASING)
    checks = case.world.instance.all_logs(case.run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    judged = [e.dagster_event.event_specific_data for e in checks if e.dagster_event]
    assert {"staging_endpoint", "production_endpoint"} <= {
        c.asset_key.path[-1]
        for c in judged
        if c.check_name == EVIDENCE_CHECK and c.passed  # type: ignore[union-attr]
    }


def test_a_run_of_one_stage_says_that_it_ends_before_production(case: Case) -> None:
    case.project.write("prompts/ask.jinja", "Tell me: {{ input }}\n")
    case.project.ship("Another prompt")
    said = case.llmops("run", "--only", "evaluation_report", "--wait")
    assert "it ends before production, which does not change" in said
    assert case.request.detail == "only evaluation_report ran, and production is unchanged"
    status = case.llmops("status")
    assert "only: evaluation_report" in status and "production is unchanged" in status
    (partial,) = json.loads(case.llmops("trace", "zoo", case.project.head, "--json"))["partial_runs"]
    assert (partial["only"], partial["status"]) == (["evaluation_report"], "done")


def test_a_model_is_evaluated_on_the_rows_of_another_revision(case: Case) -> None:
    version = case.world.ledger.recent("zoo", "registered_model", 1)[0].version  # type: ignore[union-attr]
    write_rows(case.project.folder / "data/test.jsonl", rows(8, start=3000))
    case.project.dvc_add("data/test.jsonl")
    case.project.ship("Other rows")
    said = case.llmops("evaluate", "--model", str(version), "--wait")
    assert f"evaluates model {version} of " in said and "on the rows of" in said
    assert list(case.request.stages) == ["ci_report", "dataset_version", "fine_tuned_checkpoint", "evaluation_report"]
    assert case.request.model == str(version) == case.run.tags[MODEL_TAG]
    event = case.world.instance.get_latest_materialization_event(dg.AssetKey(["zoo", "evaluation_report"]))
    assert event is not None and event.asset_materialization is not None
    metadata = event.asset_materialization.metadata
    assert str(metadata["model"].value).startswith(f"{version}, made by ") and "model_rougeL" in metadata
    reports = case.world.ledger.recent("zoo", "evaluation_report", 2)
    own = case.world.ledger.records_of("zoo", case.project.head)["evaluation_report"]
    assert {r.made_by.run_id for r in reports} == {own.made_by.run_id}, "two reports on the same rows, of one run"
    assert "there is no model 'v99'" in case.refused("evaluate", "--model", "v99")
    case.project.configure({"training": {"learning_rate": 0.001}})
    case.project.ship("Trained otherwise")
    assert "would be trained first" in case.refused("evaluate", "--model", str(version))
    case.project.git("revert", "--no-edit", "HEAD")
    case.project.push()


def test_a_rebuild_of_everything_below_computes_again_what_is_equal(case: Case) -> None:
    assert case.world.settle().failures == ""
    before = {stage: case.made_by(stage) for stage in ("quantized_artifact", "fine_tuned_checkpoint")}
    served = case.made_by("served_evaluation_report")
    case.llmops("run", "--rebuild", "quantized_artifact", "--below", "--reason", "suspect", "--wait")
    assert case.request.reason == "rebuild of quantized_artifact and everything below: suspect"
    assert case.made_by("fine_tuned_checkpoint") == before["fine_tuned_checkpoint"]
    assert case.made_by("quantized_artifact") != before["quantized_artifact"]
    assert case.made_by("served_evaluation_report") != served, (
        "its input is equal, and it is computed again all the same"
    )


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("run", "--below"), "--below goes with --rebuild STAGE"),
        (("run", "--redeploy"), "--redeploy needs --reason"),
        (("run", "--redeploy", "--only", "ci_report", "--reason", "x"), "leave out --only and --rebuild"),
        (("run", "--rebuild", "staging_endpoint", "--reason", "x"), "keeps no result that could be rebuilt"),
        (("evaluate",), "--model is missing"),
    ],
)
def test_options_that_do_not_go_together_are_one_clear_error(case: Case, words: tuple[str, ...], expected: str) -> None:
    assert expected in case.refused(*words)
