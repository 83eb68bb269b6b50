"""Gathers what DORA's measures are computed from: what production served, and the commits of each release.

`llmops_assets.domain.dora` has the definitions.
"""

from typing import Any

from llmops_assets.domain.dora import DAY_S, NO_DATA, Dora, Served, measure
from resources.ledger import Ledger
from resources.project_source.errors import SourceError
from resources.project_source.revisions import ProjectRepository

WINDOW_DAYS = 30


def dora_of(source: ProjectRepository, ledger: Ledger, days: float = WINDOW_DAYS) -> Dora:
    """The measures of the last days. Commits that the mirror does not have count in no lead time."""
    name, now = source.project.name, ledger.clock()
    begin = now - days * DAY_S
    served: list[Served] = []
    deployed: str | None = None
    release_before: str | None = None
    for release, revision, at, rollback in ledger.production_history(name):
        fresh = not rollback and release != release_before
        # Git walks the history for each: only deployments in the window have a lead time there.
        commits = _commits(source, deployed, revision) if fresh and at >= begin else ()
        served.append(Served(release=release, at=at, rollback=rollback, commits=commits))
        deployed, release_before = revision if fresh else deployed, release
    returned = [
        rolled.at
        for rolled in ledger.rolled(name)
        if rolled.state.status == "returned"
        and rolled.state.replaces
        and rolled.state.results
        # Not one that a cancellation or a crash ended, nor a rollback, which begins at weight 0: users had got it.
        and rolled.state.results[-1].outcome in ("failed", "undecided")
        and rolled.state.results[-1].weight > 0
    ]
    times = ledger.request_times(name)
    since = min((made for made, _ in times.values()), default=None)
    return measure(served, returned, days * DAY_S, now, since)


def _commits(source: ProjectRepository, before: str | None, revision: str) -> tuple[float, ...]:
    """Commit times of what this deployment brought first: of the first one the released commit only, else all since."""
    try:
        return tuple(source.git.commit_times(before, revision))
    except SourceError:
        return ()


def dora_metadata(source: ProjectRepository, ledger: Ledger) -> dict[str, Any]:
    """The measures as metadata of production_endpoint, so that Dagster plots them."""
    found = dora_of(source, ledger)
    hours = {"lead_time": found.lead_time_s, "time_to_restore": found.time_to_restore_s}
    values: dict[str, float | None] = {
        **{f"dora_{name}_hours": seconds / 3600 if seconds is not None else None for name, seconds in hours.items()},
        "dora_deployments_per_week": found.deployments_per_week,
        "dora_change_failure_rate": found.change_failure_rate,
    }
    return {name: NO_DATA if value is None else round(value, 4) for name, value in values.items()}
