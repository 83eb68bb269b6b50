"""Writes the report of an evaluation: a self-contained HTML file and predictions.jsonl. It computes no metric."""

import json
import random
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from llmops_assets.catalog import METRICS
from llmops_assets.domain.formatting import duration, figure
from llmops_assets.domain.models import Frozen
from llmops_assets.domain.records import LoadFigures, Metric, Sample

SHOWN = 5


class Difference(Frozen):
    """The difference from another model's value; `better` is None if both are equal."""

    text: str
    better: bool | None


class Line(Frozen):
    metric: Metric
    others: tuple[tuple[float | None, Difference | None], ...]


def write_report(
    folder: Path,
    title: str,
    what: str,
    metrics: Sequence[Metric],
    samples: Sequence[Sample],
    others: dict[str, dict[str, float]],
    facts: dict[str, str],
    load: Sequence[LoadFigures] = (),
) -> None:
    """Writes report.html and predictions.jsonl.

    Args:
        folder: the artifact folder.
        title: project, commit and the commit's subject.
        what: was measured, as text.
        metrics: the values.
        samples: every evaluated row.
        others: values to compare with, by model ("champion", "unquantized").
        facts: more lines, label -> text.
        load: results of the load test, if it ran.
    """
    with (folder / "predictions.jsonl").open("w", encoding="utf-8") as file:
        for sample in samples:
            row = {"input": sample.input, "reference": sample.reference, "prediction": sample.prediction}
            file.write(json.dumps({**row, "scores": sample.scores}, ensure_ascii=False) + "\n")
    others = {name: figures for name, figures in others.items() if figures}
    lines = [Line(metric=m, others=tuple(_beside(m, figures) for figures in others.values())) for m in metrics]
    environment = Environment(
        loader=PackageLoader("llmops_assets.programs.evaluation", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"figure": figure, "duration": duration}
    html = environment.get_template("report.html.jinja").render(
        title=title,
        what=what,
        scales={m.name: METRICS[m.name].unit for m in metrics if m.name in METRICS},
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        lines=lines,
        others=list(others),
        facts=facts,
        load=load,
        rows=len(samples),
        groups=_groups(samples, metrics),
    )
    (folder / "report.html").write_text(html, encoding="utf-8")


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


def _groups(samples: Sequence[Sample], metrics: Sequence[Metric]) -> list[dict[str, Any]]:
    """Best, worst and random rows. Metrics of answers rank them if possible: likelihoods do not rate the answers."""
    rated = [m for m in metrics if all(m.name in s.scores for s in samples)]
    by = min(rated, key=lambda m: (_reads_references(m), m.name != "rougeL"), default=None)
    groups: list[dict[str, Any]] = []
    left = list(samples)
    if by is not None:
        ranked = sorted(samples, key=lambda s: s.scores[by.name], reverse=by.higher_is_better)
        best = ranked[:SHOWN]
        worst = ranked[len(best) :][::-1][:SHOWN]
        groups = [{"name": f"Best by {by.name}", "samples": best}, {"name": f"Worst by {by.name}", "samples": worst}]
        shown = {id(s) for s in best + worst}
        left = [s for s in samples if id(s) not in shown]
    # Seeded: equal rows give an equal report.
    groups.append({"name": "Random", "samples": random.Random(0).sample(left, min(SHOWN, len(left)))})
    return [g for g in groups if g["samples"]]
