"""Scores answers with the metrics of the catalog and with a project's own, without network access.

`score` takes all texts at once and returns the values over all rows and of each row. Metrics that
read likelihoods need the model: `inference` computes the likelihoods.
"""

import math
import tempfile
from collections.abc import Iterable, Sequence
from typing import Any

from llmops_assets.catalog import METRICS, UnavailablePart, UnknownPart
from llmops_assets.domain.records import Metric
from llmops_assets.programs.runtime.errors import BadInput
from llmops_assets.programs.runtime.specs import CodeRules, MetricSpec

Scores = dict[str, float]
NO_RULES = CodeRules()


def check_metrics(specs: Sequence[MetricSpec], rules: CodeRules = NO_RULES, references: Sequence[str] = ()) -> None:
    """Loads every metric, so that an error is reported before any inference.

    Raises:
        BadInput: an unknown or unavailable metric, one that measures nothing on these references, options that cannot
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
    with tempfile.TemporaryDirectory(prefix="llmops-metrics-") as cache:
        for metric in _listed(specs, cache):
            metric.check(references)


def reads_likelihoods(specs: Iterable[MetricSpec]) -> bool:
    """Whether a metric needs the likelihoods of the references."""
    return any(s.file is None and METRICS[s.part].reads == "likelihoods" for s in specs)


def score(
    specs: Sequence[MetricSpec],
    predictions: list[str],
    references: list[str],
    likelihoods: list[tuple[float, int]],
    rules: CodeRules = NO_RULES,
) -> tuple[tuple[Metric, ...], list[Scores]]:
    """All metrics in the order of `specs`, and the values of each row.

    A value that is not finite is left out: a gate on it finds no evidence, and fails.

    Args:
        specs: the metrics.
        predictions: answers of the model.
        references: answers of the data.
        likelihoods: negative log-likelihood and tokens of each reference; empty if no metric reads them.
        rules: how the project's own functions run.
    """
    found: dict[str, Any] = _of_texts(specs, predictions, references, rules)
    for spec in specs:
        if reads_likelihoods([spec]):
            found |= METRICS[spec.part].load()(likelihoods)
    figures = tuple(
        Metric(name=s.name, value=found[s.name], higher_is_better=higher_is_better(s))
        for s in specs
        if math.isfinite(found[s.name])
    )
    by_row = [{s.name: found[f"{s.name}/rows"][i] for s in specs} for i in range(len(references))]
    return figures, [{n: value for n, value in row.items() if math.isfinite(value)} for row in by_row]


def higher_is_better(spec: MetricSpec) -> bool:
    """From the spec for a project's own metric, else from the catalog."""
    if spec.higher_is_better is not None:
        return spec.higher_is_better
    return METRICS[spec.part].higher_is_better if spec.file is None else True


def _of_texts(
    specs: Sequence[MetricSpec], predictions: list[str], references: list[str], rules: CodeRules
) -> dict[str, Any]:
    import evaluate

    # evaluate locks files by the metric's name: concurrent evaluations must not share them.
    with tempfile.TemporaryDirectory(prefix="llmops-metrics-") as cache:
        metrics = _listed(specs, cache)
        if own := [s for s in specs if s.file is not None]:
            from llmops_assets.programs.evaluation.metrics.custom import Custom

            metrics += [Custom.load(spec, rules, cache) for spec in own]
        if not metrics:
            return {}
        found: dict[str, Any] = evaluate.combine(metrics).compute(predictions=predictions, references=references)
    return found


def _listed(specs: Sequence[MetricSpec], cache: str) -> list[Any]:
    """The catalog's metrics of texts; one object for all names of a class, if they have no options."""
    groups: dict[str, list[MetricSpec]] = {}
    for spec in specs:
        if spec.file is None and METRICS[spec.part].reads == "texts":
            own = spec.options or spec.name != spec.part
            groups.setdefault(spec.name if own else METRICS[spec.part].path, []).append(spec)
    return [
        METRICS[group[0].part].load().of([s.name for s in group], cache, group[0].options) for group in groups.values()
    ]
