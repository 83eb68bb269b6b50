"""A project at a commit, resolved: configuration, values, versions of data and policy.

Which values a stage reads belongs in `llmops_assets.domain.chain`.
"""

from collections.abc import Sequence
from functools import reduce
from typing import Any

from llmops_assets import catalog
from llmops_assets.config.documents import CONFIG_BYTES, DocumentError
from llmops_assets.config.documents import text_of as decoded
from llmops_assets.config.project import CONFIG_FILE, BaseModelHub, ProjectConfig, parse_config
from llmops_assets.config.settings import Settings
from llmops_assets.config.smoke_tests import parse_smoke_tests
from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.config.yaml_validation import ConfigError
from llmops_assets.domain.keys import short
from llmops_assets.domain.policy import Policy
from llmops_assets.domain.policy_floor import PolicyFloor, below_floor, with_floor
from resources.project_source.dvc import DvcData
from resources.project_source.dvc_files import Output
from resources.project_source.evaluation_values import evaluation_values, files_of_metrics, problems_of_metrics
from resources.project_source.git_mirror import GitMirror
from resources.project_source.git_objects import tree_digest
from resources.project_source.image_values import image_values
from resources.project_source.links import remedy
from resources.project_source.revision_files import RevisionFiles


class ProjectRevision:
    """One commit of one project, resolved. Immutable; made by `resolve`, and kept by `ProjectRepository.at`."""

    def __init__(
        self,
        project: ProjectSource,
        revision: str,
        config: ProjectConfig,
        values: dict[str, Any],
        smoke_tests: list[dict[str, Any]],
        tracked: dict[str, Output],
        metric_files: dict[str, tuple[str, ...]],
        policy: Policy,
        below_floor: tuple[str, ...] = (),
        pointers: frozenset[str] = frozenset(),
        image_files: tuple[str, ...] = (),
    ):
        self.project, self.revision, self.config, self.values = project, revision, config, values
        self.smoke_tests = smoke_tests
        self.tracked = tracked
        """DVC-tracked paths that stages read → their pointer's entry."""
        self.metric_files = metric_files
        """The project's own metrics → the files that their keys cover, and that their code can see."""
        self.policy = policy
        """What its release must satisfy: that of llmops.yaml, and never less than the settings' floor."""
        self.below_floor = below_floor
        """What llmops.yaml sets below the floor."""
        self.pointers = pointers
        """The DVC files of the data that stages read: no code, so that new rows are no new code."""
        self.image_files = image_files
        """What its image is built from; empty if it has none."""


def resolve(
    project: ProjectSource, revision: str, git: GitMirror, dvc: DvcData, settings: Settings, served: bool = False
) -> ProjectRevision:
    """A project at a full commit SHA.

    Args:
        served: of a release that an earlier version of this code may have made.

    Raises:
        ConfigError: llmops.yaml, a prompt or the smoke tests are missing or invalid; it names all problems.
        SourceError: the commit is not in the mirror.
    """
    config = _read_config(project, revision, git, served)
    if out := git.links_out(revision):
        raise ConfigError([remedy(path, where) for path, where in out.items()])
    files = RevisionFiles(git, dvc, revision)
    values: dict[str, Any] = {
        "name": config.name,
        "data": _data(config, files),
        "model.base": _base_model(config, files),
        **_training(config, files),
        "prompt": files.prompt(config.prompt, "prompt"),
    }
    metric_files = files_of_metrics(config, files)
    values["evaluation"] = evaluation_values(config, settings, files, metric_files)
    if not served and not files.problems:
        files.problems += list(problems_of_metrics(config, settings, files))
    if "must_pass" in values["data"]:
        # The rule is policy: a new threshold is a new verdict on the answers that there are.
        values["evaluation"]["must_pass"] = values["data"]["must_pass"]["version"]
    values["quantization"] = _quantization(config)
    values["engine"] = _engine(config)
    smoke_tests = _smoke_tests(config, files)
    of_image, image_files = image_values(config, settings.images, files)
    values |= of_image
    values["gates"] = _gates(config)
    values["policy"] = _policy(config, smoke_tests)
    if files.problems:
        raise ConfigError(files.problems)
    # Pointers of data that dataset_version reads are ignored: new rows do not require linting the code again.
    pointers = frozenset(files.pointers)
    ci = config.ci.model_dump(mode="json", exclude_defaults=True)
    values["tree"] = {"digest": tree_digest(files.ids, config.ci.ignore, pointers), **ci}
    stated = config.policy(values["data"]["test"]["version"], values["evaluation"], smoke_tests)
    floors = settings.floors(project.name)
    return ProjectRevision(
        project,
        revision,
        config,
        values,
        smoke_tests,
        files.tracked,
        metric_files,
        policy=_with_floors(stated, floors, settings),
        below_floor=tuple(text for floor in floors for text in below_floor(stated, floor)),
        pointers=pointers,
        image_files=image_files,
    )


