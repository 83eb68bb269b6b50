"""Moves production's traffic to a release step by step, evaluating each step. Deployments and rollbacks share it.

`llmops_assets.domain.rollout` decides. This shell moves traffic, waits, sends probes, and stores every state before
acting on the next, so that an interrupted rollout resumes.
"""

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from llmops_assets.config.project import ProjectConfig
from llmops_assets.delivery.canary import StepEvidence
from llmops_assets.domain.canary import judge, probes_suffice
from llmops_assets.domain.keys import short
from llmops_assets.domain.records import AnyRecord, RegisteredModel, Release
from llmops_assets.domain.requests import Request
from llmops_assets.domain.rollback import Hold
from llmops_assets.domain.rollout import Judgement, RolloutPolicy, RolloutState, advance
from llmops_assets.programs.data.rows import load_split, question
from resources.ledger import Conflict, Ledger, LedgerError
from resources.model_registry.interface import ModelRegistry
from resources.project_source.resolved_revision import ProjectRevision
from resources.serving.interface import Serving, ServingError

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
    request: Request
    """The active request that runs it; nothing is promoted once it is closed."""
    hold: Hold | None = None
    """Of a rollback: the hold on the release that it replaces."""
    objections: Callable[[], tuple[str, ...]] = lambda: ()
    """Reasons against the release that arose during the rollout, such as a person's rejection."""
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def run(self, first: RolloutState) -> RolloutState:
        """Moves traffic until the release is promoted or returned. Resumes an interrupted rollout of the same release.

        The ledger is written before each change of traffic: an interrupted one is completed by the reconciler.

        Raises:
            Conflict: another run changed this rollout, or its request was closed.
        """
        first = first.model_copy(update={"owner": self.request.owner})
        same = {"release", "replaces", "owner"}
        found = self.ledger.rollout(self.project)
        running = found is not None and found[3].status == "running"
        if found and running and found[3].model_dump(include=same) == first.model_dump(include=same):
            identity, version, _, state = found
            self.say(f"resuming the rollout of {short(self.release.digest)} at {state.weight:.0%}")
        else:
            if found and running:
                # Another rollout was interrupted and will not resume: its share goes back before anything else.
                self._shift_back(found, "superseded by another release")
            state = first
            identity, version = self.ledger.begin_rollout(self.project, self.revision, state)
        try:
            self.deploy()
        except Exception as error:
            with suppress(Conflict, ServingError, LedgerError):  # the reconciler does what fails here
                self._end(self._shift_back((identity, version, self.revision, state), str(error)))
            raise
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
            if state.status == "promoted":
                self.ledger.promote(identity, version, state, self.request, self.revision, self.hold)
            else:
                version = self.ledger.save_rollout(identity, version, state)
        self._end(state)
        return state

    def restore(self) -> None:
        """Serves this release, which the ledger calls the champion: starts its engine, and gives it all traffic."""
        self.deploy()
        self.serving.route(self.project, "production", {self.release.digest: 1.0})
        retire_others(self.serving, self.project, "production", [self.release.digest], self.drain)

    def _shift(self, state: RolloutState) -> None:
        self.serving.route(self.project, "production", state.traffic)

    def _end(self, state: RolloutState) -> None:
        """Gives all traffic to the release that remains, and retires the others."""
        self._shift(state)
        retire_others(self.serving, self.project, "production", list(state.traffic), self.drain)

    def _shift_back(self, found: tuple[int, int, str, RolloutState], why: str) -> RolloutState:
        """Ends a running rollout: its share goes back to the release that it was to replace."""
        left = found[3].returned(why)
        self.ledger.save_rollout(found[0], found[1], left)
        if set(left.traffic) <= set(self.serving.deployed(self.project, "production")):
            self._shift(left)
        return left

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
            if against := self.objections():
                return Judgement(status="failed", failures=against, answers=judgement.answers)
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


def move_alias(registry: ModelRegistry, alias: str, records: Mapping[str, AnyRecord]) -> None:
    """Moves an alias to the registered model among the records, by stage, of the revision that is served."""
    model = records.get("registered_model")
    if isinstance(model, RegisteredModel):
        registry.set_alias(model.name, alias, model.version)


def canary_tokens(config: ProjectConfig) -> int:
    """Token limit of probe answers: the evaluated length, capped so that a canary does not wait for long answers."""
    return min(config.evaluation.max_new_tokens, config.deployment.sampling.max_tokens or CANARY_TOKENS, CANARY_TOKENS)


def questions(at: ProjectRevision | None, data: Path | None) -> list[str]:
    """Probe inputs: those of the smoke tests, and of held-out rows if `data` is given."""
    tests = at.smoke_tests if at else []
    asked = [str(t["input"]) for t in tests if t.get("expect", {}).get("status", 200) == 200]
    if data is None:
        return asked
    return asked + [question(row) for row in load_split(data, "test")[:HELD_OUT_ROWS]]
