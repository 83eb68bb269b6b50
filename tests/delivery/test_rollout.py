"""A rollout moves traffic based on its own probes, and returns it if they fail or are too few.

What happens to an interrupted one is in test_reconciliation.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from llmops_assets.config.settings import Settings
from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.delivery.rollout import Rollout, questions
from llmops_assets.domain.canary_evidence import UserRequest
from llmops_assets.domain.records import Release
from llmops_assets.domain.requests import Request
from llmops_assets.domain.rollout import (
    Analysis,
    RolloutPolicy,
    RolloutState,
    RolloutStep,
    begin,
    begin_rollback,
    rollback_policy,
)
from llmops_assets.programs.data.rows import write_rows
from resources.ledger import Conflict, Ledger
from resources.project_source.revisions import ProjectRepository
from resources.serving.interface import ServingError
from tests.delivery.production import MemoryServing, reachable
from tests.support.projects import Project

RELEASE = Release(
    project="zoo",
    artifact_digest="new",
    artifact_uri="file:///nowhere",
    file="model.gguf",
    chat_template="",
    engine="llama.cpp",
    serving={},
)
NEW = RELEASE.digest


def active(ledger: Ledger) -> Request:
    """The project's active request, opened if there is none."""
    return ledger.active_request("zoo") or ledger.open_request("zoo", "a" * 40, 1, "because")


def rollout(ledger: Ledger, serving: MemoryServing, **change: object) -> Rollout:
    """A rollout with one step of 50%, on the endpoint's clock."""
    fields = {
        "project": "zoo",
        "revision": "a" * 40,
        "release": RELEASE,
        "policy": canary((0.5, 0.0)),
        "ledger": ledger,
        "serving": serving,
        "drain": 0.0,
        "deploy": lambda: serving.start("production", RELEASE),
        "inputs": lambda: ["Hello"],
        "answer_tokens": 8,
        "say": lambda text: None,
        "clock": serving.clock,
        "sleep": serving.clock.sleep,
        "request": active(ledger),
    }
    return Rollout(**{**fields, **change})  # type: ignore[arg-type]


def canary(*steps: tuple[float, float], min_samples: int = 4) -> RolloutPolicy:
    """Steps of (weight, hold); one round of probes, eight good answers, is enough for its rules."""
    return RolloutPolicy(
        steps=tuple(RolloutStep(weight=w, hold=h) for w, h in steps),
        min_samples=min_samples,
        analysis=tuple(Analysis(metric=m, at_most=0.4) for m in ("error_rate", "empty_rate")),
    )


def stored(ledger: Ledger) -> RolloutState:
    found = ledger.rollout("zoo")
    assert found is not None
    return found[3]


@pytest.fixture
def serving() -> Iterator[MemoryServing]:
    """Production with all traffic on the release "old"."""
    with reachable("old", weights={"old": 1.0}) as serving:
        yield serving


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")


# -- probes ---------------------------------------------------------------------------------------------------------


def test_a_conversation_is_asked_its_last_question_as_in_the_evaluation(
    project: Project, ledger: Ledger, serving: MemoryServing, tmp_path: Path
) -> None:
    """Probes used the first turn of a conversation: they measured answers that no evaluation had covered."""
    turns = [("user", "What is a cat?"), ("assistant", "An animal."), ("user", "What does it say?")]
    conversation = {"messages": [{"role": r, "content": c} for r, c in [*turns, ("assistant", "Meow.")]]}
    beside = {
        "input": None,
        "output": None,
        "messages": [{"role": "system", "content": "Be brief."}, *conversation["messages"]],
    }
    write_rows(tmp_path / "test.jsonl", [conversation, beside, {"input": "dog says", "output": "Woof."}])
    project.push()
    watched = ProjectSource(name="zoo", repository=str(project.remote))
    source = ProjectRepository(watched, Settings(home=tmp_path / "home", projects=(watched,)))
    source.git.fetch()
    at = source.at(project.head)
    state = rollout(ledger, serving, inputs=lambda: questions(at, tmp_path)).run(begin(NEW, "old", canary((0.5, 0))))
    assert state.status == "promoted"
    assert set(serving.questions()) == {"What does it say?", "dog says"}


@pytest.mark.parametrize(("own", "asked"), [(None, 8), (100, 8), (4, None)])
def test_an_answer_may_be_as_long_as_it_was_evaluated_or_as_the_endpoint_itself_allows(
    ledger: Ledger, serving: MemoryServing, own: int | None, asked: int | None
) -> None:
    """A probe that asks for more than the endpoint's own limit would hide that users get truncated answers."""
    release = RELEASE.model_copy(update={"serving": {"max_tokens": own} if own else {}})
    serving.engines.append(release.digest)
    rollout(ledger, serving, release=release).run(begin(release.digest, "old", canary((0.5, 0))))
    assert {body.get("max_tokens") for body in serving.asked} == {asked}


# -- traffic --------------------------------------------------------------------------------------------------------


