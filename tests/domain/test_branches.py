"""Commits outside of the watched branch: which run, how far, in which order; none deploys."""

from typing import Any, Literal

import pytest

from llmops_assets.domain.branches import (
    OLD_S,
    BranchRule,
    Candidate,
    Extent,
    PullRequests,
    StartCandidate,
    Tip,
    candidates,
    next_candidate,
    stages_within,
)
from llmops_assets.domain.chain import CHAIN
from llmops_assets.domain.requests import (
    BRANCH_CI,
    BRANCH_EVALUATION,
    BRANCH_PLAN,
    Request,
    Skip,
    Status,
    newest_planned,
    settled,
)

A, B, C = "a" * 40, "b" * 40, "c" * 40
NOW = 1_000_000_000.0


def tip(revision: str, ago: float = 60.0) -> Tip:
    return Tip(revision=revision, committed=NOW - ago)


def candidate(revision: str = A, run: Extent = "evaluation", ago: float = 60.0, held: str = "") -> Candidate:
    return Candidate(name=f"branch {revision[0]}", tip=tip(revision, ago), run=run, held=held)


def request(revision: str = A, status: Status = "done", **more: Any) -> Request:
    return Request(project="zoo", revision=revision, generation=1, status=status, reason="because", **more)


def started(*found: Candidate, requests: tuple[Request, ...] = (), watched: str | None = None) -> str:
    """The revision that is started, or the reason why none is."""
    decision = next_candidate("zoo", requests, found, NOW, watched)
    return decision.candidate.tip.revision if isinstance(decision, StartCandidate) else decision.reason


def test_the_first_rule_that_matches_a_branch_holds_and_without_one_it_is_left_alone() -> None:
    rules = (
        BranchRule(match="feature/old/*", run="nothing"),
        BranchRule(match="feature/*", run="evaluation"),
        BranchRule(match="*-fix", run="ci"),
    )
    branches = {"feature/new": tip(A), "feature/old/x": tip(B), "typo-fix": tip(C), "other": tip("d" * 40)}
    found = candidates(rules, None, branches, {})
    assert [(c.tip.revision, c.run) for c in found] == [(A, "evaluation"), (C, "ci")]


@pytest.mark.parametrize(
    ("forks", "expected"), [("off", []), ("after_approval", ["it may be from a fork"]), ("on", [""])]
)
def test_a_pull_request_counts_as_from_a_fork(
    forks: Literal["off", "after_approval", "on"], expected: list[str]
) -> None:
    found = candidates((), PullRequests(forks=forks), {"main-like": tip(B)}, {"7": tip(A)})
    assert [c.held for c in found] == expected


def test_a_pull_request_whose_commit_is_a_branch_here_is_no_fork() -> None:
    found = candidates((), PullRequests(forks="off", run="evaluation"), {"topic": tip(A)}, {"7": tip(A)})
    assert [(c.name, c.run, c.held) for c in found] == [("pull request 7", "evaluation", "")]


def test_the_newest_commit_runs_first_and_each_once() -> None:
    old, new = candidate(A, ago=100), candidate(B, ago=50)
    assert started(new, old) == B
    assert started(new, old, requests=(request(B, "rejected", asked_by=BRANCH_EVALUATION),)) == A
    assert "has not run" in started(new, old, requests=(request(A), request(B)))


def test_a_commit_that_was_checked_only_may_still_be_evaluated() -> None:
    checked = request(A, asked_by=BRANCH_CI)
    assert started(candidate(A, "evaluation"), requests=(checked,)) == A
    assert "has not run" in started(candidate(A, "ci"), requests=(checked,))


def test_a_commit_that_was_planned_only_may_still_run_and_planning_waits_for_nothing() -> None:
    planned = request(A, "skipped", asked_by=BRANCH_PLAN)
    for further in ("ci", "evaluation"):
        assert started(candidate(A, further), requests=(planned,)) == A
    for done in (planned, request(A, asked_by=BRANCH_CI), request(A, asked_by=BRANCH_EVALUATION)):
        assert "has not run" in started(candidate(A, "plan"), requests=(done,))
    running, busy = request(B, "running"), "the watched branch has work"
    assert started(candidate(A, "plan"), requests=(running,), watched=busy) == A
    assert "waits for a person" in started(candidate(A, "plan", held="it may be from a fork"))
    assert stages_within(BRANCH_PLAN, [stage.name for stage in CHAIN]) == []


def test_an_abandoned_branch_is_left_alone() -> None:
    assert "has not run" in started(candidate(A, ago=OLD_S + 1))


def test_an_active_run_and_the_watched_branch_come_first() -> None:
    assert "waits for bbbbbbbbbbbb, which is running" in started(candidate(A), requests=(request(B, "running"),))
    assert "the watched branch" in started(candidate(A), watched="the watched branch has work")


def test_what_waits_for_a_person_names_the_command_and_holds_up_no_other() -> None:
    held = candidate(A, held="it may be from a fork")
    assert "`llmops run zoo --revision aaaaaaaaaaaa`" in started(held)
    assert started(held, candidate(B)) == B


def test_none_of_its_stages_deploys() -> None:
    every = [stage.name for stage in CHAIN]
    assert stages_within(BRANCH_CI, every) == ["ci_report"]
    evaluated = stages_within(BRANCH_EVALUATION, every)
    assert evaluated[0] == "ci_report" and evaluated[-1] == "served_evaluation_report"
    assert not {"staging_endpoint", "production_endpoint", "release_approval"} & set(evaluated)
    assert stages_within("sensor", every) == every


def test_it_is_no_base_for_the_watched_branch_and_replaces_none_of_its_releases() -> None:
    main, other = request(A, "released"), request(B, "done", asked_by=BRANCH_EVALUATION)
    assert settled([main, other]) == main and newest_planned([main, other]) == main


def test_a_skip_is_a_reason() -> None:
    assert isinstance(next_candidate("zoo", (), (), NOW), Skip)
