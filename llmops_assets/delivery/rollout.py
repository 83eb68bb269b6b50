"""Moves production's traffic to a release step by step, evaluating each step. Deployments and rollbacks share it.

`llmops_assets.domain.rollout` decides. This shell moves traffic, waits, sends probes, and stores every state before
acting on the next, so that an interrupted rollout resumes.
"""

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from llmops_assets.config.project import ProjectConfig
from llmops_assets.domain.keys import short
from llmops_assets.domain.records import AnyRecord, RegisteredModel, Release
from llmops_assets.domain.rollout import ProbeResult, RolloutPolicy, RolloutState, advance
from llmops_assets.programs.data.rows import load_split, question
from resources.ledger import Conflict, Ledger
from resources.model_registry.interface import CHAMPION, ModelRegistry
from resources.project_source.revisions import ProjectRevision
from resources.serving.client import ask_many
from resources.serving.interface import Serving

PROBES = 8
"""Concurrent probe requests during a hold; equal to the engine's default number of slots."""
CANARY_TOKENS = 64
"""Longest probe answer, in tokens."""
HELD_OUT_ROWS = 64
"""Test rows used as probes."""
HOLDS, LONGEST_AT_LEAST_S = 3, 60.0
"""A step may take this many holds to get enough answers, and at least this long for short holds."""


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
            samples = self._watch(inputs, hold)
            state = advance(state, self.policy, samples)
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

    def _watch(self, inputs: "itertools.cycle[str]", hold: float) -> list[ProbeResult]:
        """Probes the candidate through the gateway, next to user traffic, for the hold and until answers suffice.

        It gives up after three holds, or after a minute if that is longer: too few answers never promote.
        """
        url = self.serving.base_url(self.project, "production")
        headers = self.serving.candidate_headers(self.release.digest)
        began = self.clock()
        longest = max(HOLDS * hold, LONGEST_AT_LEAST_S)
        # Most clients set no length. If the endpoint's own limit is shorter, probes set none either.
        own = self.release.serving.get("max_tokens")
        tokens = None if own and own < self.answer_tokens else self.answer_tokens
        samples: list[ProbeResult] = []
        while True:
            batch = list(itertools.islice(inputs, PROBES))
            answers = ask_many(url, self.project, batch, concurrency=PROBES, headers=headers, max_tokens=tokens)
            for answer in answers:
                sample = answer.sample(self.answer_tokens)
                wrong = answer.release != self.release.digest
                samples.append(sample.model_copy(update={"ok": False}) if wrong else sample)
            waited = self.clock() - began
            if waited >= longest or (waited >= hold and len(samples) >= self.policy.min_samples):
                return samples
            self.sleep(min(0.5, max(0.0, hold - waited)))


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
