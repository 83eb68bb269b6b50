"""The metrics, as `evaluate.Metric`s bundled here: nothing is fetched, and a project's own stand beside ours.

`score` takes all texts at once and returns the figures of the whole and of each row. ROUGE is in 0..1, BLEU in
sacrebleu's 0..100, toxicity the mean probability of an offensive text. ROUGE splits on what is not a letter or digit
of ASCII, as its authors' does, so it says little about other scripts. Perplexity needs the model, and is computed from
the likelihoods that `programs.inference` finds.
"""

import math
import tempfile
from collections.abc import Iterable, Sequence
from typing import Any

import evaluate

from llmops_assets.config.project import BUILTIN_METRICS
from llmops_assets.domain.records import Metric
from llmops_assets.programs.evaluation.metrics.base import _TextMetric
from llmops_assets.programs.evaluation.metrics.bleu import Bleu
from llmops_assets.programs.evaluation.metrics.custom import Custom, _load_function, _where
from llmops_assets.programs.evaluation.metrics.perplexity import PERPLEXITY, _perplexity
from llmops_assets.programs.evaluation.metrics.rouge import ROUGE, Rouge
from llmops_assets.programs.evaluation.metrics.toxicity import Toxicity
from llmops_assets.programs.runtime.errors import BadInput
from llmops_assets.programs.runtime.specs import MetricSpec

Scores = dict[str, float]


def check_metrics(specs: Iterable[MetricSpec]) -> None:
    """Loads the project's functions, so that a fault is said before the model is asked anything.

    Raises:
        BadInput: an unknown metric, or a function that cannot be loaded.
    """
    for spec in specs:
        if spec.file is not None:
            _load_function(spec)
        elif spec.name not in BUILTIN_METRICS:
            raise BadInput(f"unknown metric; known: {', '.join(BUILTIN_METRICS)}, or a file and a function", spec.name)


def score(
    specs: Sequence[MetricSpec], predictions: list[str], references: list[str], likelihoods: list[tuple[float, int]]
) -> tuple[tuple[Metric, ...], list[Scores]]:
    """All figures in the order of `specs`, and those of each row.

    A figure that is not finite is left out: who judges it finds no evidence, and refuses.

    Args:
        specs: what is wanted.
        predictions: answers of the model.
        references: answers of the data.
        likelihoods: negative log-likelihood and tokens of each reference; empty if perplexity is not wanted.
    """
    names = [s.name for s in specs]
    wanted = evaluate.combine(_modules(specs)) if any(n != PERPLEXITY for n in names) else None
    found: dict[str, Any] = {}
    if wanted is not None:
        found = wanted.compute(predictions=predictions, references=references)
    if PERPLEXITY in names:
        found |= _perplexity(likelihoods)
    figures = tuple(
        Metric(name=s.name, value=found[s.name], higher_is_better=higher_is_better(s))
        for s in specs
        if math.isfinite(found[s.name])
    )
    by_row = [{n: found[f"{n}/rows"][i] for n in names} for i in range(len(references))]
    return figures, [{n: value for n, value in row.items() if math.isfinite(value)} for row in by_row]


def higher_is_better(spec: MetricSpec) -> bool:
    if spec.higher_is_better is not None:
        return spec.higher_is_better
    return BUILTIN_METRICS.get(spec.name, True)


def _modules(specs: Sequence[MetricSpec]) -> list[evaluate.Metric]:
    cache = tempfile.mkdtemp(prefix="llmops-metrics-")  # evaluate locks files by metric name; runs must not meet there

    def new(kind: type[_TextMetric]) -> Any:
        return kind(cache_dir=cache, keep_in_memory=True)

    modules: list[evaluate.Metric] = []
    rouge = tuple(s.name for s in specs if s.name in ROUGE and s.file is None)
    if rouge:
        module = new(Rouge)
        module.names = rouge
        modules.append(module)
    for spec in specs:
        if spec.file is not None:
            module = new(Custom)
            module.label, module.function, module.where = spec.name, _load_function(spec), _where(spec)
            modules.append(module)
        elif spec.name in ("bleu", "toxicity"):
            modules.append(new(Bleu if spec.name == "bleu" else Toxicity))
    return modules
