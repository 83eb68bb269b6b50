"""Each change gets one complete run: it is not lost, run twice, or run needlessly."""

from typing import Any, Literal, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmops_assets.domain.config_diff import Change, needs_a_run, only_data
from llmops_assets.domain.requests import (
    CLICK,
    EVALUATION,
    PARTIAL,
    ROLLBACK,
    Head,
    Note,
    Request,
    Skip,
    Start,
    Status,
    Supersede,
    newest_planned,
    next_request,
    planned,
    settled,
)

A, B, C = "a" * 40, "b" * 40, "c" * 40
CODE = Change(value="tree", text="tree changed")
DATA = Change(value="data", text="data.train.version changed")
POLICY = Change(value="policy", text="policy.rollout.min_samples 20 → 30")
GATES = Change(value="gates", text="gates changed")


def request(revision: str = A, status: Status = "released", generation: int = 1, **more: Any) -> Request:
    return Request(project="zoo", revision=revision, generation=generation, status=status, reason="because", **more)


def head(*found: Change, revision: str = B, files: tuple[str, ...] = ()) -> Head:
    return Head(revision=revision, found=found, files=files)


# -- the base of a comparison -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["failed", "cancelled", "superseded"])
def test_a_change_that_was_left_undone_is_compared_again_when_only_the_readme_follows(end: Status) -> None:
    """A commit failed, a documentation commit followed, and the first one's change was never deployed."""
    before = settled([request(A), request(B, end)])
    assert before is not None and before.revision == A
    started = next_request([request(A), request(B, end)], head(CODE, revision=C), "git")
    assert isinstance(started, Start) and started.base == A


@pytest.mark.parametrize("end", ["released", "done", "rejected", "skipped", "waiting"])
def test_an_outcome_is_what_the_next_commit_is_compared_with(end: Status) -> None:
    before = settled([request(A), request(B, end)])
    assert before is not None and before.revision == B


@pytest.mark.parametrize("by", [PARTIAL, EVALUATION])
def test_a_run_of_some_stages_or_of_another_branch_does_not_pass_for_the_commits_own(by: str) -> None:
    some = request(A, "done", asked_by=by)
    assert planned([some]) == [] and settled([some]) is None and newest_planned([some]) is None
    started = next_request([some], Head(revision=A), "git")
    assert started == Start(revision=A, generation=2, reason="first run of this project")
    running = request(A, "running", asked_by=by)
    assert isinstance(next_request([running], Head(revision=B), "git"), Skip)


# -- the next request -----------------------------------------------------------------------------------------------


def test_the_first_run_of_a_project_is_started_once_by_the_git_sensor() -> None:
    first = Head(revision=A)
    assert next_request([], first, "git") == Start(revision=A, generation=1, reason="first run of this project")
    assert isinstance(next_request([], first, "dvc"), Skip)


@pytest.mark.parametrize("owner", ["git", "dvc"])
def test_a_head_that_was_seen_is_not_started_again_whatever_became_of_it(owner: Literal["git", "dvc"]) -> None:
    for status in get_args(Status):
        found = next_request([request(A, status)], Head(revision=A), owner)
        assert isinstance(found, Skip) and status in found.reason


def test_a_rejection_keeps_its_reason_on_every_later_tick() -> None:
    found = next_request([request(A, "rejected", detail="perplexity 50, limit 40")], Head(revision=A), "git")
    assert found == Skip(reason=f"{A[:12]} is rejected: perplexity 50, limit 40")


def test_a_commit_that_no_stage_reads_is_noted_with_its_files_so_that_it_is_the_base_of_what_follows() -> None:
    found = next_request([request(A)], head(files=("README.md",)), "git")
    assert found == Note(revision=B, generation=1, reason="nothing to do: no stage reads the changed files (README.md)")
    assert isinstance(next_request([request(A)], head(files=("README.md",)), "dvc"), Skip)


def test_many_files_are_named_shortly() -> None:
    found = next_request([request(A)], head(files=tuple(f"docs/{n}.md" for n in range(9))), "git")
    assert isinstance(found, Note) and "docs/3.md and 5 more" in found.reason


def test_policy_alone_deploys_nothing_but_a_gate_asks_for_a_new_verdict() -> None:
    policy = next_request([request(A)], head(POLICY), "git")
    assert isinstance(policy, Note) and "min_samples 20 → 30" in policy.reason
    assert isinstance(next_request([request(A)], head(POLICY, GATES), "git"), Start)


