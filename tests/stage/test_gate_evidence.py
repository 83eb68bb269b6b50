"""A gate cannot be bypassed: a stage with effects judges the evidence itself, however it was launched.

Guards against a gap of blocking checks: they block only inside a run that selects them (dagster#26854).
"""

from collections.abc import Callable

import pytest

from llmops_assets.delivery.run_tags import OUTCOME_TAG
from tests.support.projects import Outcome, Project, World


@pytest.fixture(scope="module")
def rejected(make_project: Callable[[], Project], make_world: Callable[..., World]) -> World:
    """A world whose only revision was trained, evaluated and rejected by its gates."""
    project = make_project()
    project.ship(
        "Gates that nothing passes",
        {
            "training": {"max_steps": 1},
            "gates": [{"metric": "perplexity", "at_most": 1.0}, {"metric": "rougeL", "at_least": 0.99}],
        },
    )
    world = make_world(project)
    world.settle()
    return world


def test_a_rejection_is_an_outcome_with_all_its_reasons_and_is_not_retried(rejected: World) -> None:
    requests = rejected.ledger.requests("zoo")
    assert [r.status for r in requests] == ["rejected"]
    assert "perplexity" in requests[0].detail and "rougeL" in requests[0].detail
    again = rejected.settle()
    assert again.runs == []
    assert "rejected" in again.skips["zoo:git"] and "perplexity" in again.skips["zoo:git"]


def test_the_report_stays_as_evidence_and_its_check_shows_the_reasons(rejected: World) -> None:
    records = rejected.ledger.records_of("zoo", rejected.ledger.requests("zoo")[0].revision)
    assert "evaluation_report" in records and "registered_model" not in records
    result = rejected.materialize("zoo", "evaluation_report")
    assert result.success, "the report itself is green: evidence is kept"
    [check] = result.get_asset_check_evaluations()
    assert not check.passed
    assert "limit 1" in str(check.metadata["reasons"].value)


def test_an_acting_stage_that_is_materialized_alone_refuses_with_the_reasons(rejected: World) -> None:
    result = rejected.materialize("zoo", "registered_model")
    said = Outcome.of(result).refusals["registered_model"]
    assert "perplexity" in said and "limit 1" in said and "rougeL" in said
    assert result.success and not result.get_asset_materialization_events(), "a refusal is no crash"
    assert rejected.instance.get_runs()[0].tags[OUTCOME_TAG] == "rejected"


@pytest.mark.parametrize("stage", ["staging_endpoint", "production_endpoint"])
def test_an_endpoint_that_is_materialized_alone_after_a_rejection_serves_nothing(rejected: World, stage: str) -> None:
    result = rejected.materialize("zoo", stage)
    said = Outcome.of(result).failures
    assert ("must exist first" in said and "Remedy" in said) or "refuses" in said
    assert not result.get_asset_materialization_events()
    assert rejected.ledger.serving("zoo", "production") is None
    assert rejected.clients.serving.endpoints("zoo") == []


@pytest.mark.parametrize("stage", ["registered_model", "staging_endpoint", "production_endpoint"])
def test_missing_evidence_fails_too(
    make_project: Callable[[], Project], make_world: Callable[..., World], stage: str
) -> None:
    project = make_project()
    project.push()
    world = make_world(project)
    result = world.materialize("zoo", stage)
    assert not result.success
    said = result.failure_data_for_node(f"zoo__{stage}").user_failure_data.description
    assert "Remedy" in said and "llmops run" in said
    assert world.ledger.serving("zoo", "production") is None
