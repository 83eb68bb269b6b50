"""Scores answers with the metrics of the catalog and with a project's own, without network access.

Metrics that read likelihoods need the model: `inference` computes the likelihoods.
"""

import math
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from llmops_assets.catalog import METRICS, UnavailablePart, UnknownPart
from llmops_assets.domain.evaluated_rows import interval
from llmops_assets.domain.gate_rule import CONFIDENCE
from llmops_assets.domain.records import Metric
from llmops_assets.programs.evaluation.metrics.base import Answer, AnyMetric, RowMetric, Subject, TaskMetric, TaskRow
from llmops_assets.programs.runtime.errors import BadInput
from llmops_assets.programs.runtime.specs import CodeRules, MetricSpec

Scores = dict[str, float | None]
NO_RULES = CodeRules()


class Scored(NamedTuple):
    metrics: tuple[Metric, ...]
    """In the order asked; one whose value is not finite is left out: a gate on it finds no evidence, and fails."""
    rows: list[Scores]
    """Of each row: metric → its value, None if the row has none."""
    statistics: list[dict[str, list[float]]]
    """Of each row: metric → its sufficient statistics. A metric that has none of a row is left out."""
    refused: Mapping[str, str] = MappingProxyType({})
    """Metric → why its value is no evidence."""
    tasks: Mapping[str, list[TaskRow]] = MappingProxyType({})
    """Metric with rows of its own → these rows."""
    facts: Mapping[str, str] = MappingProxyType({})
    """Further lines of the report: label → text."""
    measured_with: Mapping[str, str] = MappingProxyType({})
    """What else has changed these values, see `Measured`."""


def check_metrics(specs: Sequence[MetricSpec], rules: CodeRules = NO_RULES, rows: Sequence[Answer] = ()) -> None:
    """Loads every metric, so that an error is reported before any inference.

    Raises:
        BadInput: an unknown or unavailable metric, one that measures nothing on these rows, options that cannot
            be used, or a function that cannot be loaded.
    """
    for spec in specs:
        if spec.file is not None:
            from llmops_assets.programs.evaluation.metrics.custom import call_function

            call_function(spec, rules, ())
        else:
            try:
                METRICS[spec.part].load()
            except UnknownPart as error:
                raise BadInput(f"{error}, or a file and a function", spec.name) from error
            except UnavailablePart as error:
                raise BadInput(str(error), spec.name) from error
            _metric(spec, rules).check(rows)


def measure_tasks(specs: Sequence[MetricSpec], subject: Subject, most: int | None = None) -> dict[str, list[TaskRow]]:
    """The rows of each metric that has rows of its own, at most the first `most`."""
    return {metric.name: metric.measure(subject, most) for metric in _tasks(specs)}


def longest_request(specs: Sequence[MetricSpec], tokenizer: Any) -> int:
    """Tokens of the longest request of these metrics to an engine; 0 if none asks it."""
    return max((metric.longest(tokenizer) for metric in _tasks(specs)), default=0)


def _tasks(specs: Sequence[MetricSpec]) -> list[TaskMetric]:
    metrics = (_metric(spec, NO_RULES) for spec in specs if spec.file is None)
    return [metric for metric in metrics if isinstance(metric, TaskMetric)]


def noise_of(
    specs: Sequence[MetricSpec], first: Mapping[str, list[TaskRow]], again: Mapping[str, list[TaskRow]]
) -> dict[str, float]:
    """How much each metric with rows of its own differs between two measurements of its first rows."""
    found = {}
    for metric in _tasks(specs):
        one, two = first[metric.name][: len(again[metric.name])], again[metric.name]
        values = [_whole(metric, [row.statistics for row in rows]) for rows in (one, two)]
        found[metric.name] = abs(values[0] - values[1])
    return found


def reads_likelihoods(specs: Iterable[MetricSpec]) -> bool:
    """Whether a metric needs the likelihoods of the references."""
    return any(s.file is None and METRICS[s.part].reads == "likelihoods" for s in specs)


