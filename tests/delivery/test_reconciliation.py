"""Whatever is interrupted, in whatever order: a reconciliation makes production serve the ledger's champion alone.

A run that was terminated at 50 % left half of production on an unjudged release; a gateway fault while giving up left
10 %; a cancellation between the promotion and its record left gateway and ledger disagreeing; a lost state.json made
every later release fail.
"""

import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from sqlalchemy import event

from llmops_assets.delivery.deployment import deliver
from llmops_assets.delivery.reconciliation import Reconciler
from llmops_assets.delivery.rollback import open_rollback
from llmops_assets.delivery.rollout import Rollout, retire_others
from llmops_assets.domain.records import Release
from llmops_assets.domain.requests import Request, another_generation
from llmops_assets.domain.rollback import Hold, NoTarget
from llmops_assets.domain.rollout import Analysis, RolloutPolicy, RolloutStep, begin_rollback, rollback_policy
from resources.ledger import Conflict, Ledger
from resources.serving.interface import ServingError
from tests.delivery.production import MemoryServing, reachable

POLICY = RolloutPolicy(
    steps=(RolloutStep(weight=0.2, hold=0.0), RolloutStep(weight=0.6, hold=0.0)),
    analysis=(Analysis(metric="empty_rate", at_most=0.4),),
    min_samples=4,
)
"""One round of probes, eight good answers, decides a step."""


def make_release(name: str) -> Release:
    return Release(
        project="zoo", artifact_digest=name, artifact_uri="", file="", chat_template="", engine="llama.cpp", serving={}
    )


class Killed(BaseException):
    """The process is killed: nothing of it runs any more, no handler of an Exception either."""


class Story:
    """One project's ledger and production, with the real use cases that change them."""

    def __init__(self, ledger: Ledger, serving: MemoryServing):
        self.ledger, self.serving = ledger, serving
        self.connections: list[Any] = []
        event.listen(ledger.engine, "connect", lambda connection, record: self.connections.append(connection))
        self.alias: list[str] = []
        self.tagged: list[Mapping[str, str]] = []
        self.reconciler = Reconciler("zoo", ledger, serving, 0.0, serving.start, self.alias.append, self.tagged.append)
        # At the checkout, so that what happens beside a transaction comes before it has the lock.
        event.listen(ledger.engine, "checkout", lambda connection, record, proxy: serving.calls("transaction"))
        event.listen(ledger.engine, "commit", lambda connection: serving.calls("commit"))

    def killed(self) -> "Story":
        """The story as another process continues it: the killed one's connections are closed, with their locks."""
        for connection in self.connections:
            connection.close()
        return Story(Ledger(self.ledger.url), self.serving)

    def request(self, revision: str) -> Request:
        generation = another_generation(self.ledger.requests("zoo"), revision)
        return self.ledger.open_request("zoo", revision, generation, "because")

    def rollout(self, request: Request, release: Release, **change: Any) -> Rollout:
        fields: dict[str, Any] = {
            "project": "zoo",
            "revision": request.revision,
            "release": release,
            "policy": POLICY,
            "ledger": self.ledger,
            "serving": self.serving,
            "drain": 0.0,
            "deploy": lambda: self.serving.start("production", release),
            "inputs": lambda: ["Hello"],
            "answer_tokens": 8,
            "say": lambda text: None,
            "request": request,
            "clock": self.serving.clock,
            "sleep": self.serving.clock.sleep,
        }
        return Rollout(**{**fields, **change})

    def deliver(self, request: Request, release: Release) -> str:
        """What the assets do: staging, then production. Returns the request's outcome."""
        self.ledger.add_release(release, request.revision)
        self.serving.start("staging", release)
        self.ledger.serve("zoo", "staging", release.digest, request.revision)
        self.serving.route("zoo", "staging", {release.digest: 1.0})
        retire_others(self.serving, "zoo", "staging", [release.digest], 0.0)
        state = deliver(self.rollout(request, release), self.reconciler)
        outcome = "rejected" if state and state.status != "promoted" else "released"
        self.ledger.close(request, outcome, "")  # type: ignore[arg-type]
        return outcome

    def roll_back(self) -> None:
        target, revision = self.ledger.rollback_target("zoo", None)
        request = open_rollback(self.ledger, "zoo", target, "bad", "eve")
        now, release = self.ledger.serving("zoo", "production"), self.ledger.release(target)
        assert now is not None and release is not None
        hold = Hold(project="zoo", release=now.release, reason="bad", by="eve", since=0.0)
        up = now.release in self.serving.engines
        way = self.rollout(request, release, revision=revision, hold=hold, policy=rollback_policy(POLICY))
        way.run(begin_rollback(target, now.release if up else None))
        self.ledger.close(request, "failed", "it did not answer")

    def champion(self) -> str | None:
        serving = self.ledger.serving("zoo", "production")
        return serving.release if serving else None

    def assert_agrees(self) -> None:
        """Traffic and engines are what the ledger says, and nothing else."""
        found = self.ledger.rollout("zoo")
        assert found is None or found[3].status != "running"
        assert found is None or found[3].status != "promoted" or found[3].release == self.champion()
        staged = self.ledger.serving("zoo", "staging")
        for environment, release in (("production", self.champion()), ("staging", staged and staged.release)):
            expected = [release] if release else []
            assert list(self.serving.deployed("zoo", environment)) == expected, environment
            assert self.serving.weights("zoo", environment) == dict.fromkeys(expected, 1.0), environment


