"""Moves production's traffic to a release step by step, evaluating each step. Deployments and rollbacks share it.

`llmops_assets.domain.rollout` decides. This shell moves traffic, waits, sends probes, and stores every state before
acting on the next, so that an interrupted rollout resumes.
"""

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from llmops_assets.config.project import ProjectConfig
from llmops_assets.delivery.canary import StepEvidence
from llmops_assets.domain.canary import judge, probes_suffice
from llmops_assets.domain.keys import short
from llmops_assets.domain.records import AnyRecord, RegisteredModel, Release
from llmops_assets.domain.rollout import Judgement, RolloutPolicy, RolloutState, advance
from llmops_assets.programs.data.rows import load_split, question
from resources.ledger import Conflict, Ledger
from resources.model_registry.interface import CHAMPION, ModelRegistry
from resources.project_source.revisions import ProjectRevision
from resources.serving.interface import Serving

CANARY_TOKENS = 64
"""Longest probe answer, in tokens."""
HELD_OUT_ROWS = 64
"""Test rows used as probes."""
PAUSE_S, PROGRESS_S = 0.5, 10.0
"""Pause between two rounds of probes during a hold, and between two lines that say what a long step waits for."""


@dataclass(frozen=True)
class Rollout:
    """The rollout of one release to production."""

    project: str
    revision: str
    release: Release
    policy: RolloutPolicy
    ledger: Ledger
    serving: Serving
    drain: float
    deploy: Callable[[], None]
    """Ensures a healthy engine for the release, without traffic."""
    inputs: Callable[[], Sequence[str]]
    """The probes' inputs."""
    answer_tokens: int
    """Token limit of probe answers: the evaluated length, unless that takes too long."""
    say: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def run(self, first: RolloutState) -> RolloutState:
        """Moves traffic until the release is promoted or returned. Resumes an interrupted rollout of the same release.

        Raises:
            Conflict: another run changed this rollout.
        """
        found = self.ledger.rollout(self.project)
        if found and found[3].status == "running" and found[3].release == self.release.digest:
            identity, version, _, state = found
            self.say(f"resuming the rollout of {short(self.release.digest)} at {state.weight:.0%}")
        else:
            if found and found[3].status == "running":
                # The rollout of another release was interrupted and will not resume: its release gets no traffic.
                _give_up(self.ledger, found, "superseded by another release")
            state = first
            identity, version = self.ledger.begin_rollout(self.project, self.revision, state)
        self.deploy()
        inputs = itertools.cycle(self.inputs())
        while state.status == "running":
            self._shift(state)
            hold = self.policy.steps[state.step].hold if state.step < len(self.policy.steps) else 0.0
            release = short(self.release.digest)
            self.say(
                f"{state.weight:.0%} of production's traffic goes to {release}; observing it for {hold:g} s"
                if state.weight
                else f"probing {release}, which has no production traffic yet"
            )
            state = advance(state, self._watch(inputs, hold, state))
            version = self.ledger.save_rollout(identity, version, state)
        self._shift(state)
        if state.status == "returned":
            retire_others(self.serving, self.project, "production", _champion(state), self.drain)
        return state

    def settle(self, note: Callable[[], None]) -> None:
        """Gives this release all traffic and retires the others; `note` records that in the ledger."""
        digest = self.release.digest
        self.deploy()
        self.serving.route(self.project, "production", {digest: 1.0})
        note()
        retire_others(self.serving, self.project, "production", [digest], self.drain)

    def _shift(self, state: RolloutState) -> None:
        share = state.weight
        # A project's first release has no traffic before it is promoted: probes reach it by header.
        weights = {state.release: share} if state.replaces or state.status == "promoted" else {}
        if state.replaces and share < 1:
            weights = {state.replaces: 1 - share, **({state.release: share} if share else {})}
        self.serving.route(self.project, "production", weights)

    def _watch(self, inputs: Iterator[str], hold: float, state: RolloutState) -> Judgement:
        """Observes the candidate beside the champion for the hold, and longer until every rule is decided."""
        # Most clients set no length. If the endpoint's own limit is shorter, probes set none either.
        own = self.release.serving.get("max_tokens")
        step = StepEvidence(
            serving=self.serving,
            project=self.project,
            release=self.release.digest,
            champion=state.replaces if state.weight else None,  # at weight 0, a rollback: the champion is to blame
            weight=state.weight if state.replaces else 0.0,
            compares=any(rule.no_worse_than for rule in self.policy.analysis),
            wanted_tokens=self.answer_tokens,
            asked_tokens=None if own and own < self.answer_tokens else self.answer_tokens,
            users=self.serving.watch_users(self.project, "production"),
        )
        began = self.clock()
        said = hold
        step.probe(inputs)
        while True:
            seen, waited = step.so_far(), self.clock() - began
            judgement = judge(self.policy, seen, waited, hold)
            if judgement.status != "waiting":
                return judgement
            if waited - said > PROGRESS_S:
                said = waited
                self.say(f"not decided after {waited:.0f} s, so the step goes on: {'; '.join(judgement.open)}")
            if waited < hold:
                self.sleep(min(PAUSE_S, hold - waited))
            elif probes_suffice(self.policy, seen):
                self.sleep(PAUSE_S)  # users' traffic decides
                continue
            step.probe(inputs)


def retire_others(serving: Serving, project: str, environment: str, keep: Sequence[str], drain: float) -> None:
    """Retires all releases of an environment except those to keep, after their streams have ended."""
    for digest in serving.deployed(project, environment):
        if digest not in keep:
            serving.retire(project, environment, digest, drain)


def move_champion_alias(registry: ModelRegistry, records: Mapping[str, AnyRecord]) -> None:
    """Moves the alias of what production serves to the registered model among these records, by stage."""
    model = records.get("registered_model")
    if isinstance(model, RegisteredModel):
        registry.set_alias(model.name, CHAMPION, model.version)


def abandon(ledger: Ledger, serving: Serving, project: str, why: str, drain: float) -> str | None:
    """Removes the traffic of a stopped run's rollout; returns the release, or None if there was no active rollout."""
    found = ledger.rollout(project)
    if not found or found[3].status != "running":
        return None
    state = found[3]
    try:
        _give_up(ledger, found, why)
    except Conflict:
        return None  # it has ended meanwhile
    deployed = serving.deployed(project, "production")
    if state.replaces is None or state.replaces in deployed:
        serving.route(project, "production", {state.replaces: 1.0} if state.replaces else {})
        retire_others(serving, project, "production", _champion(state), drain)
    return state.release


def _champion(state: RolloutState) -> list[str]:
    return [state.replaces] if state.replaces else []


def _give_up(ledger: Ledger, found: tuple[int, int, str, RolloutState], why: str) -> None:
    left = found[3].model_copy(update={"status": "returned", "reasons": (why,)})
    ledger.save_rollout(found[0], found[1], left)


def canary_tokens(config: ProjectConfig) -> int:
    """Token limit of probe answers: the evaluated length, capped so that a canary does not wait for long answers."""
    return min(config.evaluation.max_new_tokens, config.deployment.sampling.max_tokens or CANARY_TOKENS, CANARY_TOKENS)


def questions(at: ProjectRevision, data: Path | None) -> list[str]:
    """Probe inputs: those of the smoke tests, and of held-out rows if `data` is given."""
    asked = [str(t["input"]) for t in at.smoke_tests if t.get("expect", {}).get("status", 200) == 200]
    if data is None:
        return asked
    return asked + [question(row) for row in load_split(data, "test")[:HELD_OUT_ROWS]]
