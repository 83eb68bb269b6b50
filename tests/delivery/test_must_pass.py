"""A reviewer turns a regression into a row that every later release must answer."""

import json
from collections.abc import Callable
from pathlib import Path

from tests.support.projects import LIGHT, Outcome, Project, World

FILE = "data/must_pass.jsonl"


def test_a_test_row_becomes_one_that_fails_the_verdict_by_itself(
    make_project: Callable[[], Project], make_world: Callable[..., World], computed: Path
) -> None:
    """Averages hid it: a release could lose an answer that a person had asked for by name."""
    project = make_project()
    project.ship("Light", LIGHT)
    world = make_world(project, computed=computed)
    world.source().git.fetch()
    assert world.materialize("zoo", "ci_report", "dataset_version", "fine_tuned_checkpoint").success
    own = ("--revision", project.head, "--path", str(project.folder))
    code, said = world.llmops("must-pass", "3", *own)
    assert code == 0 and f"must_pass: {{file: {FILE}, answer: contains}}" in said and "git push" in said, said
    (line,) = (project.folder / FILE).read_text().splitlines()
    assert json.loads(line) == json.loads((project.folder / "data/test.jsonl").read_text().splitlines()[2])
    assert (project.folder / f"{FILE}.dvc").is_file()
    assert "has this row already" in world.llmops("must-pass", "3", *own)[1]
    code, said = world.llmops("must-pass", "99", *own)
    assert code == 1 and "there is no row 99" in said and "have 8 rows" in said
    world.ledger.serve("zoo", "production", "d" * 64, project.head)
    project.dvc_push()
    project.ship("A row that must pass", {"evaluation": {"must_pass": {"file": FILE, "answer": "exact"}}})
    world.source().git.fetch()
    kept = project.head
    result = world.materialize("zoo", "dataset_version", "evaluation_report")
    assert result.success, Outcome.of(result).failures
    (check,) = [c for c in result.get_asset_check_evaluations() if c.asset_key.path[-1] == "evaluation_report"]
    reasons = str(check.metadata["reasons"].value).replace("\\", "")
    assert not check.passed and f"must-pass row 1 of {FILE}: the answer is not the expected one" in reasons, reasons
    assert "answered " in reasons and "the champion answered " in reasons
    world.ledger.serve("zoo", "production", "e" * 64, kept)
    project.ship("Without it", {"evaluation": {"must_pass": None}})
    code, said = world.llmops("plan")
    assert code == 0 and f"loosened since the champion: must-pass rows dropped: all of {FILE}" in said, said