def test_data_alone_is_the_dvc_sensors_and_anything_mixed_the_git_sensors() -> None:
    assert isinstance(next_request([request(A)], head(DATA), "dvc"), Start)
    assert next_request([request(A)], head(DATA), "git") == Skip(
        reason=f"{B[:12]}: only data changed: the DVC sensor starts it"
    )
    assert isinstance(next_request([request(A)], head(DATA, CODE), "git"), Start)
    assert isinstance(next_request([request(A)], head(DATA, CODE), "dvc"), Skip)


def test_a_start_says_what_changed_and_against_what() -> None:
    found = next_request([request(A)], head(CODE, DATA), "git")
    assert found == Start(revision=B, generation=1, reason="tree changed; data.train.version changed", base=A)


@pytest.mark.parametrize("status", ["queued", "running"])
def test_a_newer_commit_waits_for_the_active_run(status: Status) -> None:
    found = next_request([request(A, status)], head(CODE), "git")
    assert found == Skip(reason=f"{B[:12]} waits for {A[:12]}, which is {status}", waits=True)


def test_commits_that_waited_are_coalesced_into_the_newest() -> None:
    """B was pushed while A ran, and never started; C is compared with A, so it includes B's change."""
    found = next_request([request(A, "released")], head(CODE, revision=C), "git")
    assert isinstance(found, Start) and (found.revision, found.base) == (C, A)


def test_a_force_push_back_to_an_older_commit_gets_the_next_generation_of_it() -> None:
    found = next_request([request(A), request(A, generation=2), request(B)], head(CODE, revision=A), "git")
    assert isinstance(found, Start) and (found.revision, found.generation, found.base) == (A, 3, B)


@pytest.mark.parametrize("owner", ["git", "dvc"])
@pytest.mark.parametrize(
    "seen",
    [
        Head(revision=None, problem="https://example.com/zoo.git: is unreachable: no route to host"),
        Head(revision=None, problem="branch 'main' does not exist in https://example.com/zoo.git"),
        Head(revision=B, problem="llmops.yaml:3: modle: unknown key; did you mean 'model'?"),
        Head(revision=B, problem="waits for data: data/train.jsonl is not in the DVC remote yet; run `dvc push`"),
    ],
)
def test_what_cannot_be_used_is_skipped_with_its_problem_and_not_recorded(
    seen: Head, owner: Literal["git", "dvc"]
) -> None:
    """No row is written, so the same commit is started once its problem is gone."""
    for requests in ([], [request(A)]):
        found = next_request(requests, seen, owner)
        assert isinstance(found, Skip) and (seen.problem or "") in found.reason


def test_an_empty_branch_is_skipped() -> None:
    assert next_request([], Head(revision=None), "git") == Skip(reason="the branch has no commit", waits=True)


founds = st.lists(
    st.sampled_from(
        [CODE, DATA, POLICY, GATES, Change(value="model.base", text="x"), Change(value="prompt", text="y")]
    ),
    unique=True,
).map(tuple)
ended = st.sampled_from(["released", "done", "rejected", "failed", "cancelled", "superseded", "skipped"])
histories = st.lists(st.tuples(st.sampled_from([A, B, C]), ended), min_size=1, max_size=5)


@given(founds, histories, st.sampled_from([A, B, C]))
def test_a_change_that_needs_a_run_is_started_by_exactly_one_sensor(
    found: tuple[Change, ...], history: list[tuple[str, Status]], revision: str
) -> None:
    requests = [request(r, s, n) for n, (r, s) in enumerate(history, start=1)]
    seen = Head(revision=revision, found=found)
    decisions = [next_request(requests, seen, owner) for owner in ("git", "dvc")]
    starts = [d for d in decisions if isinstance(d, Start)]
    wanted = revision != requests[-1].revision and needs_a_run(found)
    assert len(starts) == wanted
    assert sum(isinstance(d, Note) for d in decisions) == (revision != requests[-1].revision and not needs_a_run(found))
    for start in starts:
        assert start.generation > max((r.generation for r in requests if r.revision == revision), default=0)
        assert isinstance(decisions[0 if only_data(found) else 1], Skip)


@given(founds, histories)
def test_nothing_starts_while_a_run_is_at_work(found: tuple[Change, ...], history: list[tuple[str, Status]]) -> None:
    requests = [*(request(r, s, n) for n, (r, s) in enumerate(history, start=1)), request(A, "running", 99)]
    for owner in ("git", "dvc"):
        assert isinstance(next_request(requests, head(*found), owner), Skip)


# -- people ---------------------------------------------------------------------------------------------------------


def test_a_newer_commit_does_not_wait_for_what_waits_for_a_person() -> None:
    assert isinstance(next_request([request(A, "waiting")], head(CODE), "git"), Start)


