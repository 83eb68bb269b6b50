"""The part of the recovery sensor that reconciles a project's endpoints with the ledger.

It never fails a tick and never holds it up: what is wrong with serving must not stop approvals and crashed runs.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from llmops_assets.delivery.reconciliation import Reconciled, Reconciler
from llmops_assets.domain.records import Release
from llmops_assets.machine.background import Background, StillRunning
from resources.artifact_store.store import StoreError
from resources.serving.interface import ServingError

PATIENCE_S = 10.0
"""How long a tick waits. Dagster limits a tick to 60 s, and an engine may need 120 s to start."""
ALIAS_PATIENCE_S = 1.0
"""How long a tick waits for the registry, which is less urgent: importing MLflow alone takes seconds."""
LONGEST_PAUSE_S = 60.0


class Pauses:
    """Lets something that keeps failing be tried less and less often: at once, then after 2 s, 4 s, ... 60 s."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._failures = dict[str, tuple[int, float, str]]()

    def why_not(self, what: str) -> str | None:
        """Why it is not tried now: the last error; None if it may be tried."""
        _, until, error = self._failures.get(what, (0, 0.0, ""))
        left = until - self._clock()
        return f"{error} (next attempt in {left:.0f} s)" if left > 0 else None

    def failed(self, what: str, error: str) -> None:
        count = self._failures.get(what, (0, 0.0, ""))[0] + 1
        pause = min(LONGEST_PAUSE_S, 2.0 ** (count - 1)) if count > 1 else 0.0
        self._failures[what] = count, self._clock() + pause, error

    def succeeded(self, what: str) -> None:
        self._failures.pop(what, None)


class ServingUpkeep:
    """Reconciles one project's endpoints beside the ticks; one reconciliation at a time."""

    def __init__(self, patience_s: float = PATIENCE_S, clock: Callable[[], float] = time.monotonic):
        self._work = Background[Reconciled](patience_s)
        self._alias = Background[str | None](ALIAS_PATIENCE_S)
        self._pauses = Pauses(clock)
        self._reported = ""

    def __call__(self, reconciler: Reconciler, log: Any) -> str:
        """Reconciles, and returns what is wrong with the endpoints, as text; empty if nothing is."""
        try:
            found = self._work(lambda: self._reconcile(reconciler))
        except StillRunning as error:
            return f"endpoints: {error}"
        except Exception as error:  # whatever it is, the other duties of the tick are done
            found = Reconciled(faults=(f"{type(error).__name__}: {error}",))
        if found.done:
            log.info(f"endpoints: {'; '.join(found.done)}")
        faults = [*found.faults, *([why] if (why := self._align_alias(reconciler)) else [])]
        said = f"endpoints: {'; '.join(faults)}" if faults else ""
        if said and said.partition(" (next attempt")[0] != self._reported:
            log.warning(said)
        self._reported = said.partition(" (next attempt")[0]
        return said

    def _reconcile(self, reconciler: Reconciler) -> Reconciled:
        def start(environment: str, release: Release) -> None:
            what = f"{environment} {release.digest}"
            if why := self._pauses.why_not(what):
                raise ServingError(why)
            try:
                reconciler.start(environment, release)
            except (ServingError, StoreError) as error:
                self._pauses.failed(what, str(error))
                raise
            self._pauses.succeeded(what)

        return replace(reconciler, start=start).run()

    def _align_alias(self, reconciler: Reconciler) -> str | None:
        """Moves the registry's alias; returns why that failed."""
        if why := self._pauses.why_not("alias"):
            return why
        try:
            why = self._alias(reconciler.align_mlflow)
        except StillRunning:
            return None  # the next tick asks how it ended
        except Exception as error:
            why = f"the registry's alias champion is not moved yet: {type(error).__name__}: {error}"
        if why:
            self._pauses.failed("alias", why)
        else:
            self._pauses.succeeded("alias")
        return why
