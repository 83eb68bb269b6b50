"""What a judge prefers: a report's answers, or the champion's. Made once for two reports, and read by verdicts."""

from collections.abc import Mapping
from typing import Any

from llmops_assets.config.metrics import ListedMetric, name_of, part_of
from llmops_assets.config.project import ProjectConfig
from llmops_assets.domain.gate_rule import Of
from llmops_assets.domain.policy import Policy
from llmops_assets.domain.preference import Preference, preference_key
from llmops_assets.domain.records import JudgedPreference, Measured
from resources.ledger import Ledger


def preference_metrics(config: ProjectConfig) -> dict[str, ListedMetric]:
    """Name → metric, of those that compare with the champion's answers."""
    return {
        name_of(metric): metric
        for metric in config.evaluation.metrics
        if isinstance(metric, ListedMetric) and (part := part_of(metric)) and part.reads == "champion"
    }


def gated_preferences(config: ProjectConfig, policy: Policy, of: Of) -> dict[str, ListedMetric]:
    """Those of them that a gate on this kind of report names. Others are not judged: each costs two requests a row."""
    gated = {gate.metric for gate in policy.gates if gate.of == of}
    return {name: metric for name, metric in preference_metrics(config).items() if name in gated}


def key_of(values: Mapping[str, Any], name: str, report: Measured, champion: Measured) -> str:
    """The key of the preferences between two reports.

    Args:
        values: of the revision; they have the metric with its judge and the digest of its rubric.
    """
    entries = values["evaluation"]["metrics"]
    entry = next(e for e in entries if isinstance(e, Mapping) and e.get("name") == name)
    return preference_key(entry, report.key, champion.key)


def preference_of(
    ledger: Ledger, values: Mapping[str, Any], name: str, report: Measured | None, champion: Measured | None
) -> Preference | None:
    """What was judged of two reports; None if nothing was."""
    if report is None or champion is None:
        return None
    found = ledger.find(key_of(values, name, report, champion))
    return found.preference if isinstance(found, JudgedPreference) else None
