"""Reports, rows and verdicts for the tests of gates."""

from typing import Any

import numpy as np

from llmops_assets.domain.evaluated_rows import EvaluatedRows
from llmops_assets.domain.gate import judge
from llmops_assets.domain.gate_inputs import Champion, Judged
from llmops_assets.domain.gate_rule import Gate
from llmops_assets.domain.records import EvaluationReport, Metric
from llmops_assets.domain.verdict import Verdict
from llmops_assets.programs.evaluation.metrics.base import RowMetric
from tests.support.records import measured

NO_ROWS = " (no interval: a report stored no rows: the value is judged)"

NOT_WORSE = Gate(metric="perplexity", no_worse_than="champion")


def report(value: float = 10.0, better: bool = False, **change: Any) -> EvaluationReport:
    return measured(metrics=(Metric(name="perplexity", value=value, higher_is_better=better),), **change)


def verdict(gate: Gate, candidate: EvaluationReport | None, **evidence: Any) -> Verdict:
    return judge("the model of abc", [gate], gate.of, Judged(report=candidate, **evidence))


def champion(value: float = 10.0, better: bool = False, **change: Any) -> Champion:
    return Champion(release="f" * 64, report=report(value, better, **change))


def scored(values: Any, columns: tuple[dict[str, Any], ...] = ()) -> EvaluatedRows:
    """Rows of a mean under the name perplexity, which these tests measure."""
    statistics = np.stack([np.asarray(values, dtype=float), np.ones(len(values))], axis=1)
    digests = tuple(map(str, range(len(values))))
    return EvaluatedRows(digests, {"perplexity": statistics}, {"perplexity": RowMetric.value}, columns)
