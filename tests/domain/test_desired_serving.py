"""What an environment serves follows from the ledger alone: a rollout has a share only while its request is active.

A run that was terminated at 50 %, or whose fourth try died there, left half of production on an unjudged release.
"""

from typing import Any

import pytest

from llmops_assets.domain.desired_serving import desired_serving, runs, why_abandoned
from llmops_assets.domain.requests import CLICK, ROLLBACK, Request
from llmops_assets.domain.rollout import RolloutState

A, B = "a" * 40, "b" * 40


def request(revision: str = A, generation: int = 1, **more: Any) -> Request:
    return Request(
        **{"project": "zoo", "revision": revision, "generation": generation, "status": "running", "reason": "", **more}
    )


def rollout(owner: Request | None = None, **more: Any) -> RolloutState:
    """The release "new" at 20% beside the champion "old"."""
    fields = {"release": "new", "replaces": "old", "weights": (0.2, 0.6), "owner": (owner or request()).owner}
    return RolloutState(**{**fields, **more})


def test_a_running_rollout_shares_traffic_with_the_champion() -> None:
    desired = desired_serving("old", request(), rollout(), ["old", "new"])
    assert (desired.traffic, desired.engine, desired.ends_others) == ({"old": 0.8, "new": 0.2}, "old", False)


def test_without_an_active_request_the_champion_has_all_traffic_and_the_only_engine() -> None:
    desired = desired_serving("old", None, rollout(), ["old", "new"])
    assert (desired.traffic, desired.engine, desired.ends_others) == ({"old": 1.0}, "old", True)


def test_the_next_generation_of_a_commit_resumes_its_rollout_and_another_commit_does_not() -> None:
    assert runs(rollout(), request(generation=2))
    assert not runs(rollout(), request(B))
    assert desired_serving("old", request(B), rollout(), ["old", "new"]).traffic == {"old": 1.0}


@pytest.mark.parametrize("asked_by", [ROLLBACK, CLICK])
def test_what_a_person_moves_by_hand_is_resumed_by_nobody(asked_by: str) -> None:
    """A rollback has the revision of the last planned commit: it does not own that commit's rollout."""
    by_hand = request(generation=2, asked_by=asked_by)
    assert not runs(rollout(), by_hand)
    assert runs(rollout(by_hand), by_hand)
    assert not runs(rollout(by_hand), request(generation=3))


@pytest.mark.parametrize("status", ["promoted", "returned"])
def test_a_rollout_that_has_ended_has_no_share_of_its_own(status: Any) -> None:
    """Promotion and the new champion are recorded together: until then the champion is the old one."""
    assert desired_serving("old", request(), rollout(status=status), ["old", "new"]).traffic == {"old": 1.0}


def test_a_candidate_without_an_engine_leaves_its_share_to_the_champion() -> None:
    assert desired_serving("old", request(), rollout(), ["old"]).traffic == {"old": 1.0}
    assert desired_serving("old", request(), rollout(), ["new"]).traffic == {"old": 0.8, "new": 0.2}, "it is started"


def test_before_a_first_release_there_is_no_traffic_and_afterwards_no_engine() -> None:
    first = rollout(replaces=None, weights=(1.0,))
    assert desired_serving(None, request(), first, ["new"]).traffic == {}
    left = desired_serving(None, None, first, ["new"])
    assert (left.traffic, left.engine, left.ends_others) == ({}, None, True)


def test_the_reason_names_what_became_of_its_request() -> None:
    ended = request(status="failed", detail="4 runs ended without an outcome")
    assert why_abandoned(rollout(), [request(B), ended]) == "its request is failed: 4 runs ended without an outcome"
    assert why_abandoned(rollout(owner=request(B)), [ended]) == "it was interrupted"