def _read_config(project: ProjectSource, revision: str, git: GitMirror, served: bool) -> ProjectConfig:
    try:
        data = git.read(revision, CONFIG_FILE, CONFIG_BYTES)
        if data is None:
            place = f"in {git.root}/" if git.root else "at the root"
            raise DocumentError(f"missing {place} of {short(revision)}; `llmops check` says what it needs")
        config = parse_config(decoded(data), served=served)
    except DocumentError as error:
        raise ConfigError([f"{CONFIG_FILE}: {error}"]) from error
    if config.name != project.name:
        raise ConfigError([f"{CONFIG_FILE}: name: it is {config.name!r}, but the settings say {project.name!r}"])
    return config


def _data(config: ProjectConfig, files: RevisionFiles) -> dict[str, Any]:
    found = config.data.model_dump(mode="json", exclude_defaults=True, include={"validation_share", "seed"})
    for split in ("train", "validation", "test"):
        if path := getattr(config.data, split):
            found[split] = {"path": path, "version": files.version(path, f"data.{split}")}
    if kept := config.evaluation.must_pass:
        found["must_pass"] = {"path": kept.file, "version": files.version(kept.file, "evaluation.must_pass.file")}
    return found


def _base_model(config: ProjectConfig, files: RevisionFiles) -> dict[str, Any]:
    base = config.model.base
    if isinstance(base, BaseModelHub):
        return {"hub": base.hub, "revision": base.revision}
    return {"version": files.version(base.path, "model.base.path")}


def _training(config: ProjectConfig, files: RevisionFiles) -> dict[str, Any]:
    method = catalog.TRAINING_METHODS[config.training.method]
    options = config.training.model_dump(mode="json", exclude_defaults=True, exclude={"prompt"})
    return {
        "training": (options if method.trains else {"method": method.name}) | catalog.versions(method),
        "training.prompt": files.prompt(config.training_prompt, "training.prompt") if method.trains else "",
        "training.prompt.own": config.training.prompt is not None,
    }


def _quantization(config: ProjectConfig) -> dict[str, Any]:
    options = config.quantization.model_dump(mode="json", exclude_defaults=True)
    return options | catalog.versions(catalog.QUANTIZATION_BACKENDS[config.quantization.backend])


def _engine(config: ProjectConfig) -> dict[str, Any]:
    deployment = config.deployment
    sampling = deployment.sampling.model_dump(mode="json", exclude_defaults=True)
    return {
        "engine": deployment.engine,
        "serving": deployment.serving.model_dump(mode="json", exclude_defaults=True),
        **({"sampling": sampling} if sampling else {}),
        **catalog.versions(catalog.ENGINES[deployment.engine]),
    }


def _smoke_tests(config: ProjectConfig, files: RevisionFiles) -> list[dict[str, Any]]:
    """The smoke tests; none if anything is wrong until here, for their text may be a placeholder."""
    file = config.deployment.smoke_tests
    if not file:
        return []
    text = files.text(file, "deployment.smoke_tests", CONFIG_BYTES)
    return [] if files.problems else parse_smoke_tests(text, file).model_dump(mode="json")["tests"]


def _gates(config: ProjectConfig) -> list[dict[str, Any]]:
    gates = [gate.model_dump(mode="json", exclude_defaults=True) for gate in config.gates]
    if kept := config.evaluation.must_pass:
        gates.append({"must_pass": kept.rule.model_dump(mode="json", exclude_defaults=True)})
    return gates


def _policy(config: ProjectConfig, smoke_tests: list[dict[str, Any]]) -> dict[str, Any]:
    deployment = config.deployment
    return {
        "rollout": deployment.rollout.model_dump(mode="json", exclude_defaults=True),
        "approval": deployment.approval.model_dump(mode="json", exclude_defaults=True),
        "review": deployment.review.model_dump(mode="json", exclude_defaults=True),
        "smoke_tests": smoke_tests,
        "budget": config.budget.model_dump(mode="json", exclude_defaults=True),
    }


def _with_floors(stated: Policy, floors: Sequence[PolicyFloor], settings: Settings) -> Policy:
    """What the release must satisfy: what llmops.yaml states, and never less than the settings' floors."""
    policy = reduce(with_floor, floors, stated)
    if images := settings.images:
        of_settings = {"bases": images.bases, "must_be_scanned": images.scan.not_scanned != "accept"}
        policy = policy.model_copy(update={"image": policy.image.model_copy(update=of_settings)})
    return policy
