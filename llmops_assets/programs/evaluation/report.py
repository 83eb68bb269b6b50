"""The report of an evaluation: a self-contained HTML file and predictions.jsonl. Figures are computed elsewhere."""

import json
import random
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from llmops_assets.domain.formatting import duration, figure
from llmops_assets.domain.models import Frozen
from llmops_assets.domain.records import LoadFigures, Metric, Sample

SHOWN = 5
SCALES = {
    "perplexity": "1 at best", "bleu": "0 to 100", "rouge1": "0 to 1", "rouge2": "0 to 1", "rougeL": "0 to 1",
    "toxicity": "0 to 1",
}  # fmt: skip
"""Of the metrics that we know; a project's own are its own business."""


class Difference(Frozen):
    """A figure beside an earlier one: `better` is None where they are equal."""

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
        title: whose report it is: project, commit and its subject.
        what: was measured, in words.
        metrics: the figures.
        samples: every row that was asked.
        others: figures to compare with, by what they are of ("champion", "unquantized").
        facts: further lines, label -> text.
        load: figures under load, if they were measured.
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
        scales=SCALES,
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


def _groups(samples: Sequence[Sample], metrics: Sequence[Metric]) -> list[dict[str, Any]]:
    """Best, worst and random rows. Perplexity is not about the model's own answers, so another metric ranks them."""
    rated = [m for m in metrics if all(m.name in s.scores for s in samples)]
    by = min(rated, key=lambda m: (m.name == "perplexity", m.name != "rougeL"), default=None)
    groups: list[dict[str, Any]] = []
    left = list(samples)
    if by is not None:
        ranked = sorted(samples, key=lambda s: s.scores[by.name], reverse=by.higher_is_better)
        best = ranked[:SHOWN]
        worst = ranked[len(best) :][::-1][:SHOWN]
        groups = [{"name": f"Best by {by.name}", "samples": best}, {"name": f"Worst by {by.name}", "samples": worst}]
        shown = {id(s) for s in best + worst}
        left = [s for s in samples if id(s) not in shown]
    # Seeded: the report of equal rows is equal.
    groups.append({"name": "Random", "samples": random.Random(0).sample(left, min(SHOWN, len(left)))})
    return [g for g in groups if g["samples"]]
