"""A verdict as an asset check in Dagster: the same fields wherever it is reported. Judging belongs in `domain.gate`."""

from collections.abc import Iterable
from typing import Any

import dagster as dg

from llmops_assets.delivery.run_tags import about_commit
from llmops_assets.domain.formatting import figure
from llmops_assets.domain.keys import short
from llmops_assets.domain.markdown import escaped
from llmops_assets.domain.verdict import Compared, Verdict
from resources.project_source.revisions import ProjectRepository


def check_fields(
    source: ProjectRepository,
    revision: str,
    verdict: Verdict,
    judged_by: str,
    page: str | None = None,
    review: str | None = None,
) -> dict[str, Any]:
    """The fields that an AssetCheckResult and an AssetCheckEvaluation share.

    Args:
        judged_by: the stage that evaluated the verdict, and acted on it or refused.
        page: address of the report with this verdict and its comparison.
        review: what a reviewer asks about the verdict, as Markdown.
    """
    return {
        "passed": verdict.passed,
        "severity": dg.AssetCheckSeverity.ERROR,
        "description": verdict.text,
        "metadata": {
            "reasons": dg.MetadataValue.md(verdict.markdown()),
            "subject": verdict.subject,
            "judged_by": judged_by,
            "champion": champion_of(verdict),
            **({"power": dg.MetadataValue.md(_listed(p.text for p in verdict.powers))} if verdict.powers else {}),
            **({"comparison": _table(verdict.figures)} if verdict.figures else {}),
            **({"review": dg.MetadataValue.md(review)} if review else {}),
            **({"report": dg.MetadataValue.url(page)} if page else {}),
            **about_commit(source, revision),
        },
    }


def champion_of(verdict: Verdict) -> str:
    """The champion as a check names it."""
    return short(verdict.champion) if verdict.champion else "none"


def _listed(texts: Iterable[str]) -> str:
    return "\n".join(f"- {escaped(text, 2000)}" for text in texts)


def _with_interval(found: Compared) -> str:
    value = figure(found.value)
    return (
        value if found.low is None or found.high is None else f"{value} ({figure(found.low)} to {figure(found.high)})"
    )


def _table(figures: tuple[Compared, ...]) -> dg.TableMetadataValue:
    """Figures of this model beside those of the champion, and of the checkpoint before quantization."""
    others = [name for name in ("champion", "unquantized") if any(getattr(f, name) is not None for f in figures)]
    columns = [dg.TableColumn(name, "string") for name in ("metric", "this_model", *others, "better")]
    records = [
        dg.TableRecord(
            {
                "metric": f.metric,
                "this_model": _with_interval(f),
                **{name: figure(getattr(f, name)) for name in others},
                "better": "higher" if f.higher_is_better else "lower",
            }
        )
        for f in figures
    ]
    return dg.MetadataValue.table(records, schema=dg.TableSchema(columns))
