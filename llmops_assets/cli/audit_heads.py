"""The files of `llmops audit --export` and `--against`, and the text on rows that the trail does not cover."""

from pathlib import Path

from pydantic import ValidationError

from llmops_assets.config.yaml_validation import ConfigError
from llmops_assets.domain.audit import AuditHead, AuditReport
from llmops_assets.domain.formatting import iso


def write_head(file: Path, head: AuditHead | None) -> None:
    """Writes a head for `read_head`.

    Raises:
        ConfigError: there is none yet, or the file cannot be written.
    """
    if head is None:
        raise ConfigError(["the ledger has no events yet, so there is no head to export"])
    try:
        file.write_text(head.model_dump_json(indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError([f"{file}: cannot be written: {error.strerror}"]) from error


def read_head(file: Path) -> AuditHead:
    """Reads a head.

    Raises:
        ConfigError: the file cannot be read, or is none.
    """
    try:
        return AuditHead.model_validate_json(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError([f"{file}: cannot be read: {error.strerror}"]) from error
    except (ValidationError, UnicodeDecodeError) as error:
        raise ConfigError([f"{file}: is not a head that `llmops audit --export` wrote"]) from error


def uncovered(report: AuditReport) -> list[str]:
    """What the trail does not cover, as text."""
    if not report.taken_over or report.taken_over_at is None:
        return []
    rows = ", ".join(f"{count} of {table}" for table, count in sorted(report.taken_over.items()))
    since = iso(report.taken_over_at)
    return [f"not covered before {since}, when this ledger was upgraded: {rows}. Earlier changes to them are unknown"]
