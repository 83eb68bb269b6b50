"""The model card of a registered model: README.md with Hugging Face metadata (`model-index`), beside the model.

https://huggingface.co/docs/hub/model-cards describes the format; huggingface_hub writes the metadata. The card states
what was measured when the version was registered. Later verdicts are in the ledger and on the version's tags.
"""

import html
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from llmops_assets.catalog import TRAINING_METHODS
from llmops_assets.config.project import BaseModelHub
from llmops_assets.domain.formatting import figure
from llmops_assets.domain.keys import short
from llmops_assets.domain.models import Frozen
from llmops_assets.domain.records import Checkpoint, DatasetVersion, Measured, Metric, Split
from llmops_assets.stage.execution import StageExecution

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

FILE = "README.md"
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+\-.!|~>$])")


class Card(Frozen):
    """What a model card says."""

    name: str
    commit: str
    subject: str
    """Of the commit."""
    base: str
    """Where the base model is from: hub name and commit, or path and version."""
    hub: str | None
    """The base model's name on the Hugging Face hub."""
    license: str | None
    adapter: bool
    checkpoint: Checkpoint
    data: DatasetVersion | None
    versions: dict[str, str]
    """Split → path and version of its file."""
    report: Measured | None


def card_of(run: StageExecution, checkpoint: Checkpoint) -> str:
    """The card of this revision's checkpoint."""
    records, config = run.resolved.records, run.at.config
    base = config.model.base
    data, report = records.get("dataset_version"), records.get("evaluation_report")
    where = f"{base.hub} at {base.revision}" if isinstance(base, BaseModelHub) else f"{base.path}, {checkpoint.base}"
    versions = {name: v for name, v in run.at.values["data"].items() if isinstance(v, dict)}
    return render(
        Card(
            name=run.project.name,
            commit=run.revision,
            subject=run.source.git.message(run.revision),
            base=where,
            hub=base.hub if isinstance(base, BaseModelHub) else None,
            license=config.model.license,
            adapter=TRAINING_METHODS[checkpoint.method].adapter,
            checkpoint=checkpoint,
            data=data if isinstance(data, DatasetVersion) else None,
            versions={name: f"{v['path']}, {v['version']}" for name, v in versions.items()},
            report=report if isinstance(report, Measured) else None,
        )
    )


def render(card: Card) -> str:
    """README.md: metadata as YAML, then Markdown in which the project's own text is escaped."""
    from huggingface_hub import ModelCardData

    metadata = ModelCardData(
        model_name=card.name,
        license=card.license,
        base_model=card.hub,
        library_name="peft" if card.adapter else "transformers",
        pipeline_tag="text-generation",
        tags=["llmops"],
        metrics=[m.name for m in card.report.metrics] if card.report else None,
        eval_results=list(_results(card)) or None,
    )
    return f"---\n{metadata.to_yaml()}\n---\n\n" + "\n".join(_body(card)) + "\n"


def _results(card: Card) -> "Iterable[EvalResult]":
    from huggingface_hub import EvalResult

    for metric in card.report.metrics if card.report else ():
        bounds = {"low": metric.low, "high": metric.high, "confidence": 0.95} if _has_interval(metric) else None
        yield EvalResult(
            task_type="text-generation",
            dataset_type=card.name,
            dataset_name=f"held-out rows of {card.name}",
            dataset_split="test",
            dataset_revision=card.report.test_digest if card.report else None,
            metric_type=metric.name,
            metric_name=metric.name,
            metric_value=metric.value,
            metric_args=bounds,
        )


def _has_interval(metric: Metric) -> bool:
    return metric.low is not None and metric.high is not None


def _body(card: Card) -> Iterable[str]:
    checkpoint = card.checkpoint
    yield f"# {escaped(card.name)}"
    yield ""
    yield f"Made by commit `{card.commit}`: {escaped(card.subject)}"
    yield ""
    yield "## Evaluation"
    yield ""
    if card.report is None:
        yield "Not evaluated."
    else:
        yield f"On {card.report.rows} held-out rows, before quantization."
        yield ""
        yield "| metric | value | lower and upper bound, each with 95% confidence | better |"
        yield "|---|---|---|---|"
        for m in card.report.metrics:
            bounds = f"{figure(m.low)} to {figure(m.high)}" if _has_interval(m) else "no interval"
            better = "higher" if m.higher_is_better else "lower"
            yield f"| {escaped(m.name)} | {figure(m.value)} | {bounds} | {better} |"
        if card.report.measured_with:
            made = ", ".join(f"{name} {version}" for name, version in sorted(card.report.measured_with.items()))
            yield ""
            yield f"Measured with {escaped(made)}."
    yield ""
    yield "## Training"
    yield ""
    yield f"- base model: {escaped(card.base)}"
    yield f"- licence: {escaped(card.license) if card.license else 'not stated by the project (`model.license`)'}"
    yield f"- method: {escaped(checkpoint.method)}, {checkpoint.steps} steps, {checkpoint.tokens:,} tokens"
    yield f"- parameters: {checkpoint.parameters:,}, of which trained {checkpoint.trained_parameters:,}"
    yield f"- checkpoint: `{checkpoint.digest}`"
    yield ""
    yield "## Data"
    yield ""
    for split, version in card.versions.items():
        found = getattr(card.data, split, None)
        rows = f", {found.rows:,} rows, digest `{short(found.digest)}`" if isinstance(found, Split) else ""
        yield f"- {escaped(split)}: {escaped(version)}{rows}"


def escaped(text: str) -> str:
    """Escapes text for Markdown and HTML, on one line."""
    return _MARKDOWN.sub(r"\\\1", html.escape(" ".join(text.split()), quote=False))
