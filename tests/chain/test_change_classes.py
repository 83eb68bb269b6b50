"""Each row of the table "What a change does" in docs/concepts.md, committed for real: what ran is what the table says,
and what `llmops plan` had said before.

The rows are in one project, in the table's order: each commit continues from the one before.
"""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from llmops_assets.delivery.planning import base_of, plan_revision
from llmops_assets.domain.chain import WORK
from llmops_assets.domain.plan import Plan
from tests.support.projects import LIGHT, Outcome, Project, Watched, World, rows, write_rows

DOCS = Path(__file__).parents[2] / "docs" / "concepts.md"
COMPUTING = {stage.name for stage in WORK}


def in_docs() -> dict[str, tuple[str, str]]:
    """Change → (what it computes, whether there is a new release), as the table says."""
    section = DOCS.read_text().split("### What a change does")[1]
    found = {}
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("|") and len(cells) == 4 and cells[0] != "class" and not cells[0].startswith("---"):
            found[cells[1]] = (cells[2], cells[3].removesuffix(" |"))
    return found


def documentation(project: Project) -> None:
    project.write("README.md", "# A project\n\nNow with words.\n")


def a_test(project: Project) -> None:
    project.write("tests/test_three.py", "def test_three():\n    assert 1 + 2 == 3\n")


def training_rows(project: Project) -> None:
    write_rows(project.folder / "data/train.jsonl", rows(28))
    project.dvc_add("data/train.jsonl")


def test_rows(project: Project) -> None:
    write_rows(project.folder / "data/test.jsonl", rows(8, start=2000))
    project.dvc_add("data/test.jsonl")


test_rows.__test__ = False  # type: ignore[attr-defined]


def hyperparameters(project: Project) -> None:
    project.configure({"training": {"learning_rate": 0.001}})


def serving_prompt(project: Project) -> None:
    project.write("prompts/ask.jinja", "Tell me: {{ input }}\n")


def training_prompt(project: Project) -> None:
    project.write("prompts/train.jinja", "Tell me: {{ input }}\n")


def dockerfile(project: Project) -> None:
    project.write("Dockerfile", "FROM scratch\nCOPY prompts /prompts\n")


def engine_options(project: Project) -> None:
    project.configure({"deployment": {"serving": {"parallel": 2}}})


def scheme(project: Project) -> None:
    project.configure({"quantization": {"scheme": "f16"}})


def rollout(project: Project) -> None:
    project.configure({"deployment": {"rollout": {"min_samples": 5}}})


def measurement(project: Project) -> None:
    project.configure({"evaluation": {"max_rows": 3}})


def threshold(project: Project) -> None:
    project.configure({"gates": [{"metric": "rougeL", "at_least": 0.0}, {"metric": "rougeL", "at_most": 100.0}]})


def revert(project: Project) -> None:
    """Reverts the quantization scheme and what followed it: the files are those of the commit before it."""
    project.git("checkout", "--quiet", "before-the-scheme", "--", ".")


MADE_BY: dict[str, Callable[[Project], None]] = {
    "documentation that `ci.ignore` names": documentation,
    "a test or helper of the project": a_test,
    "training rows": training_rows,
    "test rows": test_rows,
    "a key of `training`": hyperparameters,
    "the serving prompt": serving_prompt,
    "the training prompt": training_prompt,
    "the Dockerfile, or a file that it may copy": dockerfile,
    "options of the engine, or its sampling": engine_options,
    "the quantization scheme": scheme,
    "rollout, smoke tests, approval, or a stricter budget": rollout,
    "metrics, or how many rows count": measurement,
    "a gate's threshold": threshold,
    "a revert": revert,
}


@pytest.fixture(scope="module")
def case(make_project: Callable[[], Project], make_world: Callable[..., World], computed: Path) -> Watched:
    project = make_project()
    project.configure({**LIGHT, "ci": {"tests": False, "ruff": False}})
    project.ship("In production")
    watched = Watched(project, make_world(project, computed=computed))
    assert watched.world.settle().failures == "" and watched.request.status == "released"
    return watched


def test_the_table_has_exactly_the_changes_that_are_tested() -> None:
    assert list(in_docs()) == list(MADE_BY)


@pytest.mark.parametrize("change", MADE_BY)
def test_a_change_computes_what_the_table_says_and_what_the_plan_said(case: Watched, change: str) -> None:
    computes, releases = in_docs()[change]
    before = case.production
    if change == "the quantization scheme":
        case.project.git("tag", "before-the-scheme")
        case.world.ledger.serving("zoo", "production")
    MADE_BY[change](case.project)
    case.project.ship(change)
    plan = planned(case)
    outcome = case.world.settle()
    assert outcome.failures == ""
    assert outcome.computed & COMPUTING == set(re.findall(r"`(\w+)`", computes))
    assert (case.production != before) == (releases != "no"), "whether production serves another release"
    if "no run" in computes:
        assert outcome.runs == [] and case.request.status == "skipped"
    kept_its_word(plan, outcome)


def planned(case: Watched) -> Plan:
    """What `llmops plan` prints now."""
    world, sha = case.world, case.project.head
    source = world.source()
    source.git.fetch()
    return plan_revision(source, world.ledger, world.clients.store, sha, base_of(world.ledger, "zoo", sha))


def kept_its_word(plan: Plan, outcome: Outcome) -> None:
    """The run selected exactly the stages that the plan named, and computed or reused them as it said."""
    assert plan.nothing_to_do == (outcome.runs == [])
    assert outcome.materialized == set(plan.to_materialize)
    for stage in plan.stages:
        if stage.action == "run":
            assert stage.stage in outcome.computed, f"the plan said that {stage.stage} runs: {stage.reasons}"
        if stage.action == "reuse":
            assert stage.stage not in outcome.computed, f"the plan said that {stage.stage} is reused: {stage.reasons}"