def test_traffic_moves_step_by_step_and_the_replaced_engine_ends(ledger: Ledger, serving: MemoryServing) -> None:
    policy = canary((0.1, 0), (0.5, 0))
    assert rollout(ledger, serving, policy=policy).run(begin(NEW, "old", policy)).status == "promoted"
    assert serving.routed == [{"old": 0.9, NEW: 0.1}, {"old": 0.5, NEW: 0.5}, {NEW: 1.0}]
    assert serving.engines == [NEW]
    serves = ledger.serving("zoo", "production")
    assert serves is not None and serves.release == NEW


def test_the_first_release_of_a_project_has_no_traffic_until_it_is_promoted(ledger: Ledger) -> None:
    with reachable(weights={}) as serving:
        assert rollout(ledger, serving).run(begin(NEW, None, RolloutPolicy())).status == "promoted"
    assert serving.routed == [{}, {NEW: 1.0}]


def test_a_rejection_during_a_step_returns_all_traffic_at_once(ledger: Ledger, serving: MemoryServing) -> None:
    """A person who rejected an approved release at 10% saw it promoted all the same."""
    policy = canary((0.1, 3600.0), (0.5, 3600.0))
    said = iter([(), ()])
    way = rollout(ledger, serving, policy=policy, objections=lambda: next(said, ("rejected by eve: too bold",)))
    state = way.run(begin(NEW, "old", policy))
    assert (state.status, state.reasons) == ("returned", ("at 10%: rejected by eve: too bold",))
    assert serving.shares == {"old": 1.0} and serving.engines == ["old"]
    assert serving.clock.now < 3600.0, "it does not wait for the end of the step"


def test_a_rejection_in_the_last_moment_is_no_promotion(ledger: Ledger, serving: MemoryServing) -> None:
    way = rollout(ledger, serving, objections=lambda: ("rejected by eve: too bold",))
    assert way.run(begin(NEW, "old", canary((0.5, 0)))).status == "returned"
    assert serving.shares == {"old": 1.0}


def test_a_rollback_target_is_probed_by_header_before_any_traffic_moves(ledger: Ledger, serving: MemoryServing) -> None:
    policy = rollback_policy(canary((0.1, 60), min_samples=100))
    assert rollout(ledger, serving, policy=policy).run(begin_rollback(NEW, "old")).status == "promoted"
    assert serving.routed == [{"old": 1.0}, {NEW: 1.0}]
    assert (len(serving.asked), serving.clock.now) == (8, 0.0), "seconds, not holds"


def test_a_release_whose_answers_are_bad_gives_its_traffic_back_and_ends(
    ledger: Ledger, serving: MemoryServing
) -> None:
    serving.answer = " "
    state = rollout(ledger, serving).run(begin(NEW, "old", canary((0.5, 0))))
    assert state.status == "returned" and state.reasons[0].startswith("at 50%: empty_rate 1, limit 0.4")
    assert (serving.shares, serving.engines) == ({"old": 1.0}, ["old"])
    assert stored(ledger) == state


def test_answers_that_another_release_gave_are_no_evidence(ledger: Ledger, serving: MemoryServing) -> None:
    """A gateway that ignores the header would answer probes from the champion."""
    serving.answers_for = "old"
    state = rollout(ledger, serving).run(begin(NEW, "old", canary((0.5, 0))))
    assert state.status == "returned" and "at 50%: no response completed" in state.reasons


def test_the_champion_is_asked_a_part_of_the_same_and_all_of_it_if_a_rule_compares_with_it(
    ledger: Ledger, serving: MemoryServing
) -> None:
    inputs = [f"question {n}" for n in range(8)]
    rollout(ledger, serving, inputs=lambda: inputs).run(begin(NEW, "old", canary((0.5, 0))))
    asked = serving.questions()
    assert sorted(asked) == sorted([*inputs, *inputs[:2]])
    serving.asked.clear()
    beside = Analysis(metric="error_rate", no_worse_than="champion", margin=0.3)
    compared = canary((0.5, 0)).model_copy(update={"analysis": (beside,)})
    other = RELEASE.model_copy(update={"artifact_digest": "newer"})
    serving.engines += ["old", other.digest]
    state = rollout(ledger, serving, release=other, inputs=lambda: inputs, policy=compared).run(
        begin(other.digest, "old", compared)
    )
    assert state.status == "promoted" and sorted(serving.questions()) == sorted(inputs * 2)


def test_what_users_get_returns_a_release_whose_probes_all_succeed(ledger: Ledger, serving: MemoryServing) -> None:
    """Only the rollout's own probes were judged."""
    served, failed = UserRequest(ok=True, latency_s=0.1), UserRequest(ok=False, latency_s=0.1)
    serving.users = {NEW: [served] * 10 + [failed] * 20, "old": [served] * 30}
    state = rollout(ledger, serving).run(begin(NEW, "old", canary((0.5, 0))))
    assert state.status == "returned" and state.reasons[0].startswith("at 50%: error_rate 0.667, limit 0.4: users 20")
    assert serving.shares == {"old": 1.0}


