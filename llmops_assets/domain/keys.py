"""Digests and keys, which identify equal work. Nothing here is specific to a stage."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

SHORT = 12  # hex digits shown to people; 48 bits, so collisions within one project's history are out of the question


def digest(value: Any) -> str:
    """SHA-256 (hex) of a JSON value in canonical form: sorted keys, no spaces, UTF-8, no NaN.

    Raises:
        ValueError, TypeError: the value is not JSON.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def stage_key(
    stage: str, version: int, values: Mapping[str, Any], records: Mapping[str, str], salt: str | None = None
) -> str:
    """The key of a stage at a revision.

    Args:
        stage: its name.
        version: the program version, raised manually with every edit that changes results.
        values: the resolved values of the revision that the stage reads.
        records: output digests of the records that it reads, by "stage" or "stage.output".
        salt: set by a deliberate rebuild, so that the old result is not reused.
    """
    parts: dict[str, Any] = {"stage": stage, "version": version, "values": dict(values), "records": dict(records)}
    if salt:
        parts["salt"] = salt
    return digest(parts)


def short(sha: str) -> str:
    return sha[:SHORT]
