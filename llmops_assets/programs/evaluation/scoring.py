"""The metrics, as `evaluate.Metric`s bundled here: nothing is fetched, and a project's own stand beside ours.

`score` takes all texts at once and returns the figures of the whole and of each row. ROUGE is in 0..1, BLEU in
sacrebleu's 0..100, toxicity the mean probability of an offensive text. ROUGE splits on what is not a letter or digit
of ASCII, as its authors' does, so it says little about other scripts. Perplexity needs the model, and is computed from
the likelihoods that `programs.inference` finds.
"""

import importlib.util
import math
import numbers
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import datasets
import evaluate

from llmops_assets.config.project import BUILTIN_METRICS
from llmops_assets.domain.records import Metric
from llmops_assets.programs.runtime.entry import BadInput
from llmops_assets.programs.runtime.specs import MetricSpec

ROUGE = ("rouge1", "rouge2", "rougeL")
PERPLEXITY = "perplexity"
Scores = dict[str, float]


class _TextMetric(evaluate.Metric):
    """predictions, references -> {name: figure of the whole, name/rows: figure of each}"""

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=type(self).__doc__ or "",
            citation="",
            inputs_description="",
            features=datasets.Features({"predictions": text, "references": text}),
        )


class Rouge(_TextMetric):
    """F-measures of ROUGE-1, -2 and -L (Lin 2004), the mean over the rows."""

    names: tuple[str, ...] = ROUGE

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
        from rouge_score.rouge_scorer import RougeScorer

        scorer = RougeScorer(list(self.names))
        rows = [scorer.score(r, p) for p, r in zip(predictions, references, strict=True)]
        return _figures({name: [row[name].fmeasure for row in rows] for name in self.names})


class Bleu(_TextMetric):
    """sacrebleu's corpus BLEU (Post 2018); the figure of a row is its smoothed sentence BLEU."""

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
        import sacrebleu

        rows = [sacrebleu.sentence_bleu(p, [r]).score for p, r in zip(predictions, references, strict=True)]
        return {"bleu": sacrebleu.corpus_bleu(list(predictions), [list(references)]).score, "bleu/rows": rows}


class Toxicity(_TextMetric):
    """The mean probability that an answer is offensive, by alt-profanity-check's linear model."""

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
        from profanity_check import predict_prob

        return _figures({"toxicity": [float(p) for p in predict_prob(list(predictions))]})


class Custom(_TextMetric):
    """A project's own function of a prediction and its reference, the mean over the rows."""

    label = ""
    where = ""
    function: Callable[[str, str], float]

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
        rows = [self._row(n, *pair) for n, pair in enumerate(zip(predictions, references, strict=True), start=1)]
        return _figures({self.label: rows})

    def _row(self, number: int, prediction: str, reference: str) -> float:
        try:
            value = self.function(prediction, reference)
        except (Exception, SystemExit) as error:
            raise BadInput(f"raised {type(error).__name__} on row {number}: {error}", self.where) from error
        if not isinstance(value, numbers.Real) or not math.isfinite(value):
            raise BadInput(f"returned {value!r} on row {number}; a metric returns a finite number", self.where)
        return float(value)


def _figures(rows: dict[str, list[float]]) -> dict[str, Any]:
    whole = {name: sum(values) / len(values) for name, values in rows.items()}
    return {**whole, **{f"{name}/rows": values for name, values in rows.items()}}


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


def _perplexity(likelihoods: list[tuple[float, int]]) -> dict[str, Any]:
    """exp of the mean negative log-likelihood of a token of the references."""

    def exp(value: float) -> float:
        return math.exp(value) if value < 700 else math.inf

    tokens = sum(n for _, n in likelihoods)
    whole = exp(sum(nll for nll, _ in likelihoods) / tokens) if tokens else math.nan
    return {PERPLEXITY: whole, f"{PERPLEXITY}/rows": [exp(nll / n) if n else math.nan for nll, n in likelihoods]}


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


def _where(spec: MetricSpec) -> str:
    return f"{Path(spec.file or '').name}:{spec.function}"


def _load_function(spec: MetricSpec) -> Callable[[str, str], float]:
    path = Path(spec.file or "")
    if not path.is_file():
        raise BadInput("the file does not exist", _where(spec))
    loader = importlib.util.spec_from_file_location(f"_project_metric_{path.stem}", path)
    assert loader is not None and loader.loader is not None
    module = importlib.util.module_from_spec(loader)
    sys.path.insert(0, str(path.parent))
    try:
        loader.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise BadInput(f"cannot be imported: {type(error).__name__}: {error}", _where(spec)) from error
    finally:
        sys.path.remove(str(path.parent))
    function = getattr(module, spec.function or "", None)
    if not callable(function):
        raise BadInput(f"{path.name} has no function {spec.function!r}", _where(spec))
    return function
