"""Gathers a review: a verdict on a report with all that a person asks about it. Nothing here decides anything.

The comparison is with the champion that the verdict names, whichever release production serves by now. A part that
cannot be read is left out, and the review's notes say why: a lost artifact of the champion must not hide the verdict.
`domain.review` describes the result.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

from llmops_assets.catalog import METRICS
from llmops_assets.config.yaml_validation import ConfigError
from llmops_assets.delivery.gate_evidence import current_release, of_stage
from llmops_assets.delivery.references import Candidate, ChampionNow
from llmops_assets.delivery.row_evidence import rows_of
from llmops_assets.domain.config_diff import key_changes, text_diff
from llmops_assets.domain.evaluated_rows import EvaluatedRows
from llmops_assets.domain.formatting import excerpt
from llmops_assets.domain.gate_rule import SMALLEST_SLICE
from llmops_assets.domain.keys import short
from llmops_assets.domain.records import DatasetVersion, Measured
from llmops_assets.domain.review import (
    Champion,
    CommitLine,
    Cost,
    DataDiff,
    Estimate,
    FigureBeside,
    Link,
    PromptDiff,
    Regressions,
    Review,
    Slices,
)
from llmops_assets.domain.row_comparison import difference, slices
from llmops_assets.domain.stage_cost import cost_of
from llmops_assets.domain.verdict import Compared, Verdict
from llmops_assets.machine.redaction import redacted
from llmops_assets.programs.data.diff import Version, data_diff
from llmops_assets.programs.data.rows import places
from llmops_assets.programs.evaluation.regressions import LISTED, regressions, shortest
from resources.artifact_store.store import StoreDenied, StoreError
from resources.project_source.errors import SourceError

COMMITS, AUTHORS = 20, 20


class Gathered(NamedTuple):
    review: Review
    changed: Regressions | None
    """The rows lost and won, as many as are listed for programs; the review has the first of them."""


def review_of(run: Candidate, record: Measured, verdict: Verdict, links: Iterable[Link] = ()) -> Gathered:
    """The review of a verdict on a report of this revision.

    Args:
        record: the report that was judged.
        verdict: names the champion to compare with, and its figures.
        links: further ones: to MLflow, to the staging endpoint.
    """
    notes: list[str] = []
    champion, other = _champion(run, verdict, notes)
    beside = other.report(run, record.stage, record) if other is not None else None
    compared = [
        m for m in record.metrics if any(f.metric == m.name and f.champion is not None for f in verdict.figures)
    ]
    if champion is not None and not compared:
        notes.append(f"no metric is compared with the champion: {_why_not(record, beside)}")
    changed: Regressions | None = None
    theirs = beside if compared else None
    figures: tuple[FigureBeside, ...] = tuple(_figure(f, theirs) for f in verdict.figures)
    shown: tuple[Slices, ...] = ()
    with _told(notes, "the rows of the reports"):
        rows, others = rows_of(run.store, record), rows_of(run.store, theirs)
        if rows is None:
            notes.append("the report stored no rows, so there are no slices and no rows to compare")
        else:
            figures = tuple(_figure(f, theirs, rows, others) for f in verdict.figures)
            shown = _slices(run, record, rows, others, {m.name for m in compared})
        if theirs is not None:
            mine, its = run.store.fetch(record.uri), run.store.fetch(theirs.uri)
            changed = regressions(mine, its, compared, LISTED, _places(run, notes))
    since = champion.revision if champion is not None else None
    review = Review(
        project=run.project.name,
        stage=record.stage,
        commit=_commit(run, run.revision),
        release=release.digest if (release := current_release(run)) else None,
        subject=verdict.subject,
        outcome=verdict.outcome,
        failures=verdict.failures,
        undecided=verdict.undecided,
        reasons=verdict.reasons,
        skipped=verdict.skipped,
        warnings=verdict.warnings,
        powers=verdict.powers,
        champion=champion,
        rows=record.rows,
        figures=figures,
        slices=shown,
        regressions=shortest(changed) if changed is not None else None,
        data=_data(run, other, notes),
        **_changes(run, other),
        **_history(run, since),
        cost=_cost(run),
        links=(*_links(run, record), *links),
        notes=tuple(notes),
    )
    return Gathered(review, changed)


@contextmanager
def _told(notes: list[str], what: str) -> Iterator[None]:
    """Notes a fault of what is read, and goes on without it."""
    try:
        yield
    except (StoreError, StoreDenied, SourceError, ConfigError, OSError, ValueError) as error:
        notes.append(f"{what} cannot be read: {excerpt(redacted(str(error)))}")


def _champion(run: Candidate, verdict: Verdict, notes: list[str]) -> tuple[Champion | None, ChampionNow | None]:
    """The release that the verdict compared with, with the commit from which production served it last."""
    release = verdict.champion
    if release is None:
        return None, None
    project = run.project.name
    served = [revision for digest, revision, _ in run.ledger.served(project) if digest == release]
    made = run.ledger.revision_of_release(project, release)
    revision = served[-1] if served else made[0] if made else None
    if revision is None:
        notes.append(f"the ledger does not know which commit made the champion {short(release)}")
        return Champion(release=release, revision=None), None
    subject = ""
    found: ChampionNow | None = None
    with _told(notes, f"the champion's commit {short(revision)}"):
        subject = run.source.git.message(revision)
        found = ChampionNow(run, release, revision)
    return Champion(release=release, revision=revision, subject=subject), found


def _why_not(record: Measured, beside: Measured | None) -> str:
    if beside is None:
        return "it has no report on these rows"
    return (
        "both have the same report"
        if beside.key == record.key
        else "its report was measured differently, or on other rows"
    )


def _figure(
    judged: Compared,
    theirs: Measured | None,
    rows: EvaluatedRows | None = None,
    others: EvaluatedRows | None = None,
) -> FigureBeside:
    """A figure of the verdict, with the intervals that the reports have."""
    name = judged.metric
    own = next((m for m in theirs.metrics if m.name == name), None) if theirs is not None else None
    bounds = own if own is not None and own.value == judged.champion else None
    return FigureBeside(
        metric=name,
        unit=METRICS[name].unit if name in METRICS else "",
        higher_is_better=judged.higher_is_better,
        value=_estimate(judged.value, judged.low, judged.high),
        champion=_estimate(judged.champion, bounds.low, bounds.high) if bounds else _estimate(judged.champion),
        unquantized=_estimate(judged.unquantized),
        difference=difference(rows, others, name) if bounds and rows and others else None,
    )


def _estimate(value: float | None, low: float | None = None, high: float | None = None) -> Estimate | None:
    return None if value is None else Estimate(value=value, low=low, high=high)


def _slices(
    run: Candidate,
    record: Measured,
    rows: EvaluatedRows,
    others: EvaluatedRows | None,
    compared: set[str],
) -> tuple[Slices, ...]:
    of = of_stage(record.stage)
    gated = (g.per for g in run.at.policy.gates if g.of == of and g.per)
    columns = dict.fromkeys([*run.at.config.evaluation.slices, *gated])
    alone = frozenset(m.name for m in record.metrics if m.name not in compared)
    shown = []
    for column in columns:
        # A metric that has rows of its own has slices of its own.
        sets = [("", rows, others, record.metrics)]
        for metric in record.metrics:
            if (own := rows.of(metric.name)) is not rows:
                sets.append((f" of {metric.name}", own, others and others.of(metric.name), (metric,)))
        for of_metric, mine, theirs, metrics in [s for s in sets if s[1].slices(column)] or sets[:1]:
            found = _slices_of(column, mine, theirs, metrics, alone, SMALLEST_SLICE)
            shown.append(found.model_copy(update={"column": f"{column}{of_metric}"}))
    return tuple(shown)


_slices_of = lru_cache(maxsize=32)(slices)  # of immutable reports: every page of a run shows the same ones


def _places(run: Candidate, notes: list[str]) -> Sequence[str]:
    """Where each test row came from; empty if it is unknown."""
    data = run.resolved.records.get("dataset_version")
    if isinstance(data, DatasetVersion):
        with _told(notes, "the data"):
            return places(run.store.fetch(data.uri), "test", data.test.rows)
    return []


def compare_data(run: Candidate, champion: ChampionNow, data: DatasetVersion) -> DataDiff | None:
    """The data against the champion's; None if the champion's dataset version is unknown.

    Raises:
        StoreError, OSError, ValueError: a version cannot be read.
    """
    before = run.ledger.records_of(run.project.name, champion.revision).get("dataset_version")
    if not isinstance(before, DatasetVersion):
        return None
    if before.outputs == data.outputs:
        return data_diff(Version.of(before), Version.of(data))
    return data_diff(Version.of(before, run.store.fetch(before.uri)), Version.of(data, run.store.fetch(data.uri)))


def _data(run: Candidate, champion: ChampionNow | None, notes: list[str]) -> DataDiff | None:
    data = run.resolved.records.get("dataset_version")
    if champion is None or not isinstance(data, DatasetVersion):
        return None
    with _told(notes, "the data of the champion"):
        found = compare_data(run, champion, data)
        if found is None:
            notes.append("the ledger has no dataset version of the champion, so its data is not compared")
        return found
    return None


def _changes(run: Candidate, champion: ChampionNow | None) -> dict[str, Any]:
    """What the project's files say differently: keys of llmops.yaml, and prompts."""
    if champion is None:
        return {"configuration": None, "prompts": None}
    before, after = (at.config.model_dump(mode="json", exclude={"name"}) for at in (champion.at, run.at))
    keys = tuple(
        change.model_copy(
            update={side: redacted(text) for side in ("before", "after") if (text := getattr(change, side))}
        )
        for change in key_changes(before, after)
    )
    old, new = champion.at.values, run.at.values
    names = ["prompt"]
    pair = [values.get("training.prompt", "") for values in (old, new)]
    if pair != [old["prompt"], new["prompt"]] and all(pair):
        names.append("training.prompt")
    prompts = (PromptDiff(name=name, diff=text_diff(old[name], new[name])) for name in names if old[name] != new[name])
    return {"configuration": keys, "prompts": tuple(prompts)}


