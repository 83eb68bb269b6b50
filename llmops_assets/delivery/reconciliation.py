"""Makes endpoints agree with the ledger: traffic, engines, the champion's alias. The one place that repairs them.

Run by the recovery sensor at each tick, by `llmops up`, after a cancellation, and before each rollout. It needs no
state of its own, so whatever was interrupted, including itself, the next run completes it. What should be served is
decided in `llmops_assets.domain.desired_serving`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from llmops_assets.config.documents import parse_object
from llmops_assets.config.proposals import PromptProposal
from llmops_assets.delivery.outcome_tags import outcomes_now, tag_outcomes
from llmops_assets.delivery.rollout import move_alias, retire_others
from llmops_assets.domain.desired_serving import (
    ENVIRONMENTS,
    Desired,
    Environment,
    desired_serving,
    runs,
    why_abandoned,
)
from llmops_assets.domain.keys import short
from llmops_assets.domain.models import Frozen
from llmops_assets.domain.records import Release
from llmops_assets.machine.background import Background, StillRunning
from resources.artifact_store.store import StoreError
from resources.assembly import Clients
from resources.ledger import Conflict, Ledger
from resources.model_registry.interface import CHAMPION
from resources.prompt_registry.mlflow import MlflowPrompts
from resources.serving.interface import Serving, ServingError

ROUNDS = 5
"""How often it looks again after a change. A run that moves traffic meanwhile writes the ledger first, so the next
look follows it."""
ALIAS_PATIENCE_S = 10.0
"""How long a run waits for the registry. MLflow's client tries an unreachable server for 4 minutes."""
ALIAS, OUTCOMES, PROMPTS = "champion alias", "outcomes", "prompt aliases"


