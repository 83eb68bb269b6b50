"""The failure that Dagster shows for an error that a person can fix: what is wrong, where, and the remedy.

Such an error needs no stack trace of ours, so it has no cause. A bug keeps its own exception.
"""

import re

import dagster as dg

from llmops_assets.config.yaml_validation import ConfigError
from llmops_assets.programs.runtime.errors import BadInput
from resources.project_source.dvc import DataNotPushed

_REMEDY = re.compile(r"\s*\bRemed(?:y|ies): ")
COMMIT = "correct it, commit and push: the next commit starts a new run"


def failure(error: Exception, text: str | None = None) -> dg.Failure:
    """A failure without retries.

    Args:
        text: what to say instead of the error's own text.
    """
    said = text or str(error)
    what, *remedies = _REMEDY.split(said)
    remedy = " ".join(remedies) or _usual_remedy(error)
    where = error.where if isinstance(error, BadInput) else ""
    if isinstance(error, ConfigError):
        where = ", ".join(dict.fromkeys(problem.split(": ")[0] for problem in error.problems))
        what = "\n".join(f"- {problem}" for problem in error.problems)
    metadata: dict[str, dg.MetadataValue] = {
        "what": dg.MetadataValue.md(what.rstrip("; .") if not isinstance(error, ConfigError) else what)
    }
    metadata |= {"where": dg.MetadataValue.text(where)} if where else {}
    metadata |= {"remedy": dg.MetadataValue.md(remedy)} if remedy else {}
    return dg.Failure(said, metadata=metadata, allow_retries=False)


def _usual_remedy(error: Exception) -> str:
    """The remedy of errors whose text is what to correct."""
    if isinstance(error, DataNotPushed):
        return "`dvc push` where the data is; the sensor `dvc` continues once the remote has it"
    if isinstance(error, BadInput):
        return f"{COMMIT} (data: `dvc add` and `dvc push` first)"
    return COMMIT if isinstance(error, ConfigError) else ""
