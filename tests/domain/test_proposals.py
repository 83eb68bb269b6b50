"""What the bot does about a state that the watched branch does not have."""

import subprocess
from typing import Any

import pytest

from llmops_assets.domain.proposals import Leave, Make, Proposal, branch_of, next_step

REF = "llmops/zoo/x"


def row(**change: Any) -> Proposal:
    fields: dict[str, Any] = {
        "row": 1, "subject": "import x", "number": 1, "state": "s1", "status": "proposed", "base": "b",
        "revision": "r1", "ref": REF, "tries": 1, "due": 0.0, "detail": "", "created": 0.0,
    }  # fmt: skip
    return Proposal(**{**fields, **change})


def step(rows: list[Proposal], state: str, tip: str | None, changed: bool = False) -> Make | Leave:
    return next_step(rows, state, REF, tip, changed, 1000.0)


def test_a_first_state_is_proposed() -> None:
    assert step([], "s1", None) == Make(new=True, number=1, ref=REF)


def test_a_branch_that_somebody_else_made_is_not_touched() -> None:
    assert step([], "s1", "foreign") == Make(new=True, number=1, ref=f"{REF}-1")


def test_a_newer_state_replaces_the_bots_own_commit() -> None:
    assert step([row()], "s2", "r1") == Make(new=True, number=2, expected="r1", ref=REF)


@pytest.mark.parametrize(
    ("change", "tip", "why"),
    [
        ({}, "r1", "waits on llmops/zoo/x"),
        ({}, "r9", "others have committed there"),
        ({}, None, "not proposed again"),
        ({"status": "refused", "detail": "too large"}, None, "refused: too large"),
        ({"status": "unchanged"}, None, "in the branch already"),
        ({"status": "begun", "due": 1100.0}, None, "another process"),
    ],
)
def test_a_state_that_was_dealt_with_is_left_alone(change: dict[str, Any], tip: str | None, why: str) -> None:
    found = step([row(**change)], "s1", tip)
    assert isinstance(found, Leave) and why in found.reason


def test_a_proposal_is_made_again_if_the_branch_changed_its_file_and_it_is_still_the_bots() -> None:
    assert step([row()], "s1", "r1", changed=True) == Make(new=False, number=1, expected="r1", ref=REF)
    assert isinstance(step([row()], "s1", "r9", changed=True), Leave)
    assert isinstance(step([row()], "s1", None, changed=True), Leave), "closed is closed"


def test_an_attempt_that_was_killed_after_its_push_replaces_its_own_commit() -> None:
    killed = row(status="begun", due=900.0)
    assert step([killed], "s1", "r1") == Make(new=False, number=1, expected="r1", ref=REF)


@pytest.mark.parametrize(
    "subject", ["import data/train.jsonl", "import ../..~^: x.lock", "prompt a@b", "import " + "ü" * 900]
)
def test_a_branch_has_a_name_that_git_allows(subject: str) -> None:
    name = branch_of("zoo", subject)
    subprocess.run(["git", "check-ref-format", f"refs/heads/{name}"], check=True)
    assert name != branch_of("zoo", subject + "x") and len(name) < 120