class Reconciled(Frozen):
    """What a reconciliation did, and what it could not do."""

    done: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reconciler:
    """The reconciler of one project's endpoints."""

    project: str
    ledger: Ledger
    serving: Serving
    drain: float
    start: Callable[[str, Release], None]
    """Starts a healthy engine in an environment, with the release's weights from the store."""
    move_alias: Callable[[str], None]
    """Moves the registry's alias to the model of a revision."""
    tag_outcomes: Callable[[Mapping[str, str]], None] = lambda outcomes: None
    """Tags in MLflow what became of revisions."""
    prompts: tuple[PromptProposal, ...] = ()
    """Prompts of the registry with an alias that follows production."""
    move_prompt: Callable[[PromptProposal, str], None] = lambda prompt, revision: None
    """Moves a prompt's alias to the version with the template of a revision."""

    @classmethod
    def of(cls, clients: Clients, project: str, say: Callable[[str], None] = lambda text: None) -> "Reconciler":
        def move(revision: str) -> None:
            move_alias(clients.registry, CHAMPION, clients.ledger.records_of(project, revision))

        source = clients.settings.project(project)

        def move_prompt(prompt: PromptProposal, revision: str) -> None:
            text: str = clients.sources(source).at(revision, served=True).values[prompt.key]
            if prompt.released and text:
                MlflowPrompts(clients.tracking.server).release(prompt.name, prompt.released, text, revision)

        return cls(
            project=project,
            ledger=clients.ledger,
            serving=clients.serving,
            drain=clients.settings.serving.drain,
            start=lambda environment, release: start_engine(clients, environment, release, say),
            move_alias=move,
            tag_outcomes=lambda outcomes: tag_outcomes(clients, project, outcomes),
            prompts=tuple(p for p in source.proposals.prompts if p.released) if source.proposals else (),
            move_prompt=move_prompt,
        )

    def run(self, environments: Sequence[Environment] = ENVIRONMENTS, start_stopped: bool = False) -> Reconciled:
        """Makes the environments agree with the ledger; each fault is reported, and the rest goes on.

        Args:
            start_stopped: also start what `llmops down` stopped.
        """
        done: list[str] = []
        faults: list[str] = []
        try:
            stopped = self.serving.stopped()
        except ServingError as error:  # an unreadable state is not taken for an empty one
            return Reconciled(faults=(str(error),))
        if stopped and not start_stopped:
            left = self._abandon()
            return Reconciled(done=(left,) if left else ())
        for environment in environments:
            try:
                done += self._settle(environment)
            except (ServingError, StoreError, OSError) as error:
                faults.append(f"{environment}: {error}")
        if any(self.serving.deployed(self.project, e) for e in ENVIRONMENTS):
            try:
                done += [f"restarted {name}" for name in self.serving.ensure_running()]
            except ServingError as error:
                faults.append(str(error))
        return Reconciled(done=tuple(done), faults=tuple(dict.fromkeys(faults)))

    def _settle(self, environment: Environment) -> list[str]:
        done: list[str] = []
        for _ in range(ROUNDS):
            # In this order: a run writes the ledger before it moves traffic, so what is seen here is explained there.
            deployed = self.serving.deployed(self.project, environment)
            weights = self.serving.weights(self.project, environment)
            if environment == "production" and (left := self._abandon()):
                done.append(left)
            now = self._apply(environment, self._desired(environment, deployed), deployed, weights)
            done += now
            if not now:
                break
        return done

    def _abandon(self) -> str | None:
        """Ends a running rollout that no active request runs."""
        found = self.ledger.rollout(self.project)
        if found is None or found[3].status != "running" or runs(found[3], self.ledger.active_request(self.project)):
            return None
        why = why_abandoned(found[3], self.ledger.requests(self.project))
        try:
            self.ledger.save_rollout(found[0], found[1], found[3].returned(why))
        except Conflict:
            return None  # it has ended meanwhile
        return f"ended the rollout of {short(found[3].release)}: {why}"

    def _desired(self, environment: Environment, deployed: Sequence[str]) -> Desired:
        active = self.ledger.active_request(self.project)
        found = self.ledger.rollout(self.project) if environment == "production" else None
        serving = self.ledger.serving(self.project, environment)
        return desired_serving(serving.release if serving else None, active, found[3] if found else None, deployed)

    def _apply(
        self, environment: Environment, desired: Desired, deployed: Sequence[str], weights: dict[str, float]
    ) -> list[str]:
        done: list[str] = []
        if desired.engine is not None and desired.engine not in deployed:
            release = self.ledger.release(desired.engine)
            if release is None:
                raise StoreError(
                    f"the ledger does not contain release {short(desired.engine)}, which it says is served"
                )
            self.start(environment, release)
            done.append(f"started {environment}'s engine of {short(desired.engine)} from the store")
        if not _equal(weights, desired.traffic):
            self.serving.route(self.project, environment, desired.traffic)
            shares = ", ".join(f"{share:.0%} to {short(release)}" for release, share in desired.traffic.items())
            done.append(f"routed {environment}'s traffic: {shares or 'none'}")
        if desired.ends_others:
            keep = {*desired.traffic, *([desired.engine] if desired.engine else [])}
            if others := [digest for digest in deployed if digest not in keep]:
                retire_others(self.serving, self.project, environment, [*keep], self.drain)
                done.append(f"ended {environment}'s engine of {', '.join(map(short, others))}")
        return done

    def align_mlflow(self) -> str | None:
        """Moves the aliases of model and prompts to what production serves, and tags outcomes that no run could tag.

        Returns why it could not, and then tries again later. The ledger knows what MLflow was last told, so nothing is
        asked of it while that is right.
        """
        return self._align_alias() or self._align_prompts() or self._align_outcomes()

    def _align_alias(self) -> str | None:
        serving = self.ledger.serving(self.project, "production")
        if serving is None or self.ledger.projected(self.project, ALIAS) == serving.release:
            return None
        told = "the registry's alias champion is not moved yet"
        if fault := _within_patience(lambda: self.move_alias(serving.revision)):
            return f"{told}: {fault}"
        self.ledger.note_projected(self.project, ALIAS, serving.release)
        return None

    def _align_prompts(self) -> str | None:
        serving = self.ledger.serving(self.project, "production")
        if serving is None or not self.prompts:
            return None
        wanted = ", ".join([serving.release, *(f"{p.name}@{p.released}={p.key}" for p in self.prompts)])
        if self.ledger.projected(self.project, PROMPTS) == wanted:
            return None
        for prompt in self.prompts:
            if fault := _within_patience(partial(self.move_prompt, prompt, serving.revision)):
                return f"the alias {prompt.released} of the prompt {prompt.name} is not moved yet: {fault}"
        self.ledger.note_projected(self.project, PROMPTS, wanted)
        return None

    def _align_outcomes(self) -> str | None:
        outcomes = outcomes_now(self.ledger, self.project)
        text = json.dumps(outcomes, sort_keys=True)
        before = self.ledger.projected(self.project, OUTCOMES)
        if before == text or not outcomes:
            return None
        known = parse_object(before) if before else {}
        changed = {revision: outcome for revision, outcome in outcomes.items() if known.get(revision) != outcome}
        if changed and (fault := _within_patience(lambda: self.tag_outcomes(changed))):
            return f"MLflow does not show the newest outcomes yet: {fault}"
        self.ledger.note_projected(self.project, OUTCOMES, text)
        return None


def _within_patience(work: Callable[[], None]) -> str | None:
    """Why another system was not told; None if it was. Nothing that it raises may stop a release."""
    try:
        Background[None](ALIAS_PATIENCE_S)(work)
    except StillRunning as error:
        return str(error)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def start_engine(clients: Clients, environment: str, release: Release, say: Callable[[str], None]) -> None:
    """Starts a healthy engine for a release, with its weights from the store; sends it no traffic.

    Raises:
        StoreError: the weights are missing or damaged.
        ServingError: the engine does not start.
    """
    store, uri = clients.store, release.artifact_uri
    file, sha256 = store.fetch(uri) / release.file, store.sha256(uri, release.file)
    clients.serving.deploy(release.project, environment, release, file, say, sha256)


def _equal(one: dict[str, float], other: dict[str, float]) -> bool:
    return one.keys() == other.keys() and all(abs(one[release] - other[release]) < 1e-6 for release in one)
