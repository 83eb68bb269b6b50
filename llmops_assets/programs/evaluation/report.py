"""Writes the report of an evaluation: a self-contained HTML page and predictions.jsonl. It computes no metric.

A stored report is a measurement and compares with nothing: the champion of that day would soon be another. With a
review, `render` shows the verdict that it was made for and its comparison. A page does not grow with the rows.
"""

import json
import random
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from pydantic import Field

from llmops_assets.catalog import METRICS
from llmops_assets.domain.formatting import duration, figure, time_span
from llmops_assets.domain.keys import short
from llmops_assets.domain.models import Frozen
from llmops_assets.domain.records import LoadFigures, Metric, Sample
from llmops_assets.domain.review import Estimate, FigureBeside, Review
from llmops_assets.domain.review_markdown import cost_text, gap, signed
from llmops_assets.programs.evaluation.rows import shortened

SHOWN = 5
SHOWN_CHARACTERS = 8_000
PAGE, MEASUREMENT = "report.html", "report.json"


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


def render(measurement: Measurement, review: Review | None = None) -> str:
    """The page of a measurement; with a review that of the verdict, with what a reviewer asks about it."""
    figures = review.figures if review is not None and review.figures else _figures(measurement.metrics)
    return _template().render(
        **{name: getattr(measurement, name) for name in Measurement.model_fields if name != "metrics"},
        figures=figures,
        others=[name for name in ("champion", "unquantized") if any(getattr(f, name) is not None for f in figures)],
        intervals=any(f.value is not None and f.value.low is not None for f in figures),
        review=review,
        cost=cost_text(review.cost) if review is not None and review.cost is not None else None,
    )


@cache
def _template() -> Template:
    """Compiled once for the pages of a process: compiling it takes 0.1 CPU seconds, and longer than rendering."""
    environment = Environment(
        loader=PackageLoader("llmops_assets.programs.evaluation", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "figure": figure,
        "duration": duration,
        "gap": gap,
        "signed": signed,
        "span": time_span,
        "short": short,
    }
    return environment.get_template("report.html.jinja")


def _figures(metrics: Sequence[Metric]) -> list[FigureBeside]:
    return [
        FigureBeside(
            metric=m.name,
            unit=METRICS[m.name].unit if m.name in METRICS else "",
            higher_is_better=m.higher_is_better,
            value=Estimate(value=m.value, low=m.low, high=m.high),
        )
        for m in metrics
    ]


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