def test_a_waiting_request_is_named_on_every_tick() -> None:
    waiting = request(A, "waiting", detail="waiting for approval: llmops approve")
    found = next_request([waiting], Head(revision=A), "git")
    assert isinstance(found, Skip) and "llmops approve" in found.reason


def test_a_held_release_is_named_on_every_tick_that_starts_nothing() -> None:
    held = "release abc is held; `llmops unhold zoo` lifts it"
    assert held in next_request([request(A)], Head(revision=A), "git", [held]).reason
    assert isinstance(next_request([request(A)], head(CODE), "git", [held]), Start)


def test_after_a_rollback_the_planned_commit_is_not_started_again() -> None:
    """Its row names the planned commit: with the earlier release's, the head would look new and start at once."""
    back = request(A, "done", 2, asked_by=ROLLBACK, detail="production went back")
    found = next_request([request(A), back], Head(revision=A), "git")
    assert isinstance(found, Skip) and "production went back" in found.reason
    assert isinstance(next_request([request(A), back], head(CODE), "git"), Start)


def test_a_rollback_does_not_hide_that_the_commit_before_it_failed() -> None:
    """Its row has that commit's revision and is done: the next commit was compared with it, and the change was lost."""
    rows = [request(A), request(B, "failed"), request(B, "done", 2, asked_by=ROLLBACK)]
    before = settled(rows)
    assert before is not None and before.revision == A
    started = next_request(rows, head(CODE, revision=C), "git")
    assert isinstance(started, Start) and started.base == A


def test_a_rollout_by_a_click_completes_no_commit() -> None:
    click = request(A, "running", 2, asked_by=CLICK)
    assert planned([click]) == [click], "it has the project's lock"
    assert newest_planned([request(A), request(B), click]) == request(B)
    ended = click.model_copy(update={"status": "released"})
    assert planned([ended]) == [] and settled([ended]) is None


def test_neither_a_noted_commit_nor_a_rollback_makes_a_release_old() -> None:
    """Otherwise a README change would make a waiting release outdated, and refused after a person had approved it."""
    rows = [request(A, "waiting"), request(B, "skipped"), request(B, "done", 2, asked_by=ROLLBACK)]
    assert newest_planned(rows) == rows[0] and newest_planned([]) is None
    assert newest_planned([*rows, request(C)]) == request(C)


# -- on_newer -------------------------------------------------------------------------------------------------------


def newer(*found: Change, revision: str = B) -> Head:
    return Head(revision=revision, found=found, cancels=True)


@pytest.mark.parametrize("status", ["queued", "running"])
def test_a_newer_commit_that_says_cancel_ends_the_active_run(status: Status) -> None:
    running = request(A, status)
    found = next_request([running], newer(CODE), "git")
    assert isinstance(found, Supersede) and (found.request, found.by) == (running, B) and B[:12] in found.detail


@pytest.mark.parametrize("seen", [newer(), newer(POLICY)])
def test_a_commit_that_needs_no_run_ends_none(seen: Head) -> None:
    assert isinstance(next_request([request(A, "running")], seen, "git"), Skip)


def test_only_a_commit_that_is_new_ends_a_run() -> None:
    """Otherwise a head that is not new would cancel a run that a person started for an older revision on purpose."""
    assert isinstance(next_request([request(B), request(A, "running")], newer(CODE), "git"), Skip)


def test_a_broken_newer_commit_ends_nothing() -> None:
    seen = Head(revision=B, problem="llmops.yaml:3: unknown key", cancels=True)
    assert isinstance(next_request([request(A, "running")], seen, "git"), Skip)


def test_a_rollback_is_never_cancelled_by_a_commit() -> None:
    running = request(A, "running", 2, asked_by=ROLLBACK)
    assert isinstance(next_request([request(A), running], newer(CODE), "git"), Skip)


# -- commits that get no run of their own ----------------------------------------------------------------------------


def test_commits_that_a_newer_one_takes_along_are_named_while_it_waits_and_when_it_starts() -> None:
    """Thirty commits were pushed during a run: the outcome of each must be reported."""
    along = tuple(f"{n:040x}" for n in range(1, 30))
    burst = head(CODE, revision=B).model_copy(update={"passed_over": along})
    waits = next_request([request(A, "running")], burst, "git")
    starts = next_request([request(A)], burst, "git")
    assert isinstance(waits, Skip) and isinstance(starts, Start)
    for said in (waits.reason, starts.reason):
        assert "includes 29 earlier commits" in said
        assert all(c[:12] in said for c in along)