def score(
    specs: Sequence[MetricSpec],
    answers: Sequence[Answer],
    rules: CodeRules = NO_RULES,
    tasks: Mapping[str, list[TaskRow]] | None = None,
) -> Scored:
    """All metrics over all rows, with the values and the statistics of each row.

    Args:
        specs: the metrics.
        answers: one for each row, with likelihoods if a metric reads them.
        rules: how the project's own functions run.
        tasks: of `measure_tasks`, for metrics that have rows of their own; None: these are left out.
    """
    tasks = tasks or {}
    metrics = [_metric(spec, rules) for spec in specs]
    found = _compute([m for m in metrics if not isinstance(m, TaskMetric)], answers)
    for metric in metrics:
        if isinstance(metric, TaskMetric) and metric.name in tasks:
            found[metric.name] = _whole(metric, [row.statistics for row in tasks[metric.name]])
    figures = tuple(
        Metric(
            name=s.name,
            value=found[s.name],
            higher_is_better=higher_is_better(s),
            part=part(s),
            per_token=per_token(s),
            **_bounds(metric, _statistics(s.name, found, tasks)),
        )
        for s, metric in zip(specs, metrics, strict=True)
        if math.isfinite(found.get(s.name, math.nan))
    )
    by_row, statistics = [], []
    for i in range(len(answers)):
        values = {s.name: found[f"{s.name}/rows"][i] for s in specs if f"{s.name}/rows" in found}
        by_row.append({name: value if math.isfinite(value) else None for name, value in values.items()})
        mine = {s.name: found[f"{s.name}/stats"][i] for s in specs if f"{s.name}/stats" in found}
        statistics.append({name: row for name, row in mine.items() if all(map(math.isfinite, row))})
    refused = {s.name: found[f"{s.name}/refused"] for s in specs if f"{s.name}/refused" in found}
    return Scored(
        figures,
        by_row,
        statistics,
        refused,
        tasks,
        {f"{name}: no evidence": why for name, why in refused.items()}
        | {label: text for metric in metrics for label, text in metric.facts().items()},
        {name: text for metric in metrics for name, text in metric.measured_with().items()},
    )


def _whole(metric: RowMetric, statistics: Sequence[Sequence[float]]) -> float:
    import numpy as np

    return float(metric.value(np.asarray(statistics, dtype=float).sum(0)))


def _statistics(
    name: str, found: Mapping[str, Any], tasks: Mapping[str, Sequence[TaskRow]]
) -> Sequence[Sequence[float]] | None:
    """The statistics of a metric's rows, whichever rows it has."""
    return [row.statistics for row in tasks[name]] if name in tasks else found.get(f"{name}/stats")


def higher_is_better(spec: MetricSpec) -> bool:
    """From the spec for a project's own metric, else from the catalog."""
    if spec.higher_is_better is not None:
        return spec.higher_is_better
    return METRICS[spec.part].higher_is_better if spec.file is None else True


def _bounds(metric: AnyMetric, statistics: Sequence[Sequence[float]] | None) -> dict[str, float]:
    """The metric's interval, if its statistics give one."""
    import numpy as np

    if not isinstance(metric, RowMetric) or not statistics:
        return {}
    rows = np.array(statistics, dtype=float)
    if not np.isfinite(rows).all():
        return {}
    low, high = interval(rows, metric.value, CONFIDENCE)
    return {"low": low, "high": high} if math.isfinite(low) and math.isfinite(high) else {}


def part(spec: MetricSpec) -> str:
    """The metric's name in the catalog; empty for a project's own function."""
    return spec.part if spec.file is None else ""


def per_token(spec: MetricSpec) -> bool:
    """Whether its unit is a token of the model."""
    return spec.file is None and METRICS[spec.part].per_token


def libraries_of(specs: Iterable[MetricSpec]) -> tuple[str, ...]:
    """Distributions whose versions change the values of these metrics."""
    found = (METRICS[s.part].libraries for s in specs if s.file is None)
    return tuple(sorted({"evaluate", *(name for names in found for name in names)}))


def _metric(spec: MetricSpec, rules: CodeRules) -> AnyMetric:
    if spec.file is not None:
        from llmops_assets.programs.evaluation.metrics.custom import Custom

        return Custom(spec, rules)
    metric: AnyMetric = METRICS[spec.part].load()(spec.name, spec.options)
    return metric


def _compute(metrics: Sequence[AnyMetric], answers: Sequence[Answer]) -> dict[str, Any]:
    """The value of each metric, with the values and statistics of each row, as `hugging_face.measured` names them."""
    if not metrics:
        return {}
    import evaluate

    from llmops_assets.programs.evaluation.metrics.hugging_face import EvaluateMetric

    # evaluate locks files by the metric's name: concurrent evaluations must not share them.
    with tempfile.TemporaryDirectory(prefix="llmops-metrics-") as cache:
        found: dict[str, Any] = evaluate.combine([EvaluateMetric.of(m, answers, cache) for m in metrics]).compute(
            predictions=[a.prediction for a in answers], references=[a.reference for a in answers]
        )
    return found
