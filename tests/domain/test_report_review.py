"""A review is valid for one report and one checkpoint, never by an author, and until it expires or led to something."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from llmops_assets.domain.approval import Author, Choice, Waiting
from llmops_assets.domain.report_review import (
    Registration,
    Review,
    ReviewAsk,
    ReviewDecision,
    Reviewed,
    ReviewRules,
    evaluate_reviews,
)

ASK = ReviewAsk(project="zoo", report="r" * 64, checkpoint="c" * 64, loosened=("test rows changed",))
ADA = Author(name="Ada Lovelace", email="ada@example.com")
EVE, BOB = "eve@example.com", "bob@example.com"
DAY, NOW = 86400.0, 1_000_000.0
LOST = "gate removed: perplexity of checkpoint at most 30"
OTHERS: dict[str, Any] = {
    "project": "farm", "report": "s" * 64, "checkpoint": "d" * 64, "loosened": (),
}  # fmt: skip


def said(choice: Choice = "approved", by: str = EVE, at: float = NOW, **change: Any) -> ReviewDecision:
    ask = ASK.model_copy(update=change)
    return ReviewDecision(ask=ask, revision="f" * 40, choice=choice, by=by, reason="because", at=at)


def registered(*by: str, at: float = NOW, **change: Any) -> Registration:
    return Registration(ask=ASK.model_copy(update=change), revision="f" * 40, by=by, at=at)


def weighed(
    *decisions: ReviewDecision, on: tuple[Registration, ...] = (), now: float = NOW, authors: Any = (ADA,), **rules: Any
) -> Reviewed | Waiting:
    return evaluate_reviews(ASK, decisions, on, ReviewRules(**rules), authors, now)


def why(*decisions: ReviewDecision, **more: Any) -> str:
    found = weighed(*decisions, **more)
    assert isinstance(found, Waiting)
    return "; ".join(found.reasons)


def test_a_review_of_exactly_this_report_is_valid() -> None:
    assert weighed(said()) == Reviewed(decisions=(said(),)) and weighed() == Waiting()


@pytest.mark.parametrize("field", sorted(ReviewAsk.model_fields))
def test_a_review_is_invalid_once_anything_that_it_was_bound_to_changed(field: str) -> None:
    assert f"approved by {EVE}, not valid:" in why(said(**{field: OTHERS[field]}))


def test_everything_that_an_ask_holds_is_tried_above() -> None:
    assert set(OTHERS) == set(ReviewAsk.model_fields)


def test_a_review_of_more_loosening_covers_less() -> None:
    """The commit that was reviewed becomes the champion: then the next one, with the same report, loosens nothing."""
    assert isinstance(weighed(said(loosened=(*ASK.loosened, LOST))), Reviewed)
    assert why(said(loosened=(LOST,))).endswith("the policy was loosened since: test rows changed")


@pytest.mark.parametrize(("age", "counts"), [(0, True), (7 * DAY, True), (7 * DAY + 1, False), (-301, False)])
def test_a_review_that_led_to_nothing_expires(age: float, counts: bool) -> None:
    assert isinstance(weighed(said(at=NOW - age)), Reviewed) == counts


def test_a_review_that_led_to_a_registration_neither_expires_nor_minds_the_next_commits_author() -> None:
    eve = Author(name="Eve", email=EVE)
    old, used = said(at=NOW - 90 * DAY), registered(EVE, at=NOW - 89 * DAY)
    assert weighed(old, on=(used,), authors=(eve,)) == Reviewed(decisions=(old,), registered=True)
    assert "it expired 83 d ago" in why(old, on=(registered(EVE, at=NOW - 89 * DAY, checkpoint="d" * 64),))
    assert "it expired 83 d ago" in why(old, on=(registered(BOB, at=NOW - 89 * DAY),))
    assert "is an author" in why(said(), on=(used,), authors=(eve,)), "that one came after the registration"
    assert "is not in deployment.review.approvers" in why(old, on=(used,), approvers=(BOB,)), "policy is read now"


def test_a_rejection_revokes_every_review_also_one_that_led_to_a_registration() -> None:
    found = weighed(said(), said("rejected"), on=(registered(EVE),))
    assert found == Waiting(reasons=(f"rejected by {EVE}: because",), rejected=True)
    assert isinstance(weighed(said("rejected"), said()), Reviewed), "they changed their mind"


def test_several_reviews_are_those_of_different_people() -> None:
    assert why(said(), said(by="Eve <EVE@example.com>"), count=2).startswith("accepted by ")
    assert "1 of 2 reviews" in why(said(), said(), count=2)
    found = weighed(said(), said(by=BOB), count=2)
    assert isinstance(found, Reviewed) and {d.by for d in found.decisions} == {EVE, BOB} and not found.registered
    partly = weighed(said(), said(by=BOB), count=2, on=(registered(EVE),))
    assert isinstance(partly, Reviewed) and not partly.registered


def test_one_review_after_a_rejection_that_needs_two_waits_and_is_not_rejected() -> None:
    found = weighed(said("rejected", by=BOB), said(), count=2)
    assert isinstance(found, Waiting) and not found.rejected and "1 of 2 reviews" in found.reasons[0]


def test_an_author_never_reviews_their_own_change() -> None:
    assert "is an author of this change" in why(said(by="Ada <ADA@example.com>"), approvers=("ada@example.com",))


@pytest.mark.parametrize(
    ("rules", "who"),
    [
        ({}, "a person who is no author of the change"),
        ({"count": 2}, "2 people who are no authors of the change"),
        ({"approvers": (EVE,)}, EVE),
        ({"approvers": (EVE, BOB)}, f"one of {EVE}, {BOB}"),
        ({"approvers": (EVE, BOB), "count": 2}, f"{EVE} and {BOB}"),
        ({"approvers": (EVE, BOB, "carl"), "count": 2}, f"2 of {EVE}, {BOB}, carl"),
    ],
)
def test_who_must_review_is_said_in_words(rules: dict[str, Any], who: str) -> None:
    assert ReviewRules(**rules).who == who


@pytest.mark.parametrize(
    ("stated", "needed"),
    [({}, False), ({"required": True}, True), ({"approvers": [EVE]}, True), ({"count": 2}, True),
     ({"count": 1}, False), ({"approvers": [EVE], "required": False}, False)],
)  # fmt: skip
def test_when_a_review_is_needed(stated: dict[str, Any], needed: bool) -> None:
    assert Review(**stated).needed == needed


def test_more_reviews_than_reviewers_is_refused() -> None:
    with pytest.raises(ValidationError, match="is 2, but approvers names 1 person; lower it, or name more"):
        Review(approvers=(EVE, "Eve <EVE@example.com>"), count=2)


people = st.sampled_from([EVE, BOB, "ada@example.com", ""])
asks = st.sampled_from([ASK, *(ASK.model_copy(update={k: v}) for k, v in OTHERS.items())])
decisions = st.lists(
    st.builds(
        ReviewDecision, ask=asks, revision=st.just("f" * 40), choice=st.sampled_from(["approved", "rejected"]),
        by=people, reason=st.just("because"), at=st.floats(NOW - 9 * DAY, NOW),
    ),
    max_size=6,
)  # fmt: skip
uses = st.lists(
    st.builds(
        Registration, ask=asks, revision=st.just("f" * 40), by=st.tuples(people), at=st.floats(NOW - 9 * DAY, NOW)
    ),
    max_size=2,
)


@given(decisions, uses, st.integers(1, 3))
def test_only_enough_different_people_accept_and_no_rejection_is_passed_over(
    history: list[ReviewDecision], on: list[Registration], count: int
) -> None:
    found = evaluate_reviews(ASK, history, on, ReviewRules(count=count), [ADA], NOW)
    here = [d for d in history if d.ask == ASK]
    last_no = max((n for n, d in enumerate(here) if d.choice == "rejected"), default=-1)
    if isinstance(found, Reviewed):
        assert len({d.by for d in found.decisions}) == len(found.decisions) >= count
        assert all(d in here[last_no + 1 :] and d.by for d in found.decisions)
        covered = [d for d in found.decisions if any(use.covers(d) for use in on)]
        assert all(NOW - d.at <= 7 * DAY and d.by != ADA.email for d in found.decisions if d not in covered)
    else:
        assert found.rejected == (last_no >= 0 and not found.reasons[0].startswith("accepted by"))
