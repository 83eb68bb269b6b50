"""The metadata and tags that every materialization of a record has.

Stages report records that they computed or reused, sensors those that a commit reuses, rollbacks the endpoint.
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
    """The run that made the record, its duration, the commit that it is shown for, and its key."""
    return {
        "made_by": reused_from(record) if reused else "this run",
        "seconds": 0.0 if reused else record.made_by.seconds,
        **about_commit(source, revision),
        "key": record.key,
    }


def record_tags(project: str, record: Record, reads: Mapping[str, str], *, reused: bool) -> dict[str, str]:
    """Tags from which Dagster computes what is out of date.

    Args:
        project: the project whose asset shows it; another project may have made it.
        reads: asset → version of each input.
    """
    return {
        VERSION: record.key,
        **{f"{READ}/{project}/{name}": version for name, version in reads.items()},
        **({"reused": "true"} if reused else {}),
    }


def production_metadata(record: ProductionEndpoint) -> dict[str, Any]:
    """What production serves now, what it replaced, and its address."""
    return {
        "release": short(record.release),
        **reached_at(record.base_url),
        "outcome": record.outcome,
        "replaces": short(record.replaces) if record.replaces else "nothing",
        "canary_requests": record.requests,
    }


def reached_at(base_url: str) -> dict[str, Any]:
    """Metadata with an endpoint's address. The base URL is not a page itself; its list of models is."""
    return {"base_url": base_url, "models_page": dg.MetadataValue.url(f"{base_url}/models")}


def reused_from(record: Record) -> str:
    """Which commit and run made a reused record, as text."""
    return f"reused from {short(record.made_by.revision)}, run {record.made_by.run_id[:8]}"
