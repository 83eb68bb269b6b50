"""Shared by both evaluation reports: the spec, the champion's evaluation, the MLflow run, and the report's metadata."""

from collections.abc import Callable, Mapping
from typing import Any

import dagster as dg

from llmops_assets.config.documents import CODE_BYTES, LABEL_BYTES, read_text
from llmops_assets.config.metrics import CustomMetric, ListedMetric, name_of, part_of
from llmops_assets.delivery.code_rules import builder_spec, code_rules
from llmops_assets.delivery.gate_evidence import current_release, of_stage
from llmops_assets.delivery.judges import judges_of
from llmops_assets.delivery.preferences import gated_preferences, key_of
from llmops_assets.delivery.references import ChampionNow, champion_now, references
from llmops_assets.domain.formatting import figure
from llmops_assets.domain.keys import digest, short
from llmops_assets.domain.measurement import differences
from llmops_assets.domain.preference import Preference
from llmops_assets.domain.records import (
    Checkpoint,
    ContainerImage,
    DatasetVersion,
    JudgedPreference,
    Measured,
    Metric,
)
from llmops_assets.programs.evaluation.report import PAGE
from llmops_assets.programs.runtime.specs import JudgePairsResult, JudgePairsSpec, MetricSpec, RunInImage
from llmops_assets.stage.execution import StageExecution
from llmops_assets.stage.metadata import figure_of
from llmops_assets.stage.mlflow_inputs import origin_of, used_rows
from resources.compute.interface import Finished
from resources.tracking.mlflow import OUTCOME_TAG

REPORT = "report"
"""The folder of an evaluation's MLflow run that has its page."""
MeasureChampion = Callable[[StageExecution, ChampionNow, str, str], Measured | None]
"""(run, champion, key, title) → the champion's report on this revision's rows; None if it has nothing to evaluate."""


def common_spec(run: StageExecution, data: DatasetVersion, served: bool = False) -> dict[str, Any]:
    evaluation = run.at.config.evaluation
    return {
        "data": str(run.fetch(data)),
        "metrics": metric_specs(run, served),
        "max_rows": evaluation.max_rows,
        "max_new_tokens": evaluation.max_new_tokens,
        "code": code_rules(run.settings.compute).model_copy(update={"image": image_of(run)}),
    }


def image_of(run: StageExecution) -> RunInImage | None:
    """The image in which the project's own metrics run; None if they run beside us."""
    if not run.at.values.get("metrics.in_image") or run.settings.images is None:
        return None
    image = run.record(ContainerImage, "container_image")
    return RunInImage(reference=image.reference, builder=builder_spec(run.settings.images))


def identity(run: StageExecution, data: DatasetVersion) -> dict[str, str]:
    return {"test_digest": data.test.digest, "metrics_digest": digest(run.at.values["evaluation"])}


def measure_champion(run: StageExecution, stage: str, measure: MeasureChampion, like: Measured | None = None) -> None:
    """Evaluates the champion and the baselines on this revision's rows and metrics, unless reports exist.

    Args:
        measure: see `MeasureChampion`.
        like: the candidate's report, once it exists. A report of the champion that was measured differently (after an
            upgrade of a library, or on another device) is not comparable: the champion is evaluated again, once.
    """
    for reference in references(run, of_stage(stage)):
        measure_reference(run, stage, reference, measure, like)


def measure_reference(
    run: StageExecution, stage: str, champion: ChampionNow, measure: MeasureChampion, like: Measured | None
) -> None:
    """Evaluates one other model on this revision's rows and metrics, unless a comparable report exists."""
    report, key = champion.report(run, stage, like), champion.key(run, stage)
    differs = differences(like, report) if like is not None and report is not None else ()
    if key is None or key == run.key or (report is not None and not differs):
        return
    if why := champion.lost(run, stage):
        run.log.warning(f"the {champion.called} {short(champion.release)} cannot be evaluated: {why}")
        return
    if like is not None and differs:
        key = champion.key(run, stage, like)
        assert key is not None
        if run.ledger.find(key) is not None:
            return  # it was tried: this machine does not measure as the candidate was measured, and the gate says so
    why = f"again, measured differently: {', '.join(differs)}" if differs else "on the new rows or metrics first"
    run.log.info(f"evaluating the {champion.called} {short(champion.release)} {why}")
    subject = run.source.git.message(champion.revision)
    title = f"{run.project.name} at {short(champion.revision)}, the {champion.called}: {subject}"
    if (record := measure(run, champion, key, title)) is not None:
        run.commit(record)


def judge_preferences(run: StageExecution, record: Measured) -> None:
    """Has the judges compare this report's answers with the champion's, as far as gates ask, unless they have."""
    champion, of = champion_now(run), of_stage(record.stage)
    release = current_release(run)
    if champion is None or (release and run.ledger.has_served(run.project.name, release.digest)):
        return
    beside = champion.report(run, record.stage, record)
    if beside is None or beside.key == record.key or differences(record, beside):
        return
    for name, metric in gated_preferences(run.at.config, run.at.policy, of).items():
        key = key_of(run.at.values, name, record, beside)
        if run.ledger.find(key) is not None:
            continue
        run.log.info(f"{name}: comparing the answers with those of the champion {short(champion.release)}")
        spec = JudgePairsSpec(
            candidate=str(run.store.fetch(record.uri)),
            champion=str(run.store.fetch(beside.uri)),
            data=str(run.fetch(run.record(DatasetVersion, "dataset_version"))),
            max_rows=run.at.config.evaluation.max_rows,
            metric=_metric_spec(run, metric),
        )
        done = run.program("judge_pairs", spec, key=key, secrets=secrets_of(run))
        judged = Preference.model_validate(done.read(JudgePairsResult).model_dump())
        header = {**run.header, "key": key}
        run.commit(
            JudgedPreference(**header, metric=name, report=record.digest, champion=beside.digest, preference=judged)
        )