# -- hold times -----------------------------------------------------------------------------------------------------


def test_a_release_is_watched_for_the_whole_hold_although_it_has_answered_enough(
    ledger: Ledger, serving: MemoryServing
) -> None:
    policy = canary((0.5, 5.0))
    rollout(ledger, serving, policy=policy).run(begin(NEW, "old", policy))
    assert serving.clock.now == 5.0
    assert len(serving.asked) == 11 * (8 + 2), "every half second, and once more at the end"


def test_a_hold_lasts_until_there_are_answers_enough(ledger: Ledger, serving: MemoryServing) -> None:
    serving.takes_s = 1.0
    policy = canary((0.5, 2.0), min_samples=30)
    state = rollout(ledger, serving, policy=policy).run(begin(NEW, "old", policy))
    assert (state.status, state.requests, serving.clock.now) == ("promoted", 32, 40.0), "the champion has answered 8"


@pytest.mark.parametrize(("hold", "gives_up_after"), [(60.0, 180.0), (1.0, 120.0)])
def test_after_three_holds_or_two_minutes_without_enough_answers_it_stops(
    ledger: Ledger, serving: MemoryServing, hold: float, gives_up_after: float
) -> None:
    serving.takes_s = 1.0
    policy = canary((0.5, hold), min_samples=1000)
    state = rollout(ledger, serving, policy=policy).run(begin(NEW, "old", policy))
    assert state.status == "returned"
    (said,) = state.reasons
    assert said.startswith("at 50%: undecided after 1") and f"{state.requests} answers" in said
    assert said.endswith("so probes alone decide), minimum 1000")
    assert gives_up_after <= serving.clock.now < gives_up_after + 10, "it ends with the round that it began"
    assert serving.shares == {"old": 1.0}


# -- the next rollout ------------------------------------------------------------------------------------------------


def test_an_interrupted_rollout_resumes_at_its_step(ledger: Ledger, serving: MemoryServing) -> None:
    policy = canary((0.1, 60), (0.5, 0))
    state = begin(NEW, "old", policy).model_copy(update={"owner": active(ledger).owner})
    identity, version = ledger.begin_rollout("zoo", "a" * 40, state)
    ledger.save_rollout(identity, version, state.model_copy(update={"step": 1, "requests": 40}))
    ended = rollout(ledger, serving, policy=policy).run(state)
    assert serving.routed == [{"old": 0.5, NEW: 0.5}, {NEW: 1.0}]
    assert (ended.status, ended.requests, serving.clock.now) == ("promoted", 48, 0.0)
    found = ledger.rollout("zoo")
    assert found is not None and found[0] == identity, "it is the same rollout"


def test_an_interrupted_rollout_gives_its_share_back_before_the_next_engine_starts(
    ledger: Ledger, serving: MemoryServing
) -> None:
    """It kept half of production's traffic until the engine of the next release was healthy, for minutes."""
    serving.engines.append("cut")
    serving.shares = {"old": 0.5, "cut": 0.5}
    identity, version = ledger.begin_rollout("zoo", "a" * 40, begin("cut", "old", RolloutPolicy()))
    shares_at_start: list[dict[str, float]] = []

    def deploy() -> None:
        shares_at_start.append(serving.shares)
        serving.start("production", RELEASE)

    way = rollout(ledger, serving, deploy=deploy)
    assert way.run(begin(NEW, "old", canary((0.5, 0)))).status == "promoted"
    assert shares_at_start == [{"old": 1.0}]
    with pytest.raises(Conflict):
        ledger.save_rollout(identity, version, begin("cut", "old", RolloutPolicy()))
    assert serving.engines == [NEW]


def test_a_candidate_whose_engine_no_longer_starts_gives_its_share_back_at_once(
    ledger: Ledger, serving: MemoryServing
) -> None:
    """A resumed rollout that failed on its engine left its share with the candidate, and its row running forever."""
    policy = canary((0.5, 0))
    state = begin(NEW, "old", policy).model_copy(update={"owner": active(ledger).owner})
    ledger.begin_rollout("zoo", "a" * 40, state)
    serving.engines.append(NEW)
    serving.shares, serving.broken = {"old": 0.5, NEW: 0.5}, {NEW}
    with pytest.raises(ServingError):
        rollout(ledger, serving, policy=policy).run(state)
    assert (serving.shares, serving.engines) == ({"old": 1.0}, ["old"])
    assert (stored(ledger).status, "does not start" in stored(ledger).reasons[0]) == ("returned", True)


def test_nothing_is_promoted_after_a_cancellation(ledger: Ledger, serving: MemoryServing) -> None:
    """The run had probed enough when a person cancelled it: the gateway was at 100 %, the ledger at the old release."""

    def cancel(text: str) -> None:
        ledger.close(active(ledger), "cancelled", "by a person")

    with pytest.raises(Conflict, match="no longer active"):
        rollout(ledger, serving, say=cancel).run(begin(NEW, "old", canary((0.5, 0))))
    assert ledger.serving("zoo", "production") is None and stored(ledger).status == "running"