@pytest.fixture
def story(tmp_path: Path) -> Any:
    with reachable(weights={}) as serving:
        ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
        yield Story(ledger, serving)
        ledger.engine.dispose()


class Interrupted(RuleBasedStateMachine):
    """Releases, rollbacks, cancellations and losses, each interrupted at any operation, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.made = ExitStack()
        folder = Path(tempfile.mkdtemp())
        self.made.callback(shutil.rmtree, folder)
        self.serving = self.made.enter_context(reachable(weights={}))
        self.story = Story(Ledger(f"sqlite:///{folder / 'ledger.sqlite'}"), self.serving)
        self.good: set[str] = set()
        self.count = 0

    @property
    def ledger(self) -> Ledger:
        return self.story.ledger

    def teardown(self) -> None:
        try:
            self.all_ends_and_agrees()
        finally:
            self.ledger.engine.dispose()
            self.made.close()

    def kill(self) -> None:
        raise Killed

    def fault(self) -> None:
        raise ServingError("the gateway does not answer")

    def cancel(self) -> None:
        """`llmops cancel` in another process, which has not ended the run yet."""
        if active := self.ledger.active_request("zoo"):
            self.ledger.close(active, "cancelled", "by a person")
        self.story.reconciler.run()

    def tick(self) -> None:
        """A tick of the recovery sensor in another process."""
        self.story.reconciler.run()

    def do(self, work: Callable[[], object], at: int, how: str) -> bool:
        """Does it, and at its n-th operation on ledger or serving something else happens; returns whether it did."""
        left = [at]

        def count(name: str) -> None:
            beside = how in ("cancel", "tick")
            if beside and name == "commit":
                return  # the other process waits for the lock
            left[0] -= 1
            if left[0] == 0:
                self.serving.calls = lambda name: None
                getattr(self, how)()

        self.serving.calls = count if how != "nothing" else lambda name: None
        try:
            with suppress(ServingError, Conflict, NoTarget):
                work()
        except Killed:
            self.story = self.story.killed()
        finally:
            self.serving.calls = lambda name: None
        return left[0] <= 0

    def deliver(self, request: Request, at: int, how: str) -> bool:
        release = make_release(request.revision)
        self.serving.answer = "yes" if release.digest in self.good else " "
        return self.do(lambda: self.story.deliver(request, release), at, how)

    cut = {"at": st.integers(1, 45), "how": st.sampled_from(["nothing", "kill", "kill", "fault", "cancel", "tick"])}  # noqa: RUF012

    @precondition(lambda self: self.ledger.active_request("zoo") is None)
    @rule(answers_well=st.booleans(), **cut)
    def a_commit_is_delivered(self, answers_well: bool, at: int, how: str) -> None:
        self.count += 1
        request = self.story.request(f"{self.count:040d}")
        if answers_well:
            self.good.add(make_release(request.revision).digest)
        self.deliver(request, at, how)

    @precondition(lambda self: self.count and self.ledger.active_request("zoo") is None)
    @rule(**cut)
    def the_last_commit_is_delivered_again(self, at: int, how: str) -> None:
        self.deliver(self.story.request(f"{self.count:040d}"), at, how)

    @precondition(lambda self: (found := self.ledger.active_request("zoo")) is not None and not found.by_hand)
    @rule(**cut)
    def the_next_generation_resumes(self, at: int, how: str) -> None:
        active = self.ledger.active_request("zoo")
        assert active is not None
        self.deliver(self.ledger.next_generation(active, active.generation + 1, "it was killed"), at, how)

    @precondition(lambda self: self.ledger.active_request("zoo") is None)
    @rule(**cut)
    def production_is_rolled_back(self, at: int, how: str) -> None:
        self.serving.answer = "yes"
        self.do(self.story.roll_back, at, how)

    @precondition(lambda self: self.ledger.active_request("zoo") is not None)
    @rule(status=st.sampled_from(["failed", "cancelled", "superseded"]))
    def the_request_is_closed(self, status: Any) -> None:
        active = self.ledger.active_request("zoo")
        assert active is not None
        self.ledger.close(active, status, "four runs died")

    @rule()
    def the_state_is_lost(self) -> None:
        self.serving.forget()

    @rule(**cut)
    def a_tick_reconciles(self, at: int, how: str) -> None:
        self.do(self.story.reconciler.run, at, how)

    @rule()
    def all_ends_and_agrees(self) -> None:
        if active := self.ledger.active_request("zoo"):
            self.ledger.close(active, "failed", "its runs died")
        assert self.story.reconciler.run().faults == ()
        self.story.assert_agrees()
        assert self.story.reconciler.run().done == (), "where nothing differs, nothing is done"
        assert self.story.champion() in {None, *self.good}, "only what was judged well serves"

    def commit(self) -> Request:
        self.count += 1
        request = self.story.request(f"{self.count:040d}")
        self.good.add(make_release(request.revision).digest)
        return request


def assert_only_the_champion_has_traffic(case: Interrupted) -> None:
    """Another commit is next: its reconciliation ends what the last one left, before it does anything itself."""
    if active := case.ledger.active_request("zoo"):
        case.ledger.close(active, "failed", "its runs died")
    other = case.commit()
    assert case.story.reconciler.run().faults == ()
    champion = case.story.champion()
    assert case.serving.weights("zoo", "production") == ({champion: 1.0} if champion else {})
    case.ledger.close(other, "failed", "it does not train")


def assert_no_traffic_to_a_lost_engine(case: Interrupted) -> None:
    """The state is lost while the commit's next run has not begun."""
    case.serving.forget()
    assert case.story.reconciler.run().faults == ()
    assert set(case.serving.weights("zoo", "production")) <= set(case.serving.deployed("zoo", "production"))


