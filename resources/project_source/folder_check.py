"""Checks a project's folder on disk, including uncommitted changes: `llmops check --path`.

Mistakes are errors; what is only missing so far, as in a new project, is reported separately.
"""

from collections.abc import Iterator
from pathlib import Path

from llmops_assets.catalog import METRICS
from llmops_assets.config.documents import CODE_BYTES, CONFIG_BYTES, LABEL_BYTES, PROMPT_BYTES, DocumentError, read_text
from llmops_assets.config.image_context import IGNORE, BadPattern, context_files
from llmops_assets.config.metrics import ListedMetric, name_of
from llmops_assets.config.project import CONFIG_FILE, BaseModelPath, ProjectConfig, load_config
from llmops_assets.config.smoke_tests import parse_smoke_tests
from llmops_assets.config.yaml_validation import ConfigError
from llmops_assets.domain.prompt import PromptError, check_prompt
from llmops_assets.programs.models.base_model_check import problem_of_files
from llmops_assets.programs.runtime.errors import BadInput
from resources.project_source.dvc_config import committed_credentials
from resources.project_source.dvc_files import is_tracked
from resources.project_source.links import leaving, links_to_commit, remedy


def check_folder(folder: Path) -> ProjectConfig:
    """Validates the configuration and every file that it names, and returns the configuration.

    Raises:
        ConfigError: all problems, each with its remedy.
    """
    file = folder / CONFIG_FILE
    config = load_config(file)
    problems = [f"{file}: {problem}" for part in config.parts if (problem := part.missing())]
    for prompt in {config.prompt, config.training_prompt} - {None}:
        try:
            check_prompt(read_text(folder / str(prompt), PROMPT_BYTES))
        except (DocumentError, PromptError) as error:
            problems.append(f"{folder / str(prompt)}: {error}")
    if config.deployment.smoke_tests:
        path = folder / config.deployment.smoke_tests
        try:
            parse_smoke_tests(read_text(path, CONFIG_BYTES), str(path))
        except DocumentError as error:
            problems.append(f"{path}: {error} (deployment.smoke_tests)")
        except ConfigError as error:
            problems += error.problems
    for metric in config.evaluation.metrics:
        named = None if isinstance(metric, str) else metric.file
        if named and not (folder / named).is_file():
            problems.append(f"{folder / named}: no such file (evaluation.metrics: {name_of(metric)})")
        elif isinstance(metric, ListedMetric) and metric.file:
            problems += _problem_of_metric(folder, metric, metric.file)
    data = [config.data.train, config.data.validation, config.data.test]
    data += [
        path for m in config.evaluation.metrics if isinstance(m, ListedMetric) for path in (m.model, m.labels, m.rows)
    ]
    data += [config.model.base.path] if isinstance(config.model.base, BaseModelPath) else []
    for name in data:
        try:
            if name and not (folder / name).exists() and not is_tracked(folder, name):
                problems.append(f"{folder / name}: neither exists nor is tracked by DVC; `dvc add {name}`")
        except ConfigError as error:
            problems += error.problems
    problems += _problems_of_image(folder, config)
    dvc = folder / ".dvc" / "config"
    if dvc.is_file() and (problem := committed_credentials(dvc.read_text(errors="replace"))):
        problems.append(f"{folder}: {problem}")
    if problem := _problem_of_base(folder, config):
        problems.append(problem)
    problems += [f"{folder}/{remedy(path, where)}" for path, where in leaving(links_to_commit(folder)).items()]
    if problems:
        raise ConfigError(problems)
    return config


def _problems_of_image(folder: Path, config: ProjectConfig) -> Iterator[str]:
    """What is wrong with the Dockerfile that llmops.yaml names, and with .dockerignore."""
    image = config.image
    if not image.build or not (folder / image.file).is_file():
        if image.build and image.dockerfile is not None:
            yield f"{folder / image.file}: no such file (image.dockerfile)"
        return
    there = [name for name in (f"{image.file}{IGNORE}", str(Path(image.context) / IGNORE)) if (folder / name).is_file()]
    for name in there[:1]:
        try:
            context_files((), image.context, image.file, read_text(folder / name, CONFIG_BYTES))
        except DocumentError as error:
            yield f"{folder / name}: {error}"
        except BadPattern as error:
            yield f"{folder / name}:{error.line}: {error}"


def _problem_of_metric(folder: Path, metric: ListedMetric, file: str) -> Iterator[str]:
    """What is wrong with the content of a metric's files. Its judge is the settings', and is not checked here."""
    part, path = METRICS[metric.metric], folder / file
    if part.missing():
        return
    try:
        options = {**metric.options, "file": read_text(path, CODE_BYTES)}
        for option in options.keys() & {"labels", "rows"}:
            path = folder / options.pop(option)
            options |= {option: read_text(path, LABEL_BYTES)} if path.is_file() else {}
        part.load()(name_of(metric), options).check_file()
    except DocumentError as error:
        yield f"{path}: {error} (evaluation.metrics: {name_of(metric)})"
    except BadInput as error:
        yield f"{folder / CONFIG_FILE}: evaluation.metrics: {error}"


def _problem_of_base(folder: Path, config: ProjectConfig) -> str | None:
    """The problem of the base model's files, if any; conversion depends on the settings and is not checked here."""
    base = config.model.base
    if not isinstance(base, BaseModelPath) or not _holds_something(folder / base.path):
        return None
    problem = problem_of_files(folder / base.path)
    return f"{folder / base.path}: {problem} (model.base.path)" if problem else None


def still_to_do(folder: Path, config: ProjectConfig) -> list[str]:
    """What is missing before a valid project can run, each with its remedy."""
    path = lacks_base(folder, config)
    return [f"no base model yet: {base_remedy(path)}"] if path else []


def lacks_base(folder: Path, config: ProjectConfig) -> str | None:
    """The path where the base model is missing; None if the folder, DVC or the hub has it."""
    base = config.model.base
    if not isinstance(base, BaseModelPath) or is_tracked(folder, base.path):
        return None
    there = folder / base.path
    return base.path if there.is_dir() and not _holds_something(there) else None


def _holds_something(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def base_remedy(path: str) -> str:
    return (
        f"`llmops init --base FOLDER` copies one (config.json, safetensors, tokenizer) to {path}; or set a commit of "
        "the hub in llmops.yaml, model: {base: {hub: org/name, revision: SHA}}"
    )
