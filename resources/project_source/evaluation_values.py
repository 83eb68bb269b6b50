"""What an evaluation of a revision depends on: its metrics with their code, data and judges.

Computing a metric belongs in `llmops_assets.programs.evaluation`.
"""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from llmops_assets import catalog
from llmops_assets.config.documents import CODE_BYTES, LABEL_BYTES, DocumentError
from llmops_assets.config.ignore_patterns import ignoring
from llmops_assets.config.metrics import CustomMetric, ListedMetric, name_of, part_of
from llmops_assets.config.project import CONFIG_FILE, ProjectConfig
from llmops_assets.config.settings import Settings
from llmops_assets.domain.keys import digest
from llmops_assets.domain.python_imports import TooMuchCode, imported_files
from llmops_assets.programs.runtime.errors import BadInput
from resources.project_source.revision_files import RevisionFiles


def files_of_metrics(config: ProjectConfig, files: RevisionFiles) -> dict[str, tuple[str, ...]]:
    """The project's own metrics → the files that each can see."""
    found: dict[str, tuple[str, ...]] = {}
    for metric in config.evaluation.metrics:
        if isinstance(metric, CustomMetric):
            try:
                found[metric.name] = _files_of(metric, files)
            except (DocumentError, TooMuchCode) as error:
                found[metric.name] = (metric.file,)
                files.problem("evaluation.metrics", f"{metric.name}: {error}")
    return found


def _files_of(metric: CustomMetric, files: RevisionFiles) -> tuple[str, ...]:
    """The files that a metric of the project can see: what it imports, and what its `files` match.

    Raises:
        DocumentError: one of them is too large to be read.
        TooMuchCode: all of them are.
    """

    def read(path: str) -> bytes | None:
        try:
            return files.git.read(files.revision, path, CODE_BYTES)
        except DocumentError as error:
            raise DocumentError(f"imports {path}: {error}; keep data in a file that is no Python") from error

    imported = imported_files(metric.file, files.ids, read)
    named = ignoring(metric.files)
    return tuple(sorted({*imported, *(path for path in files.ids if metric.files and named.match_file(path))}))


def evaluation_values(
    config: ProjectConfig, settings: Settings, files: RevisionFiles, metric_files: Mapping[str, tuple[str, ...]]
) -> dict[str, Any]:
    """The resolved values of the evaluation: a metric by its options, and the digests of what it reads.

    Args:
        metric_files: see `files_of_metrics`.
    """
    value = config.evaluation.model_dump(mode="json", exclude={"metrics", "slices", "must_pass"}, exclude_defaults=True)
    metrics: list[Any] = []
    for metric in config.evaluation.metrics:
        if isinstance(metric, ListedMetric):
            metrics.append(_listed(metric, settings, files))
        elif isinstance(metric, CustomMetric):
            metrics.append(_own(metric, files, metric_files[metric.name]))
        else:
            metrics.append(metric)
    value["metrics"] = metrics
    parts = (part for m in config.evaluation.metrics if (part := part_of(m)) is not None)
    return value | catalog.versions(*parts)


def _listed(metric: ListedMetric, settings: Settings, files: RevisionFiles) -> dict[str, Any]:
    """A metric of the catalog, with options."""
    found = {"metric": metric.metric, "name": name_of(metric), **metric.options}
    key = f"evaluation.metrics: {name_of(metric)}"
    if metric.model:
        found["model"] = files.version(metric.model, key)
    for option in ("labels", "rows"):
        if path := getattr(metric, option):
            found[option] = files.version(path, key)
    if judge := settings.judge(metric.judge):
        found["judge"] = judge.identity
    if metric.file:
        found["file"] = hashlib.sha256(files.text(metric.file, key, CODE_BYTES).encode()).hexdigest()
    return found


def _own(metric: CustomMetric, files: RevisionFiles, sees: tuple[str, ...]) -> dict[str, Any]:
    """A function of the project."""
    code = files.text(metric.file, f"evaluation.metrics: {metric.name}", CODE_BYTES)
    found = {
        **metric.model_dump(mode="json", exclude_defaults=True),
        "code": hashlib.sha256(code.encode()).hexdigest(),
    }
    if others := {path: files.ids[path] for path in sees if path != metric.file}:
        found["files"] = digest(others)
    return found


def problems_of_metrics(config: ProjectConfig, settings: Settings, files: RevisionFiles) -> Iterator[str]:
    """What is wrong with the files and judges of the catalog's metrics."""
    for metric in config.evaluation.metrics:
        if not isinstance(metric, ListedMetric):
            continue
        key = f"evaluation.metrics: {name_of(metric)}"
        if metric.judge and settings.judge(metric.judge) is None:
            known = ", ".join(judge.name for judge in settings.judges) or "none"
            yield (
                f"{CONFIG_FILE}: {key}: judge: the settings have no judge {metric.judge!r} (known: {known}); add "
                "it there under `judges`, or name another one"
            )
        part = catalog.METRICS[metric.metric]
        if not metric.file or part.missing():
            continue
        options = {**metric.options, "file": files.text(metric.file, key, CODE_BYTES)}
        for option in options.keys() & {"labels", "rows"}:
            path = options.pop(option)
            if path not in files.tracked:  # DVC's are read when they are used
                options[option] = files.text(path, key, LABEL_BYTES)
        try:
            part.load()(name_of(metric), options).check_file()
        except BadInput as error:
            yield f"{CONFIG_FILE}: evaluation.metrics: {error}"
