"""A rollback goes to an earlier release that was proven in production, and does not alternate between two."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmops_assets.domain.rollback import Hold, NoTarget, rollback_target, rolled_back

A, B, C = ("a" * 64, "b" * 64, "c" * 64)


def test_by_default_it_goes_to_the_release_before_the_present_one() -> None:
    assert rollback_target([A, B, C], []) == B
    assert rollback_target([A, B, B, C, C], []) == B, "the same release for another commit is no other release"


def test_twice_goes_further_back_instead_of_to_and_fro() -> None:
    """After C → B, the release before the current one is C again, which is held."""
    assert rollback_target([A, B, C, B], [C]) == A


def test_it_is_known_that_a_rollback_brought_the_current_release() -> None:
    """So that repeating the command does not go one release further back."""
    hold = Hold(project="zoo", release=C, reason="cut short", by="eve", since=1.0)
    assert rolled_back([A, B, C, B], [hold]) == hold
    assert rolled_back([A, B, C, B, B], [hold]) == hold, "the same release for another commit changes nothing"
    assert rolled_back([A, B, C, B, A], [hold]) is None
    assert rolled_back([A, B, C, B], []) is None, "the hold was lifted"
    assert rolled_back([A], []) is None and rolled_back([], []) is None


@pytest.mark.parametrize(
    ("served", "held", "named", "expected"),
    [
        ([], [], None, "production serves nothing yet"),
        ([A], [], None, "no earlier release"),
        ([A, B], [A], None, "no earlier release"),
        ([A, B], [], B[:12], "already serves bbbbbbbbbbbb"),
        ([A, B], [], C[:12], "never served a release 'cccccccccccc' (served before: aaaaaaaaaaaa)"),
        ([A, B], [], "aaa", "never served a release 'aaa'"),
        ([A, B, C, B], [C], C[:12], "is held; run `llmops unhold` first"),
    ],
)
def test_what_cannot_be_gone_back_to_is_reported(served: list[str], held: list[str], named: str, expected: str) -> None:
    with pytest.raises(NoTarget) as told:
        rollback_target(served, held, named)
    assert expected in str(told.value)


def test_a_release_can_be_named_by_its_beginning() -> None:
    assert rollback_target([A, B, C], [], A[:6]) == A


def test_a_beginning_that_two_releases_share_is_no_name() -> None:
    with pytest.raises(NoTarget):
        rollback_target(["a" * 63 + "1", "a" * 63 + "2", B], [], "a" * 12)


releases = st.sampled_from([A, B, C, "d" * 64])


@given(st.lists(releases, max_size=8), st.lists(releases, max_size=4), st.none() | releases)
def test_a_target_has_served_is_not_the_present_one_and_not_held(
    served: list[str], held: list[str], named: str | None
) -> None:
    try:
        target = rollback_target(served, held, named)
    except NoTarget:
        return
    assert target in served and target != served[-1] and target not in held
    assert named in (None, target)


def test_a_hold_says_who_why_and_how_it_ends() -> None:
    text = str(Hold(project="zoo", release=A, reason="cut short", by="eve@example.com", since=1.0))
    assert "eve@example.com" in text and "cut short" in text and "llmops unhold zoo" in text
