"""Dagster Pipes as the contract between Compute and a program: progress and metadata, read from a file.

A program that calls `dagster_pipes.open_dagster_pipes()` gets its context and the path of its messages from the
environment. Dagster's Pipes clients read messages while they wait for the process that they started; here they are read
from the job's file, so that a job adopted by another run loses none.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dagster_pipes import (
    DAGSTER_PIPES_CONTEXT_ENV_VAR,
    DAGSTER_PIPES_MESSAGES_ENV_VAR,
    PIPES_PROTOCOL_VERSION_FIELD,
    PipesContextData,
    encode_param,
)

from llmops_assets.programs.runtime.entry import MESSAGES
from resources.compute.interface import Job, OnProgress


def pipes_environment(job: Job, folder: Path) -> dict[str, str]:
    """The variables in which `open_dagster_pipes` finds its context and where to write messages."""
    context = PipesContextData(
        asset_keys=[job.asset or job.name],
        code_version_by_asset_key=None,
        provenance_by_asset_key=None,
        partition_key=None,
        partition_key_range=None,
        partition_time_window=None,
        run_id=job.name,  # a job outlives the run that submitted it
        job_name=None,
        retry_number=0,
        extras={"output": str(folder)},
    )
    return {
        DAGSTER_PIPES_CONTEXT_ENV_VAR: encode_param({"data": context}),
        DAGSTER_PIPES_MESSAGES_ENV_VAR: encode_param({"path": str(folder / MESSAGES)}),
    }


def forward_progress(folder: Path, seen: int, on_progress: OnProgress | None) -> int:
    """Forwards the messages from byte `seen` on; returns the number of bytes read so far.

    Custom messages are progress lines; log messages become lines with a `message`.
    """
    path = folder / MESSAGES
    if not path.exists():
        return seen
    with path.open("rb") as file:
        file.seek(seen)
        data = file.read()
    end = data.rfind(b"\n") + 1  # a line that is still being written is read the next time
    if on_progress is not None:
        for method, params in _messages(data[:end]):
            payload = params.get("payload")
            if method == "report_custom_message" and isinstance(payload, dict):
                on_progress(payload)
            elif method == "log" and params.get("message"):
                on_progress({"message": str(params["message"])})
    return seen + end


def reported_metadata(folder: Path) -> dict[str, Any]:
    """The metadata of every `report_asset_materialization`, as Pipes writes it: name → {raw_value, type}."""
    path = folder / MESSAGES
    found: dict[str, Any] = {}
    for method, params in _messages(path.read_bytes()) if path.exists() else ():
        if method == "report_asset_materialization" and isinstance(params.get("metadata"), dict):
            found |= params["metadata"]
    return found


def _messages(data: bytes) -> Iterator[tuple[str, dict[str, Any]]]:
    """(method, params) of each message, without a line that a kill has truncated."""
    for line in data.splitlines():
        try:
            message = json.loads(line)
        except ValueError:
            continue
        if isinstance(message, dict) and PIPES_PROTOCOL_VERSION_FIELD in message:
            yield str(message.get("method")), message.get("params") or {}
