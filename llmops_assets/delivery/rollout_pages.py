"""Shows rollouts on the page of production_endpoint: each step with its weight and figures, and how each rollout ended.

A promoted rollout is part of the materialization. One that was returned, by its figures, a cancellation or a crash,
materialized nothing: it is an observation.
"""

from datetime import UTC, datetime
from typing import Any

import dagster as dg

from llmops_assets.delivery.run_tags import about_commit
from llmops_assets.domain.keys import short
from llmops_assets.domain.rollout import RolloutState
from resources.ledger import Ledger
from resources.project_source.errors import SourceError
from resources.project_source.revisions import ProjectRepository

ROLLOUT = "rollout_id"
"""The metadata that identifies the rollout of an event."""
SHOWN = 10
"""Rollouts in the history, and newest events among which a rollout's own is looked for."""


def rollout_metadata(ledger: Ledger, project: str, identity: int | None = None) -> dict[str, Any]:
    """Metadata on a rollout, by default the newest, and on those before it; empty if there is none."""
    found = ledger.rollouts(project, SHOWN)
    shown = next((r for r in found if identity in (None, r[0])), None)
    if shown is None:
        return {}
    return {
        ROLLOUT: shown[0],
        "rollout": _steps(shown[2]),
        "rollouts": _history([r for r in found if r[0] <= shown[0]]),
    }


def report_returned(instance: dg.DagsterInstance, ledger: Ledger, source: ProjectRepository) -> None:
    """Shows each newer rollout that was returned, unless it is shown already."""
    project = source.project.name
    returned = [r for r in ledger.rollouts(project, SHOWN) if r[2].status == "returned"]
    shown = _shown(instance, project) if returned else frozenset()
    for identity, revision, state, _ in reversed(returned):
        if identity not in shown:
            instance.report_runless_asset_event(_observation(ledger, source, identity, revision, state))


def _observation(
    ledger: Ledger, source: ProjectRepository, identity: int, revision: str, state: RolloutState
) -> dg.AssetObservation:
    why = "; ".join(state.reasons)
    try:
        about = about_commit(source, revision)
    except SourceError:  # rewritten history: the rollout happened anyway
        about = {"commit": revision}
    return dg.AssetObservation(
        dg.AssetKey([source.project.name, "production_endpoint"]),
        description=f"Release {short(state.release)} was returned: {why}",
        metadata={
            "outcome": "returned",
            "release": short(state.release),
            "replaces": short(state.replaces) if state.replaces else "nothing",
            "why": why,
            "canary_requests": state.requests,
            **rollout_metadata(ledger, source.project.name, identity),
            **about,
        },
    )


def _shown(instance: dg.DagsterInstance, project: str) -> frozenset[int]:
    key = dg.AssetKey([project, "production_endpoint"])
    metadata = [
        e.asset_observation.metadata for e in instance.fetch_observations(key, SHOWN).records if e.asset_observation
    ]
    return frozenset(int(m[ROLLOUT].value) for m in metadata if ROLLOUT in m)  # type: ignore[arg-type]


def _steps(state: RolloutState) -> dg.TableMetadataValue:
    records = [
        dg.TableRecord(
            {
                "weight": f"{step.weight:.0%}",
                "outcome": step.outcome,
                "answers": step.answers,
                "figures": "; ".join(step.figures),
            }
        )
        for step in state.history
    ]
    columns = [
        dg.TableColumn(n, "int" if n == "answers" else "string") for n in ("weight", "outcome", "answers", "figures")
    ]
    return dg.MetadataValue.table(records, schema=dg.TableSchema(columns))


def _history(found: list[tuple[int, str, RolloutState, float]]) -> dg.TableMetadataValue:
    columns = ("at", "commit", "release", "outcome", "weights", "why")
    records = [
        dg.TableRecord(
            {
                "at": datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC"),
                "commit": short(revision),
                "release": short(state.release),
                "outcome": state.status,
                "weights": ", ".join(f"{step.weight:.0%}" for step in state.history),
                "why": "; ".join(state.reasons) if state.status == "returned" else "",
            }
        )
        for _, revision, state, at in found
    ]
    return dg.MetadataValue.table(records, schema=dg.TableSchema([dg.TableColumn(n, "string") for n in columns]))
