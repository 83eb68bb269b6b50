"""DORA's measures of software delivery, from what production served. Pure.

Definitions: https://dora.dev/guides/dora-metrics-four-keys/ ("software delivery performance metrics"). Here

- a *deployment* is a rollout that gave production to another release; a rollback, or the same release for another
  commit, is none;
- *change lead time* is the median time from a commit on the watched branch until its first deployment;
- *deployment frequency* counts deployments;
- *change fail rate* is the share of deployments that needed intervention: rolled back since, or returned by the canary
  when users had got it already. Both count as attempts;
- *failed deployment recovery time* is the median time from a deployment that was rolled back until production served
  another release. A series of rollbacks without a deployment in between is one failure, which ends with the last one:
  the first did not restore service.

A measure without evidence is None and never 0.
"""

from collections.abc import Sequence
from statistics import median

from pydantic import Field

from llmops_assets.domain.formatting import figure, iso, time_span
from llmops_assets.domain.models import Frozen

DAY_S, WEEK_S = 86400.0, 7 * 86400.0


class Served(Frozen):
    """When production began to serve a release."""

    release: str
    at: float = Field(description="Epoch seconds.")
    rollback: bool = Field(default=False, description="Whether a rollback brought it.")
    commits: tuple[float, ...] = Field(
        default=(), description="Commit times of the changes that reached production for the first time, epoch seconds."
    )


class Dora(Frozen):
    """The measures over a window."""

    start: float
    end: float
    complete: bool = Field(description="Whether the project existed through the whole window; else it is shorter.")
    deployments: int
    deployments_per_week: float | None = Field(description="None also where less than a week was observed.")
    lead_time_s: float | None
    changes: int = Field(description="Commits with a lead time.")
    change_failure_rate: float | None = Field(ge=0, le=1)
    rolled_back: int
    returned: int
    time_to_restore_s: float | None
    incidents: int
    out_of_order: int = Field(description="Times left out, because they were before the time that they follow.")

    def as_json(self) -> dict[str, object]:
        """For programs: null where there is no data."""
        return {
            "window": {
                "from": iso(self.start), "to": iso(self.end),
                "days": round((self.end - self.start) / DAY_S, 3), "complete": self.complete,
            },
            "lead_time": {"median_seconds": self.lead_time_s, "changes": self.changes},
            "deployment_frequency": {"deployments": self.deployments, "per_week": self.deployments_per_week},
            "change_failure_rate": {
                "rate": self.change_failure_rate, "rolled_back": self.rolled_back, "returned": self.returned,
                "attempts": self.deployments + self.returned,
            },
            "time_to_restore": {"median_seconds": self.time_to_restore_s, "incidents": self.incidents},
            "out_of_order": self.out_of_order,
        }  # fmt: skip

    def rows(self) -> list[tuple[str, str, str]]:
        """(measure, value, what it is based on), for people."""
        attempts = self.deployments + self.returned
        weekly = f"{figure(self.deployments_per_week)} a week" if self.deployments_per_week is not None else ""
        return [
            ("lead time for changes", _span(self.lead_time_s), f"median of {_many(self.changes, 'change')}"),
            (
                "deployment frequency",
                weekly or (f"{self.deployments}" if self.deployments else NO_DATA),
                f"{_many(self.deployments, 'deployment')} in {_span(self.end - self.start)}",
            ),
            (
                "change failure rate",
                NO_DATA if self.change_failure_rate is None else f"{self.change_failure_rate:.0%}",
                f"{self.rolled_back} rolled back and {self.returned} returned of {attempts}" if attempts else "none",
            ),
            ("time to restore", _span(self.time_to_restore_s), f"median of {_many(self.incidents, 'rollback')}"),
        ]


NO_DATA = "no data"


def measure(
    served: Sequence[Served], returned: Sequence[float], window_s: float, now: float, since: float | None
) -> Dora:
    """The measures of the window that ends now.

    Args:
        served: all that production served, in the order in which it did.
        returned: when candidates that users had got were returned by their canary.
        since: when the project was first known; None: it is not.
    """
    start = max(now - window_s, min(since, now)) if since is not None else now - window_s
    deployed, failed, incidents = _history(served)
    inside = [n for n in deployed if served[n].at >= start]
    leads = [served[n].at - commit for n in inside for commit in served[n].commits]
    times = [until - begun for begun, until in incidents if until >= start]
    back = sum(n in failed for n in inside)
    away = sum(at >= start for at in returned)
    attempts, span = len(inside) + away, now - start
    good, kept = [t for t in leads if t >= 0], [t for t in times if t >= 0]
    return Dora(
        start=start,
        end=now,
        complete=since is not None and since <= now - window_s,
        deployments=len(inside),
        deployments_per_week=len(inside) / (span / WEEK_S) if inside and span >= WEEK_S else None,
        lead_time_s=median(good) if good else None,
        changes=len(good),
        change_failure_rate=(back + away) / attempts if attempts else None,
        rolled_back=back,
        returned=away,
        time_to_restore_s=median(kept) if kept else None,
        incidents=len(kept),
        out_of_order=len(leads) - len(good) + len(times) - len(kept),
    )


def _history(served: Sequence[Served]) -> tuple[list[int], set[int], list[tuple[float, float]]]:
    """(deployments, those that were rolled back, (beginning, end) of each failure), by position in `served`."""
    deployed: list[int] = []
    failed: set[int] = set()
    incidents: list[tuple[float, float]] = []
    came: int | None = None
    """The deployment that production serves; None: a rollback brought what it serves."""
    for n, one in enumerate(served):
        if one.rollback:
            if came is not None:
                failed.add(came)
                incidents.append((served[came].at, one.at))
            elif incidents:
                incidents[-1] = (incidents[-1][0], one.at)
            came = None
        elif n == 0 or one.release != served[n - 1].release:
            deployed.append(n)
            came = n
    return deployed, failed, incidents


def _span(seconds: float | None) -> str:
    if seconds is None:
        return NO_DATA
    return f"{figure(seconds / DAY_S)} d" if seconds >= 2 * DAY_S else time_span(seconds)


def _many(count: int, what: str) -> str:
    return f"{count or 'no'} {what}{'' if count == 1 else 's'}"
