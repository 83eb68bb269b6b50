"""`llmops plan` states what the gates can tell, from the rows of reports that exist."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.projects import Project, World


def test_a_plan_states_the_power_of_each_gate_with_an_interval(
    make_project: Callable[[], Project], make_world: Callable[..., World], computed: Path
) -> None:
    """Nobody knew before an evaluation whether its rows could decide: undecided came after hours of training."""
    project = make_project()
    world = make_world(project, computed=computed)
    comparison = {"metric": "perplexity", "no_worse_than": "champion", "margin": "1%"}
    slices = {"metric": "rougeL", "of": "served", "per": "language", "at_least": 0.1, "confidence": "90%"}
    project.ship("Gates with intervals", {"gates": [{"metric": "perplexity", "at_most": 1e9}, comparison, slices]})
    code, said = world.llmops("plan", "--json")
    assert code == 0, said
    plan = json.loads(said)
    (power,) = plan["gates"]
    assert power["condition"] == "perplexity against champion, margin 1%" and power["rows"] == 6
    assert power["passes_at"] - power["fails_at"] == pytest.approx(2 * power["visible"]) and not power["paired"]
    assert power["probably_undecided"] and power["deciding_rows"] > 6 and "rows would decide" in power["text"]
    (unknown,) = plan["gates_unknown"]
    assert unknown.startswith("rougeL of served per language: at least 0.1") and "power not known yet" in unknown
    code, said = world.llmops("plan")
    assert code == 0 and "gate: probably undecided: perplexity against champion, margin 1%, 6 rows" in said