def _history(run: Candidate, since: str | None) -> dict[str, Any]:
    """The commits since the champion's, and who made them."""
    git = run.source.git
    between = git.between(since, run.revision) if since else []
    all_of_them = [run.revision, *reversed(between)]
    people = git.authors(run.revision, since)
    return {
        "commits": tuple(_commit(run, revision) for revision in all_of_them[:COMMITS]),
        "more_commits": max(0, len(all_of_them) - COMMITS),
        "authors": tuple(f"{a.name} <{a.email}>" for a in people[:AUTHORS]),
    }


def _commit(run: Candidate, revision: str) -> CommitLine:
    git = run.source.git
    return CommitLine(
        revision=revision,
        subject=excerpt(git.message(revision), 200),
        author=git.author(revision),
        page=run.project.commit_page(revision),
    )


def _cost(run: Candidate) -> Cost:
    found = run.ledger.resolve(run.at.values).records | run.resolved.records
    compute = run.source.settings.compute
    return cost_of(found.values(), run.revision, compute.price_per_hour, compute.currency)


def _links(run: Candidate, record: Measured) -> Iterator[Link]:
    if page := run.project.commit_page(run.revision):
        yield Link(name="commit", url=page)
    if ui := run.source.settings.ui("dagster"):
        yield Link(name="Dagster run that measured it", url=f"{ui}/runs/{record.made_by.run_id}")
