"""An approval is valid for its release, for a limited time, and never for the approver's own work."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmops_assets.domain.approval import (
    CLOCK_SKEW_S,
    Approved,
    Ask,
    Author,
    Choice,
    Decision,
    Rules,
    Waiting,
    evaluate_approvals,
    is_author,
    person,
    refusals,
    spelled,
)

ASK = Ask(project="zoo", release="r" * 64, reports=("a", "b"), replaces="c" * 64, since=500.0)
ADA = Author(name="Ada Lovelace", email="ada@example.com")
DAY = 86400.0
NOW = 1_000_000.0
OTHERS: dict[str, Any] = {
    "project": "farm", "release": "s" * 64, "environment": "staging", "reports": ("a", "x"), "replaces": None,
    "since": 600.0, "loosened": ("gate removed: perplexity of checkpoint at most 30",),
}  # fmt: skip


def said(choice: Choice = "approved", by: str = "eve@example.com", at: float = NOW, **change: Any) -> Decision:
    ask = ASK.model_copy(update=change)
    return Decision(ask=ask, revision="f" * 40, choice=choice, by=by, reason="because", at=at)


def weighed(*decisions: Decision, rules: Rules | None = None, now: float = NOW) -> Approved | Waiting:
    return evaluate_approvals(ASK, decisions, rules or Rules(), [ADA], now)


def why(*decisions: Decision, **more: Any) -> str:
    found = weighed(*decisions, **more)
    assert isinstance(found, Waiting)
    return "; ".join(found.reasons)


# -- valid approvals ------------------------------------------------------------------------------------------------


def test_without_a_decision_a_release_waits_and_there_is_nothing_to_explain() -> None:
    assert weighed() == Waiting()


def test_an_approval_of_exactly_this_ask_is_valid() -> None:
    assert weighed(said()) == Approved(decision=said())


@pytest.mark.parametrize("field", sorted(Ask.model_fields))
def test_an_approval_is_invalid_once_anything_that_it_was_bound_to_changed(field: str) -> None:
    assert "approved by eve@example.com, not valid:" in why(said(**{field: OTHERS[field]}))


def test_everything_that_an_ask_holds_is_tried_above() -> None:
    assert set(OTHERS) == set(Ask.model_fields)


def test_a_rejection_is_told_apart_from_a_decision_that_is_missing_or_invalid() -> None:
    """A release that was rejected after its approval waited for another decision instead of ending."""
    assert weighed(said(), said("rejected")) == Waiting(
        reasons=("rejected by eve@example.com: because",), rejected=True
    )
    assert weighed(said(reports=())).rejected is False  # type: ignore[union-attr]
    assert weighed(said("rejected", reports=())).rejected is False  # type: ignore[union-attr]


def test_the_reason_says_what_changed() -> None:
    assert "the reports have changed since" in why(said(reports=()))
    assert f"given to replace nothing, but production now serves {'c' * 12}" in why(said(replaces=None))
    assert "production has changed since, and serves" in why(said(since=1.0))


@pytest.mark.parametrize(("age", "counts"), [(0, True), (7 * DAY, True), (7 * DAY + 1, False), (30 * DAY, False)])
def test_an_approval_expires(age: float, counts: bool) -> None:
    assert isinstance(weighed(said(at=NOW - age)), Approved) == counts


def test_how_long_ago_it_expired_is_reported() -> None:
    assert "it expired 2 d ago" in why(said(at=NOW - 9 * DAY))
    assert "it expired 30 min ago" in why(said(at=NOW - 7 * DAY - 1800))


def test_a_decision_dated_in_the_future_is_invalid() -> None:
    """After a clock was set back, an old approval would never have expired."""
    assert isinstance(weighed(said(at=NOW + CLOCK_SKEW_S)), Approved)
    assert "check the machines' clocks" in why(said(at=NOW + CLOCK_SKEW_S + 1))


def test_the_newest_decision_is_valid_and_a_rejection_revokes_earlier_approvals() -> None:
    assert why(said(), said("rejected")) == "rejected by eve@example.com: because"
    assert isinstance(weighed(said("rejected"), said()), Approved)


def test_an_invalid_decision_does_not_hide_a_valid_one() -> None:
    assert isinstance(weighed(said(), said(by="ada@example.com")), Approved)
    assert isinstance(weighed(said(), said("rejected", reports=())), Approved), "that was about something else"


# -- approvers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("who", "author"),
    [
        ("ada@example.com", True), (" ADA@Example.com ", True), ("Ada Lovelace <ada@example.com>", True),
        ("Somebody Else <ada@example.com>", True), ("ada", True), ("ada lovelace", True),
        ("eve@example.com", False), ("ada@other.org", False), ("ad", False), ("Ada Lovelace <eve@example.com>", False),
    ],
)  # fmt: skip
def test_an_author_is_known_by_e_mail_and_a_bare_name_by_mailbox_and_name(who: str, author: bool) -> None:
    assert is_author(who, [Author(name="Bob", email="bob@example.com"), ADA]) == author


@pytest.mark.parametrize("rules", [Rules(), Rules(approvers=("ada@example.com",))])
def test_an_author_never_approves_their_own_change_not_even_as_a_named_approver(rules: Rules) -> None:
    assert "is an author of this change" in "; ".join(refusals("approved", "ada@example.com", rules, [ADA]))
    assert "is an author of this change" in why(said(by="Ada <ADA@example.com>"), rules=rules)


def test_an_author_may_withdraw_their_own_change() -> None:
    assert refusals("rejected", "ada@example.com", Rules(approvers=("eve@example.com",)), [ADA]) == ()


@pytest.mark.parametrize("choice", ["approved", "rejected"])
def test_where_approvers_are_named_nobody_else_decides(choice: Choice) -> None:
    rules = Rules(approvers=("Eve <eve@example.com>", "bob"))
    assert refusals(choice, "EVE@example.com", rules, [ADA]) == () == refusals(choice, "bob", rules, [ADA])
    assert "is not in deployment.approval.approvers" in "; ".join(refusals(choice, "mallory@example.com", rules, [ADA]))


def test_a_decision_of_a_removed_approver_is_invalid() -> None:
    assert "is not in deployment.approval.approvers" in why(said(), rules=Rules(approvers=("bob@example.com",)))


@pytest.mark.parametrize("choice", ["approved", "rejected"])
def test_nobody_decides_nothing(choice: Choice) -> None:
    assert "no user name" in refusals(choice, "  ", Rules(), [ADA])[0]


def test_all_reasons_are_given_at_once() -> None:
    assert len(refusals("approved", "ada@example.com", Rules(approvers=("eve@example.com",)), [ADA])) == 2


# -- properties -----------------------------------------------------------------------------------------------------

people = st.sampled_from(["eve@example.com", "bob@example.com", "ada@example.com", "ada", ""])
asks = st.sampled_from([ASK, *(ASK.model_copy(update={k: v}) for k, v in OTHERS.items())])
decisions = st.lists(
    st.builds(
        Decision, ask=asks, revision=st.just("f" * 40), choice=st.sampled_from(["approved", "rejected"]), by=people,
        reason=st.just("because"), at=st.floats(NOW - 9 * DAY, NOW + DAY),
    ),
    max_size=6,
)  # fmt: skip
rules = st.builds(
    Rules, approvers=st.sampled_from([(), ("eve@example.com",), ("ada@example.com", "bob@example.com")]),
    expires_after=st.floats(1, 8 * DAY),
)  # fmt: skip


@given(decisions, rules)
def test_only_a_valid_unrevoked_decision_on_exactly_this_ask_approves(history: list[Decision], rules: Rules) -> None:
    found = evaluate_approvals(ASK, history, rules, [ADA], NOW)
    here = [d for d in history if d.ask == ASK]
    last_no = max((n for n, d in enumerate(here) if d.choice == "rejected"), default=-1)
    valid = [
        d
        for d in here[last_no + 1 :]
        if -CLOCK_SKEW_S <= NOW - d.at <= rules.expires_after and not refusals("approved", d.by, rules, [ADA])
    ]
    assert found == Approved(decision=valid[-1]) if valid else isinstance(found, Waiting)
    if isinstance(found, Approved):
        assert not is_author(found.decision.by, [ADA]) and person(found.decision.by)


@given(decisions, rules, st.floats(0, 30 * DAY))
def test_time_alone_never_approves(history: list[Decision], rules: Rules, later: float) -> None:
    past = [d for d in history if d.at <= NOW]
    if isinstance(evaluate_approvals(ASK, past, rules, [ADA], NOW), Waiting):
        assert isinstance(evaluate_approvals(ASK, past, rules, [ADA], NOW + later), Waiting)


@given(decisions, rules, decisions)
def test_a_rejection_of_this_leaves_nothing_that_counts(
    history: list[Decision], rules: Rules, more: list[Decision]
) -> None:
    after = [d for d in more if d.choice == "rejected"]
    assert isinstance(evaluate_approvals(ASK, [*history, said("rejected"), *after], rules, [ADA], NOW), Waiting)


@pytest.mark.parametrize(
    "name", ["ａｄａ@example.com", "ada\u200b@example.com", "Ada <ADA@example.com\u2060>", "\u200eada@example.com"]
)
def test_an_author_is_the_same_person_in_another_spelling(name: str) -> None:
    """With a zero-width space in the name, an author approved their own change."""
    authors = [Author(name="Ada", email="ada@example.com")]
    assert person(name) == "ada@example.com" and is_author(name, authors)
    hidden = [Author(name="Ada", email=name.removeprefix("Ada <").removesuffix(">"))]
    assert is_author("ada@example.com", hidden)
    (why,) = refusals("approved", name, Rules(), authors)
    assert "is an author of this change" in why


def test_an_approver_with_a_letter_that_only_looks_the_same_is_another_person_and_the_letter_is_named() -> None:
    cyrillic = "\u0435ve@example.com"
    assert person(cyrillic) != person("eve@example.com")
    assert spelled(cyrillic) == f"{cyrillic} (with cyrillic small letter ie)" and spelled("eve") == "eve"