@pytest.mark.parametrize(
    ("how", "then"),
    [
        ("kill", assert_only_the_champion_has_traffic), ("kill", assert_no_traffic_to_a_lost_engine),
        ("fault", Interrupted.all_ends_and_agrees), ("cancel", Interrupted.all_ends_and_agrees),
        ("tick", Interrupted.all_ends_and_agrees),
    ],
)  # fmt: skip
def test_a_release_that_is_interrupted_at_any_point(how: str, then: Callable[[Interrupted], None]) -> None:
    case = Interrupted()
    try:
        case.deliver(case.commit(), 0, "nothing")
        at = 0
        reached = True
        while reached:
            at += 1
            reached = case.deliver(case.commit(), at, how)
            then(case)
            case.all_ends_and_agrees()
        assert at > 20, "a release has 30 to 40 operations on ledger and serving"
    finally:
        case.teardown()


TestInterrupted = Interrupted.TestCase
TestInterrupted.settings = settings(max_examples=30, stateful_step_count=12, deadline=None)


# -- single failures --------------------------------------------------------------------------------------------------


def test_a_run_that_was_killed_in_mid_rollout_and_not_resumed_returns_its_share(story: Story) -> None:
    """Its fourth death closed the request and left the traffic at 60 % for good."""
    first, second = make_release("first"), make_release("second")
    assert story.deliver(story.request("a" * 40), first) == "released"
    request = story.request("b" * 40)

    def die_at_the_second_step(name: str) -> None:
        if name == "routed" and story.serving.shares.get(second.digest) == 0.6:
            raise Killed

    story.serving.calls = die_at_the_second_step
    with pytest.raises(Killed):
        story.deliver(request, second)
    story.serving.calls = lambda name: None
    assert story.reconciler.run(["production"]).done == (), "an active request resumes its rollout"
    assert story.serving.shares == {first.digest: pytest.approx(0.4), second.digest: 0.6}
    story.ledger.close(request, "failed", "4 runs ended without an outcome")
    found = story.reconciler.run()
    assert f"ended the rollout of {second.digest[:12]}: its request is failed: 4 runs ended" in found.done[0]
    assert story.champion() == first.digest
    assert story.serving.shares == {first.digest: 1.0}