def log_evaluation(
    run: StageExecution,
    stage: str,
    key: str,
    revision: str,
    checkpoint: Checkpoint,
    done: Finished,
    metrics: tuple[Metric, ...],
) -> None:
    """Logs an evaluation as an MLflow run of its own, nested under the run of the training.

    One checkpoint is evaluated with many prompts and settings, for commits that are released and commits that are not.
    """
    of = "served" if stage == "served_evaluation_report" else "evaluation"
    tracking, data = run.tracking, run.record(DatasetVersion, "dataset_version")
    settings = run.at.config.evaluation
    mlflow_run = tracking.start(
        run.project.name,
        key,
        name=f"{short(revision)} {of}",
        revision=revision,
        dagster_run_id=run.run_id,
        params={
            "max_rows": settings.max_rows,
            "max_new_tokens": settings.max_new_tokens,
            "checkpoint": checkpoint.digest,
        },
        artifacts=run.store.url,
        note=run.note,
        parent=checkpoint.mlflow_run_id,
        origin=origin_of(run, revision),
        datasets=[used_rows(run, data, "test", "evaluation")],
    )
    if OUTCOME_TAG not in tracking.tags(mlflow_run):
        tracking.tag(mlflow_run, {OUTCOME_TAG: "evaluated"})
    bounds = {"": "value", "_low": "low", "_high": "high"}
    named = {f"{of}/{m.name}{end}": getattr(m, field) for m in metrics for end, field in bounds.items()}
    tracking.log(mlflow_run, {name: value for name, value in named.items() if value is not None}, 0)
    tracking.log_report(mlflow_run, done.artifact / PAGE, REPORT)
    tracking.finish(mlflow_run)


def secrets_of(run: StageExecution) -> tuple[str, ...]:
    """Environment variables: API keys of the judges that the metrics name, and the password of the image's registry."""
    names = {judge.api_key.env for judge in judges_of(run.settings, run.at.config) if judge.api_key}
    images = run.settings.images if run.at.values.get("metrics.in_image") else None
    return tuple(sorted(names | ({images.password.env} if images and images.password else set())))


def metric_specs(run: StageExecution, served: bool) -> tuple[MetricSpec, ...]:
    """The metrics that a report has; of the served model without those that need the loaded model itself."""
    parts = ((metric, part_of(metric)) for metric in run.at.config.evaluation.metrics)
    measured = (m for m, part in parts if part is None or (part.reads != "champion" and (part.as_served or not served)))
    return tuple(_metric_spec(run, metric) for metric in measured)


def _metric_spec(run: StageExecution, metric: str | ListedMetric | CustomMetric) -> MetricSpec:
    if isinstance(metric, str):
        return MetricSpec(name=metric)
    tree = run.source.work_tree(run.revision)
    if isinstance(metric, ListedMetric):
        options = metric.options
        if metric.model:
            options["model"] = str(run.source.pull(run.at, [metric.model]) / metric.model)
        if metric.file:
            options["file"] = read_text(tree / metric.file, CODE_BYTES)
        for option in options.keys() & {"labels", "rows"}:
            path = options[option]
            options[option] = read_text(run.source.pull(run.at, [path]) / path, LABEL_BYTES)
        if judge := run.settings.judge(options.pop("judge", None)):
            options["endpoint"] = judge.model_dump(mode="json", exclude_defaults=True)
        return MetricSpec(name=name_of(metric), metric=metric.metric, options=options)
    return MetricSpec(
        name=metric.name,
        file=metric.file,
        function=metric.function.split(":")[1],
        tree=str(tree),
        files=run.at.metric_files[metric.name],
        higher_is_better=metric.higher_is_better,
    )


def describe(run: StageExecution, record: Measured) -> Mapping[str, Any]:
    mlflow_run = run.tracking.find(run.project.name, record.key)
    links = {
        "report": run.tracking.report_url(run.project.name, mlflow_run, REPORT),
        "mlflow_run": run.tracking.run_url(run.project.name, mlflow_run),
    }
    return {
        **{m.name: figure_of(m.value) for m in record.metrics},
        **{f"{m.name}_95": f"{figure(m.low)} to {figure(m.high)}" for m in record.metrics if m.low is not None},
        "rows": record.rows,
        **({"cut_answers": record.cut} if record.cut is not None else {}),
        "report": dg.MetadataValue.path(f"{record.uri}/{PAGE}"),
        **{name: dg.MetadataValue.url(url) for name, url in links.items() if url},
        "uri": dg.MetadataValue.path(record.uri),
    }
