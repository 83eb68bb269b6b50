"""Writes the report of an evaluation: a self-contained HTML page and predictions.jsonl. It computes no metric.

A stored report is a measurement and compares with nothing: the champion of that day would soon be another. `render`
shows a comparison with the verdict that it was made for.
"""

import json
import random
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from jinja2 import Environment, PackageLoader, StrictUndefined
from pydantic import Field

from llmops_assets.catalog import METRICS
from llmops_assets.domain.formatting import duration, figure
from llmops_assets.domain.models import Frozen
from llmops_assets.domain.records import LoadFigures, Metric, Sample
from llmops_assets.programs.evaluation.regressions import Regressions
from llmops_assets.programs.evaluation.rows import shortened

SHOWN = 5
SHOWN_CHARACTERS = 8_000
PAGE, MEASUREMENT = "report.html", "report.json"


class Difference(Frozen):
    """The difference from another model's value; `better` is None if both are equal."""

    text: str
    better: bool | None


class Line(Frozen):
    metric: Metric
    others: tuple[tuple[float | None, Difference | None], ...]


class Group(Frozen):
    name: str
    samples: tuple[Sample, ...]


class Measurement(Frozen):
    """What the page shows of one evaluation, in report.json beside it."""

    title: str = Field(description="Project, commit and the commit's subject.")
    what: str = Field(description="What was measured.")
    made: str
    metrics: tuple[Metric, ...]
    facts: dict[str, str] = Field(description="More lines: label -> text.")
    load: tuple[LoadFigures, ...]
    rows: int
    groups: tuple[Group, ...]


class Judgement(Frozen):
    """A verdict on the measurement, with the figures that it compared with."""

    subject: str
    outcome: Literal["passed", "failed", "undecided"]
    failures: tuple[str, ...] = Field(description="What failed or is undecided.")
    reasons: tuple[str, ...]
    regressions: Regressions | None = Field(default=None, description="Rows lost and won against the champion.")
    others: dict[str, dict[str, float]] = Field(description="Model -> its figures: 'champion', 'unquantized'.")


def write_report(
    folder: Path,
    title: str,
    what: str,
    metrics: Sequence[Metric],
    samples: Sequence[Sample],
    facts: dict[str, str],
    load: Sequence[LoadFigures] = (),
) -> None:
    """Writes report.html, report.json (`Measurement`) and predictions.jsonl (every evaluated row) to a folder."""
    with (folder / "predictions.jsonl").open("w", encoding="utf-8") as file:
        for sample in samples:
            row = {"input": sample.input, "reference": sample.reference, "prediction": sample.prediction}
            file.write(json.dumps({**row, "scores": sample.scores}, ensure_ascii=False) + "\n")
    measurement = Measurement(
        title=title,
        what=what,
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        metrics=tuple(metrics),
        facts=facts,
        load=tuple(load),
        rows=len(samples),
        groups=_groups(samples, metrics),
    )
    (folder / MEASUREMENT).write_text(measurement.model_dump_json(), encoding="utf-8")
    (folder / PAGE).write_text(render(measurement), encoding="utf-8")


def render(measurement: Measurement, judgement: Judgement | None = None) -> str:
    """The page of a measurement; with a judgement also the verdict, and the figures that it compared with."""
    others = {name: figures for name, figures in (judgement.others if judgement else {}).items() if figures}
    environment = Environment(
        loader=PackageLoader("llmops_assets.programs.evaluation", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"figure": figure, "duration": duration}
    return environment.get_template("report.html.jinja").render(
        **{name: getattr(measurement, name) for name in Measurement.model_fields if name != "metrics"},
        scales={m.name: METRICS[m.name].unit for m in measurement.metrics if m.name in METRICS},
        lines=[
            Line(metric=m, others=tuple(_beside(m, figures) for figures in others.values()))
            for m in measurement.metrics
        ],
        others=list(others),
        judgement=judgement,
        intervals=any(m.low is not None for m in measurement.metrics),
    )


def _beside(metric: Metric, figures: dict[str, float]) -> tuple[float | None, Difference | None]:
    other = figures.get(metric.name)
    if other is None:
        return None, None
    gap = metric.value - other
    if gap == 0:
        return other, Difference(text="±0", better=None)
    sign = "+" if gap > 0 else "−"
    return other, Difference(text=f"{sign}{figure(abs(gap))}", better=(gap > 0) == metric.higher_is_better)


def _reads_references(metric: Metric) -> bool:
    return metric.name in METRICS and METRICS[metric.name].reads == "likelihoods"


def _groups(samples: Sequence[Sample], metrics: Sequence[Metric]) -> tuple[Group, ...]:
    """Best, worst and random rows. Metrics of answers rank them if possible: likelihoods do not rate the answers."""
    rated = [m for m in metrics if all(m.name in s.scores for s in samples)]
    by = min(rated, key=lambda m: (_reads_references(m), m.name != "rougeL"), default=None)
    groups: list[tuple[str, Sequence[Sample]]] = []
    left = list(samples)
    if by is not None:
        ranked = sorted(samples, key=lambda s: s.scores[by.name], reverse=by.higher_is_better)
        best = ranked[:SHOWN]
        worst = ranked[len(best) :][::-1][:SHOWN]
        groups = [(f"Best by {by.name}", best), (f"Worst by {by.name}", worst)]
        shown = {id(s) for s in best + worst}
        left = [s for s in samples if id(s) not in shown]
    # Seeded: equal rows give an equal report.
    groups.append(("Random", random.Random(0).sample(left, min(SHOWN, len(left)))))
    return tuple(Group(name=name, samples=tuple(map(_bounded, of))) for name, of in groups if of)


def _bounded(sample: Sample) -> Sample:
    """The sample with long texts shortened: a row may have megabytes."""
    texts = {name: shortened(getattr(sample, name), SHOWN_CHARACTERS) for name in ("input", "reference", "prediction")}
    return sample.model_copy(update=texts)
