"""Scores answers with the metrics of the catalog and with a project's own, without network access.

`score` takes all texts at once and returns the values over all rows and of each row. ROUGE, like its authors'
implementation, splits at every character that is not an ASCII letter or digit, so it means little for other scripts.
Metrics that read likelihoods need the model: `inference` computes the likelihoods.
"""

import math
import tempfile
from collections.abc import Iterable, Sequence
from typing import Any

from llmops_assets.catalog import METRICS, Part, UnavailablePart, UnknownPart
from llmops_assets.domain.records import Metric
from llmops_assets.programs.runtime.errors import BadInput
from llmops_assets.programs.runtime.specs import CodeRules, MetricSpec

Scores = dict[str, float]
NO_RULES = CodeRules()


def check_metrics(specs: Iterable[MetricSpec], rules: CodeRules = NO_RULES) -> None:
    """Loads every metric, so that an error is reported before any inference.

    Raises:
        BadInput: an unknown or unavailable metric, or a function that cannot be loaded.
    """
    for spec in specs:
        if spec.file is not None:
            from llmops_assets.programs.evaluation.metrics.custom import call_function

            call_function(spec, rules, ())
        else:
            try:
                METRICS[spec.name].load()
            except UnknownPart as error:
                raise BadInput(f"{error}, or a file and a function", spec.name) from error
            except UnavailablePart as error:
                raise BadInput(str(error), spec.name) from error


def reads_likelihoods(specs: Iterable[MetricSpec]) -> bool:
    """Whether a metric needs the likelihoods of the references."""
    return any(s.file is None and METRICS[s.name].reads == "likelihoods" for s in specs)


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
            found |= METRICS[spec.name].load()(likelihoods)
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
    return METRICS[spec.name].higher_is_better if spec.file is None else True


def _of_texts(
    specs: Sequence[MetricSpec], predictions: list[str], references: list[str], rules: CodeRules
) -> dict[str, Any]:
    own = [s for s in specs if s.file is not None]
    listed: dict[str, list[Part]] = {}
    for part in (METRICS[s.name] for s in specs if s.file is None):
        if part.reads == "texts":
            listed.setdefault(part.path, []).append(part)
    if not own and not listed:
        return {}
    import evaluate

    # evaluate locks files by the metric's name: concurrent evaluations must not share them.
    with tempfile.TemporaryDirectory(prefix="llmops-metrics-") as cache:
        metrics = [parts[0].load().of([p.name for p in parts], cache) for parts in listed.values()]
        if own:
            from llmops_assets.programs.evaluation.metrics.custom import Custom

            metrics += [Custom.load(spec, rules, cache) for spec in own]
        found: dict[str, Any] = evaluate.combine(metrics).compute(predictions=predictions, references=references)
    return found
