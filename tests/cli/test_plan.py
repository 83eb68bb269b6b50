"""`llmops plan` of a new project and of a commit: what changed by file and key, and what is not known yet."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.projects import Project, Watched, World


@pytest.fixture(scope="module")
def case(make_project: Callable[[], Project], make_world: Callable[..., World], computed: Path) -> Watched:
    """A project whose first commit is computed and not released; the second one changes a file of every class."""
    project = make_project()
    project.push()
    world = make_world(project, computed=computed)
    world.source().git.fetch()
    project.git("tag", "first")
    project.write("prompts/ask.jinja", "Tell me: {{ input }}\n")
    project.write("tests/test_more.py", "def test_three():\n    assert 1 + 2 == 3\n")
    project.configure({"training": {"max_steps": 8}, "deployment": {"serving": {"parallel": 2}}})
    project.ship("Everything | at once")
    project.git("push", "--quiet", "origin", "first")
    return Watched(project, world)


def test_a_plan_names_each_change_by_file_and_key_with_both_values(case: Watched) -> None:
    code, said = case.world.llmops("plan", "zoo", "--against", "first", "--json")
    found = json.loads(said)
    assert code == 0 and found["subject"] == "Everything | at once"
    changes = {(c["file"], c["key"]): c for c in found["changes"]}
    steps = changes["llmops.yaml", "training.max_steps"]
    assert (steps["before"], steps["after"], steps["stages"]) == ("4", "8", ["fine_tuned_checkpoint"])
    assert changes["llmops.yaml", "deployment.serving.parallel"]["stages"] == ["served_evaluation_report"]
    prompt = changes["prompts/ask.jinja", "prompt"]
    assert (prompt["before"], prompt["after"]) == ("Question: {{ input }} ", "Tell me: {{ input }} ")
    assert prompt["stages"] == ["evaluation_report", "served_evaluation_report"]
    added = changes["tests/test_more.py", None]
    assert (added["before"], added["stages"]) == (None, ["ci_report"])
    reused = {r["stage"]: r for r in found["reused"]}
    assert (
        reused["dataset_version"]["commit"] == case.project.git("rev-parse", "first")
        and reused["dataset_version"]["run"]
    )
    actions = {s["stage"]: s["action"] for s in found["stages"]}
    assert actions["dataset_version"] == "reuse" and actions["fine_tuned_checkpoint"] == "run"
    training = next(s for s in found["estimate"]["stages"] if s["stage"] == "fine_tuned_checkpoint")
    assert training["runs"] == 1 and training["note"] == "scaled to 8 steps", training
    assert found["estimate"]["cost"] is None and found["estimate"]["unknown"], "no rollout has run here yet"
    assert {"stage": "evaluation_report", "condition": "gate: perplexity of checkpoint: at most 1e+09"} in found[
        "asked"
    ]


def test_a_plan_as_text_and_as_markdown_says_the_same(case: Watched) -> None:
    code, text = case.world.llmops("plan", "first", "--against", case.project.head)
    assert code == 0 and "llmops.yaml: training.max_steps: 8 → 4" in text, "back again; one word names the revision"
    code, said = case.world.llmops("plan", "zoo", "main", "--against", "first", "--markdown")
    assert code == 0
    assert "Everything \\| at once" in said and "| llmops.yaml: training.max\\_steps | 4 → 8 |" in said
    assert "| dataset\\_version | reuse | made by" in said and "### Asked" in said


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("plan", "zoo", "main", "--revision", "first"), "two revisions are named, main and first"),
        (("plan", "--markdown", "--json"), "give one of them"),
        (("plan", "zoo", "feedc0ffee"), "'feedc0ffee' is no commit"),
        (("plan", "bear"), "no such project: 'bear' (known: zoo)"),
    ],
)
def test_a_wrong_revision_or_format_is_one_clear_error(case: Watched, words: tuple[str, ...], expected: str) -> None:
    code, said = case.world.llmops(*words)
    assert (code, expected in said) == (2, True), said


def test_a_first_plan_says_that_there_is_no_history_instead_of_guessing(
    make_project: Callable[[], Project], make_world: Callable[..., World]
) -> None:
    project = make_project()
    project.push()
    world = make_world(project)
    code, said = world.llmops("plan")
    assert code == 0, said
    assert "estimate: no history yet" in said and "later" not in said
    assert "each runs: no history yet, so there is nothing to reuse" in said
    code, table = world.llmops("plan", "--markdown")
    new = [line for line in table.splitlines() if "no history yet: nothing to reuse" in line]
    assert len(new) == 10 and all("| run |" in line for line in new)
    assert "run or reuse" not in table
