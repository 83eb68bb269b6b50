"""A record as Dagster shows it: the metadata and tags that a materialization has, whoever reports it.

A stage reports what it made or reused, a sensor what a commit reuses, and a rollback what it did to production.
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from llmops_assets.delivery.run_tags import about_commit
from llmops_assets.domain.keys import short
from llmops_assets.domain.records import ProductionEndpoint, Record
from resources.project_source.revisions import ProjectRepository

VERSION, READ = "dagster/data_version", "dagster/input_data_version"


def record_metadata(source: ProjectRepository, revision: str, record: Record, *, reused: bool) -> dict[str, Any]:
    """Who made the record, how long that took, for which commit it is shown, and its key."""
    return {
        "made_by": reused_from(record) if reused else "this run",
        "seconds": 0.0 if reused else record.made_by.seconds,
        **about_commit(source, revision),
        "key": record.key,
    }


def record_tags(project: str, record: Record, reads: Mapping[str, str], *, reused: bool) -> dict[str, str]:
    """By these Dagster tells what is out of date.

    Args:
        project: whose asset shows it; another one may have made it.
        reads: asset → version, of what the record was made from.
    """
    return {
        VERSION: record.key,
        **{f"{READ}/{project}/{name}": version for name, version in reads.items()},
        **({"reused": "true"} if reused else {}),
    }


def production_metadata(record: ProductionEndpoint) -> dict[str, Any]:
    """What became of production, and where it is."""
    return {
        "release": short(record.release),
        **reached_at(record.base_url),
        "outcome": record.outcome,
        "replaces": short(record.replaces) if record.replaces else "nothing",
        "canary_requests": record.requests,
    }


def reached_at(base_url: str) -> dict[str, Any]:
    """Where an endpoint is. Its base URL is for clients, and answers nobody else; the list of its models is a page."""
    return {"base_url": base_url, "models_page": dg.MetadataValue.url(f"{base_url}/models")}


def reused_from(record: Record) -> str:
    """Whose work a reused record is, in words."""
    return f"reused from {short(record.made_by.revision)}, run {record.made_by.run_id[:8]}"