def test_a_champion_without_an_engine_is_started_again_from_the_store(story: Story) -> None:
    """After a lost state.json or `down --forget`, every later release failed: its champion was not deployed."""
    story.deliver(story.request("a" * 40), make_release("first"))
    story.serving.forget()
    assert story.deliver(story.request("b" * 40), make_release("second")) == "released"
    assert story.champion() == make_release("second").digest
    story.serving.forget()
    found = story.reconciler.run()
    assert found.faults == () and found.done[0].startswith("started production's engine of")
    story.assert_agrees()


def test_a_champion_that_cannot_be_started_does_not_stop_the_release_that_replaces_it(story: Story) -> None:
    """Its weights are lost or damaged: production is down, and only another release can end that."""
    first, second = make_release("first"), make_release("second")
    story.deliver(story.request("a" * 40), first)
    story.serving.forget()
    story.serving.broken = {first.digest}
    assert story.deliver(story.request("b" * 40), second) == "released"
    story.assert_agrees()


def test_a_fault_in_staging_does_not_keep_production_from_being_repaired(story: Story) -> None:
    first, second = make_release("first"), make_release("second")
    story.deliver(story.request("a" * 40), first)
    story.ledger.add_release(second, "b" * 40)
    story.ledger.serve("zoo", "staging", second.digest, "b" * 40)
    story.serving.forget()
    story.serving.broken = {second.digest}
    found = story.reconciler.run()
    assert found.faults == (f"staging: the engine of {second.digest[:12]} does not start",)
    assert story.serving.shares == {first.digest: 1.0}


def test_what_a_person_stopped_stays_stopped(story: Story) -> None:
    """A tick right after `llmops down` must not start the endpoints again; `llmops up` does."""
    story.deliver(story.request("a" * 40), make_release("first"))
    story.serving.forget()
    story.serving.is_stopped = True
    assert story.reconciler.run().done == () and story.serving.engines == []
    assert story.reconciler.run(start_stopped=True).faults == ()
    story.assert_agrees()


def test_the_alias_follows_once_and_is_tried_again_after_a_fault(story: Story) -> None:
    """MLflow was down: a rollback that had worked was reported as cut off."""
    story.deliver(story.request("a" * 40), make_release("first"))

    def refuse(revision: str) -> None:
        raise ConnectionError("MLflow is down")

    said = replace(story.reconciler, move_alias=refuse).align_mlflow()
    assert said is not None and "MLflow is down" in said
    for _ in range(2):
        assert story.reconciler.align_mlflow() is None
    assert story.alias == ["a" * 40]
    story.deliver(story.request("b" * 40), make_release("second"))
    assert story.reconciler.align_mlflow() is None
    assert story.alias == ["a" * 40, "b" * 40]


def test_outcomes_that_no_run_tagged_reach_mlflow_once_and_again_after_a_fault(story: Story) -> None:
    """A rejection at a terminal, and a rollback, left the tags of MLflow's runs at `waiting` and `released`."""
    one, two, three = (letter * 40 for letter in "abc")
    story.deliver(story.request(one), make_release("first"))
    story.deliver(story.request(two), make_release("second"))

    def refuse(outcomes: Mapping[str, str]) -> None:
        raise ConnectionError("MLflow is down")

    said = replace(story.reconciler, tag_outcomes=refuse).align_mlflow()
    assert said is not None and "MLflow is down" in said
    for _ in range(2):
        assert story.reconciler.align_mlflow() is None
    assert story.tagged == [{one: "released", two: "released"}]
    story.roll_back()
    waiting = story.request(three)
    story.ledger.close(waiting, "waiting", "for a person")
    assert story.reconciler.align_mlflow() is None
    assert story.tagged[-1] == {two: "rolled_back", three: "waiting"}
    assert story.ledger.settle_waiting(story.ledger.now(waiting), "rejected", "too terse")
    assert story.reconciler.align_mlflow() is None
    assert story.tagged[1:] == [{two: "rolled_back", three: "waiting"}, {three: "rejected"}]


def test_a_rollback_twice_goes_one_release_back_and_names_the_way_further(story: Story) -> None:
    """The first one had worked and was reported as cut off; the second, as its message said, went one further."""
    releases = [make_release(name) for name in ("first", "second", "third")]
    for number, release in enumerate(releases):
        story.deliver(story.request(f"{number:040d}"), release)
    story.roll_back()
    assert story.champion() == releases[1].digest
    with pytest.raises(NoTarget, match=f"llmops rollback zoo --to {releases[0].digest[:12]}"):
        story.roll_back()
    assert story.champion() == releases[1].digest
    assert story.ledger.rollback_target("zoo", releases[0].digest)[0] == releases[0].digest
    story.assert_agrees()
