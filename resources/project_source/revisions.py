"""A project at a revision: its configuration, resolved values and data versions, read from Git and DVC.

Which values a stage reads belongs in `llmops_assets.domain.chain`.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache, reduce
from pathlib import Path
from typing import Any

from llmops_assets import catalog
from llmops_assets.config.documents import CODE_BYTES, CONFIG_BYTES, LABEL_BYTES, PROMPT_BYTES, DocumentError
from llmops_assets.config.documents import text_of as decoded
from llmops_assets.config.ignore_patterns import ignoring
from llmops_assets.config.image_context import BadPattern, context_files, ignore_file
from llmops_assets.config.metrics import CustomMetric, ListedMetric, name_of, part_of
from llmops_assets.config.project import CONFIG_FILE, BaseModelHub, ProjectConfig, parse_config
from llmops_assets.config.settings import Settings
from llmops_assets.config.smoke_tests import parse_smoke_tests
from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.config.yaml_validation import ConfigError
from llmops_assets.domain.images import NO_BUILDER, NO_DOCKERFILE, SWITCHED_OFF
from llmops_assets.domain.keys import digest, short
from llmops_assets.domain.policy import Policy
from llmops_assets.domain.policy_floor import below_floor, with_floor
from llmops_assets.domain.prompt import PromptError, check_prompt
from llmops_assets.domain.python_imports import TooMuchCode, imported_files
from llmops_assets.domain.sampling import Sampling
from llmops_assets.programs.runtime.errors import BadInput
from resources.project_source.dvc import ANSWER_S, DvcData
from resources.project_source.dvc_files import Output
from resources.project_source.git_mirror import GitMirror
from resources.project_source.git_objects import tree_digest
from resources.project_source.links import remedy
from resources.project_source.looks import Gate, RemoteLooks

PATIENCE_S, SHORT_PATIENCE_S = 15.0, 2.0
"""How long a tick waits for a remote, at most and at least: the shorter the more projects wait for that tick."""
SHARED_FOR_S = 5.0
"""Dagster's daemon begins a round of ticks every 5 s; in each, a project's sensors share a look at its remote."""
BARE_PROMPT = "{{ input }}"


def _without_defaults(options: Sampling) -> dict[str, Any]:
    return options.model_dump(mode="json", exclude_defaults=True)


class ProjectRevision:
    """One commit of one project, resolved. Immutable; made by `ProjectRepository.at`."""

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


class ProjectRepository:
    """Thin typed client of one watched repository."""

    def __init__(self, project: ProjectSource, settings: Settings, gate: Gate | None = None):
        self.project, self.settings = project, settings
        mirror = settings.home / "mirrors" / f"{project.name}.git"
        url, is_path = self._url()
        root = "" if project.folder in (None, ".") else str(project.folder)
        pulls, limit_s = project.pull_requests is not None, settings.fetch_timeout
        self.git = GitMirror(url, project.branch, mirror, limit_s, root, pulls, project.release_tags)
        self.looks = RemoteLooks(
            self.git.update,
            lambda: self.git.doing,
            shared_for_s=0.0 if is_path else SHARED_FOR_S,
            patience_s=PATIENCE_S if is_path else self._patience_s(PATIENCE_S),
            gate=gate or Gate(),
        )
        work, cache = settings.home / "work" / project.name, settings.home / "dvc-cache"
        self.dvc = DvcData(self.git, work, cache, settings.pull_timeout)
        self.floors = settings.floors(project.name)
        self._at = lru_cache(maxsize=64)(self._resolve_or_refuse)

    def _url(self) -> tuple[str, bool]:
        """The repository's address, and whether it is a folder of this machine."""
        url = self.project.address
        is_path = "://" not in url and ":" not in url.split("/")[0]
        return (str(Path(url).expanduser().resolve()) if is_path else url), is_path

    @property
    def no_head(self) -> str:
        """Why there is no commit to deploy, if there is none."""
        if self.project.release_tags is not None and self.git.tip() is not None:
            return (
                f"no tag {self.project.release_tags} is on branch {self.project.branch!r} of {self.project.shown} yet"
            )
        return f"branch {self.project.branch!r} does not exist in {self.project.shown}"

    def at(self, revision: str, served: bool = False) -> ProjectRevision:
        """The project at a full commit SHA; `served`: of a release that an earlier version of this code may have made.

        Raises:
            ConfigError: llmops.yaml, a prompt or the smoke tests are missing or invalid.
            SourceError: the commit is not in the mirror.
        """
        found = self._at(revision, served)
        if isinstance(found, ProjectRevision):
            return found
        raise ConfigError(found)

    def _resolve_or_refuse(self, revision: str, served: bool) -> ProjectRevision | list[str]:
        """The project, or its problems: both are final for a commit, and every tick asks again."""
        try:
            return self._resolve(revision, served)
        except ConfigError as error:
            return error.problems

    def _resolve(self, revision: str, served: bool) -> ProjectRevision:
        try:
            data = self.git.read(revision, CONFIG_FILE, CONFIG_BYTES)
            if data is None:
                place = f"in {self.git.root}/" if self.git.root else "at the root"
                raise DocumentError(f"missing {place} of {short(revision)}; `llmops check` says what it needs")
            config = parse_config(decoded(data), served=served)
        except DocumentError as error:
            raise ConfigError([f"{CONFIG_FILE}: {error}"]) from error
        if config.name != self.project.name:
            raise ConfigError(
                [f"{CONFIG_FILE}: name: it is {config.name!r}, but the settings say {self.project.name!r}"]
            )
        if out := self.git.links_out(revision):
            raise ConfigError([remedy(path, where) for path, where in out.items()])
        problems: list[str] = []
        files = self.git.files(revision)
        tracked: dict[str, Output] = {}
        pointers: set[str] = set()

        def version(path: str, key: str) -> str:
            if found := self.dvc.tracked(revision, path):
                pointer, tracked[path] = found
                pointers.add(pointer)
                return f"dvc:{tracked[path].md5}"
            if why := self.git.kept_elsewhere(revision, path):
                problems.append(f"{CONFIG_FILE}: {key}: {why}")
                return "missing"
            if blob := self.git.object_id(revision, path):
                return f"git:{blob}"
            problems.append(
                f"{CONFIG_FILE}: {key}: {path} is neither in Git nor tracked by DVC; "
                f"`dvc add {path}`, then commit {path}.dvc"
            )
            return "missing"

        def text_of(path: str, key: str, limit: int) -> str:
            try:
                content = self.git.read(revision, path, limit)
                if why := self.git.kept_elsewhere(revision, path):
                    problems.append(f"{CONFIG_FILE}: {key}: {why}")
                    return BARE_PROMPT
                if content is not None:
                    return decoded(content)
                problems.append(f"{CONFIG_FILE}: {key}: there is no {path} in Git at {short(revision)}")
            except DocumentError as error:
                problems.append(f"{path}: {error}")
            return BARE_PROMPT

        def prompt_of(path: str | None, key: str) -> str:
            if path is None:
                return BARE_PROMPT
            text = text_of(path, key, PROMPT_BYTES)
            try:
                check_prompt(text)
            except PromptError as error:
                problems.append(f"{path}: {error} (named by {key} in {CONFIG_FILE})")
            return text

        values: dict[str, Any] = {"name": config.name}
        values["data"] = {
            **config.data.model_dump(mode="json", exclude_defaults=True, include={"validation_share", "seed"}),
            **{
                split: {"path": path, "version": version(path, f"data.{split}")}
                for split in ("train", "validation", "test")
                if (path := getattr(config.data, split))
            },
        }
        if kept := config.evaluation.must_pass:
            rows = {"path": kept.file, "version": version(kept.file, "evaluation.must_pass.file")}
            values["data"]["must_pass"] = rows
        base = config.model.base
        values["model.base"] = (
            {"hub": base.hub, "revision": base.revision}
            if isinstance(base, BaseModelHub)
            else {"version": version(base.path, "model.base.path")}
        )
        values["training"] = config.training.model_dump(mode="json", exclude_defaults=True, exclude={"prompt"})
        method = catalog.TRAINING_METHODS[config.training.method]
        if not method.trains:
            values["training"] = {"method": method.name}
        values["training"] |= catalog.versions(method)
        values["training.prompt"] = prompt_of(config.training_prompt, "training.prompt") if method.trains else ""
        values["training.prompt.own"] = config.training.prompt is not None
        values["prompt"] = prompt_of(config.prompt, "prompt")
        metric_files: dict[str, tuple[str, ...]] = {}
        for metric in config.evaluation.metrics:
            if isinstance(metric, CustomMetric):
                try:
                    metric_files[metric.name] = self._files_of(revision, metric, files)
                except (DocumentError, TooMuchCode) as error:
                    metric_files[metric.name] = (metric.file,)
                    problems.append(f"{CONFIG_FILE}: evaluation.metrics: {metric.name}: {error}")
        values["evaluation"] = self._evaluation(config, text_of, version, metric_files, files)
        if not served and not problems:
            problems += self._problems_of_metrics(config, text_of, tracked)
        if kept:
            # The rule is policy: a new threshold is a new verdict on the answers that there are.
            values["evaluation"]["must_pass"] = values["data"]["must_pass"]["version"]
        values["quantization"] = config.quantization.model_dump(mode="json", exclude_defaults=True)
        values["quantization"] |= catalog.versions(catalog.QUANTIZATION_BACKENDS[config.quantization.backend])
        deployment = config.deployment
        values["engine"] = {
            "engine": deployment.engine,
            "serving": deployment.serving.model_dump(mode="json", exclude_defaults=True),
            **({"sampling": sampling} if (sampling := _without_defaults(deployment.sampling)) else {}),
            **catalog.versions(catalog.ENGINES[deployment.engine]),
        }
        smoke: list[dict[str, Any]] = []
        if deployment.smoke_tests:
            tests = text_of(deployment.smoke_tests, "deployment.smoke_tests", CONFIG_BYTES)
            if not problems:
                smoke = parse_smoke_tests(tests, deployment.smoke_tests).model_dump(mode="json")["tests"]
        image_files: tuple[str, ...] = ()
        without = self._no_image(config, revision, files, problems)
        values["image"] = {"without": without}
        if without is None:
            image_files = self._image_files(config, text_of, files, problems)
            values["image"] = self._image(config, {path: files[path] for path in image_files})
            values["image.scan"] = config.image.scan.model_dump(mode="json", exclude_defaults=True)
            values["metrics.in_image"] = self._runs_in_image(config)
        values["gates"] = [g.model_dump(mode="json", exclude_defaults=True) for g in config.gates]
        if kept:
            values["gates"].append({"must_pass": kept.rule.model_dump(mode="json", exclude_defaults=True)})
        values["policy"] = {
            "rollout": deployment.rollout.model_dump(mode="json", exclude_defaults=True),
            "approval": deployment.approval.model_dump(mode="json", exclude_defaults=True),
            "review": deployment.review.model_dump(mode="json", exclude_defaults=True),
            "smoke_tests": smoke,
            "budget": config.budget.model_dump(mode="json", exclude_defaults=True),
        }
        if problems:
            raise ConfigError(problems)
        ci = config.ci.model_dump(mode="json", exclude_defaults=True)
        # Pointers of data that dataset_version reads are ignored: new rows do not require linting the code again.
        values["tree"] = {"digest": tree_digest(files, config.ci.ignore, frozenset(pointers)), **ci}
        stated = config.policy(values["data"]["test"]["version"], values["evaluation"], smoke)
        below = tuple(text for floor in self.floors for text in below_floor(stated, floor))
        policy = reduce(with_floor, self.floors, stated)
        if self.settings.images and self.settings.images.scan.not_scanned == "accept":
            policy = policy.model_copy(update={"image": policy.image.model_copy(update={"must_be_scanned": False})})
        return ProjectRevision(
            self.project, revision, config, values, smoke, tracked, metric_files, policy, below, frozenset(pointers),
            image_files,
        )  # fmt: skip

    def _no_image(
        self, config: ProjectConfig, revision: str, files: Mapping[str, str], problems: list[str]
    ) -> str | None:
        """Why a revision has no image; None if it has one. A Dockerfile that llmops.yaml names must exist."""
        image = config.image
        if not image.build:
            return SWITCHED_OFF
        if image.file in files:
            return None if self.settings.images else NO_BUILDER
        if image.dockerfile is not None:
            problems.append(
                f"{CONFIG_FILE}: image.dockerfile: there is no {image.file} in Git at {short(revision)}; add it, or "
                "leave the key out"
            )
        return NO_DOCKERFILE

    @staticmethod
    def _image_files(
        config: ProjectConfig, text_of: Callable[[str, str, int], str], files: Mapping[str, str], problems: list[str]
    ) -> tuple[str, ...]:
        """The files that the image is built from."""
        image = config.image
        if image.context != "." and not any(path.startswith(f"{image.context}/") for path in files):
            problems.append(f"{CONFIG_FILE}: image.context: there is no folder {image.context} in Git")
            return ()
        ignoring = ignore_file(files, image.context, image.file)
        try:
            text = text_of(ignoring, "image", CONFIG_BYTES) if ignoring else ""
            return tuple(context_files(files, image.context, image.file, text))
        except BadPattern as error:
            problems.append(f"{ignoring}:{error.line}: {error}; see Docker's documentation of .dockerignore")
            return ()

    def _image(self, config: ProjectConfig, files: Mapping[str, str]) -> dict[str, Any]:
        """What the image is made from. Where it is built and pushed, and how it is judged, is not part of it."""
        assert self.settings.images is not None
        stated = config.image.model_dump(mode="json", exclude_defaults=True, include={"context", "target", "args"})
        return {
            "dockerfile": config.image.file,
            **stated,
            "files": digest(dict(files)),
            "installation": self.settings.images.identity,
        }

    def _runs_in_image(self, config: ProjectConfig) -> bool:
        """Whether the project's own metrics run in its image."""
        own = any(isinstance(metric, CustomMetric) for metric in config.evaluation.metrics)
        settings = self.settings.images
        return own and settings is not None and settings.run_code and catalog.IMAGE_BUILDERS[settings.builder].runs

    def _problems_of_metrics(
        self, config: ProjectConfig, text_of: Callable[[str, str, int], str], tracked: Mapping[str, Output]
    ) -> Iterator[str]:
        """What is wrong with the files and judges of the catalog's metrics."""
        for metric in config.evaluation.metrics:
            if not isinstance(metric, ListedMetric):
                continue
            key = f"evaluation.metrics: {name_of(metric)}"
            if metric.judge and self.settings.judge(metric.judge) is None:
                known = ", ".join(judge.name for judge in self.settings.judges) or "none"
                yield (
                    f"{CONFIG_FILE}: {key}: judge: the settings have no judge {metric.judge!r} (known: {known}); add "
                    "it there under `judges`, or name another one"
                )
            part = catalog.METRICS[metric.metric]
            if not metric.file or part.missing():
                continue
            options = {**metric.options, "file": text_of(metric.file, key, CODE_BYTES)}
            for option in options.keys() & {"labels", "rows"}:
                path = options.pop(option)
                if path not in tracked:  # DVC's are read when they are used
                    options[option] = text_of(path, key, LABEL_BYTES)
            try:
                part.load()(name_of(metric), options).check_file()
            except BadInput as error:
                yield f"{CONFIG_FILE}: evaluation.metrics: {error}"

    def _files_of(self, revision: str, metric: CustomMetric, files: Mapping[str, str]) -> tuple[str, ...]:
        """The files that a metric of the project can see: what it imports, and what its `files` match.

        Raises:
            DocumentError: one of them is too large to be read.
            TooMuchCode: all of them are.
        """

        def read(path: str) -> bytes | None:
            try:
                return self.git.read(revision, path, CODE_BYTES)
            except DocumentError as error:
                raise DocumentError(f"imports {path}: {error}; keep data in a file that is no Python") from error

        imported = imported_files(metric.file, files, read)
        named = ignoring(metric.files)
        return tuple(sorted({*imported, *(path for path in files if metric.files and named.match_file(path))}))

    def _evaluation(
        self,
        config: ProjectConfig,
        text_of: Any,
        version: Callable[[str, str], str],
        metric_files: Mapping[str, tuple[str, ...]],
        files: Mapping[str, str],
    ) -> dict[str, Any]:
        value = config.evaluation.model_dump(
            mode="json", exclude={"metrics", "slices", "must_pass"}, exclude_defaults=True
        )
        metrics: list[Any] = []
        for metric in config.evaluation.metrics:
            if isinstance(metric, str):
                metrics.append(metric)
                continue
            if isinstance(metric, ListedMetric):
                found = {"metric": metric.metric, "name": name_of(metric), **metric.options}
                key = f"evaluation.metrics: {name_of(metric)}"
                if metric.model:
                    found["model"] = version(metric.model, key)
                for option in ("labels", "rows"):
                    if path := getattr(metric, option):
                        found[option] = version(path, key)
                if judge := self.settings.judge(metric.judge):
                    found["judge"] = judge.identity
                if metric.file:
                    found["file"] = hashlib.sha256(text_of(metric.file, key, CODE_BYTES).encode()).hexdigest()
                metrics.append(found)
                continue
            code = text_of(metric.file, f"evaluation.metrics: {metric.name}", CODE_BYTES)
            digest_of_code = hashlib.sha256(code.encode()).hexdigest()
            found = {**metric.model_dump(mode="json", exclude_defaults=True), "code": digest_of_code}
            if others := {p: files[p] for p in metric_files[metric.name] if p != metric.file}:
                found["files"] = digest(others)
            metrics.append(found)
        value["metrics"] = metrics
        parts = (part for m in config.evaluation.metrics if (part := part_of(m)) is not None)
        return value | catalog.versions(*parts)

    def work_tree(self, revision: str) -> Path:
        """A clean export of the revision for programs."""
        return self.dvc.work_tree(revision)

    def _patience_s(self, alone_s: float) -> float:
        """How long a tick waits for a remote, if it is `alone_s` for an only project."""
        return max(SHORT_PATIENCE_S, alone_s / max(1, len(self.settings.projects)))

    def missing_data(self, at: ProjectRevision, in_tick: bool = False) -> list[str]:
        """DVC-tracked paths that stages read and whose version is not in the DVC remote.

        Args:
            in_tick: whether other projects' ticks wait for the answer: then it is waited for less long.

        Raises:
            SourceError: the remote cannot be read.
        """
        return self.dvc.missing(at.revision, at.tracked, self._patience_s(ANSWER_S) if in_tick else None)

    def pull(self, at: ProjectRevision, paths: list[str]) -> Path:
        """Pulls DVC-tracked paths of the revision into its work tree; returns the tree.

        Raises:
            DataNotPushed: the remote does not hold a version.
            SourceError: DVC failed for another reason.
        """
        return self.dvc.pull(at.revision, at.tracked, paths)
