"""A project at a revision: its configuration, resolved values and data versions, read from Git and DVC.

What the values mean for a stage is the chain's affair (`llmops_assets.domain.chain`).
"""

import hashlib
import os
import subprocess
import sys
import uuid
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import yaml

from llmops_assets import catalog
from llmops_assets.config.project import CONFIG_FILE, BaseModelHub, ProjectConfig, parse_config, parse_smoke_tests
from llmops_assets.config.settings import ProjectSource, Settings
from llmops_assets.config.yaml_validation import ConfigError
from llmops_assets.domain.keys import digest, short
from llmops_assets.domain.prompt import PromptError, check_prompt
from resources.project_source.errors import SourceError
from resources.project_source.git_mirror import GitMirror, tree_digest

BARE_PROMPT = "{{ input }}"


class DataNotPushed(Exception):
    """Git knows a data version that the DVC remote does not hold yet."""


class ProjectRevision:
    """One commit of one project, resolved. Immutable; made by `ProjectRepository.at`."""

    def __init__(
        self,
        project: ProjectSource,
        revision: str,
        config: ProjectConfig,
        values: dict[str, Any],
        smoke_tests: list[dict[str, Any]],
        tracked: dict[str, str],
        of_dvc_2: frozenset[str] = frozenset(),
    ):
        self.project, self.revision, self.config, self.values = project, revision, config, values
        self.smoke_tests = smoke_tests
        self.tracked = tracked
        """DVC-tracked paths that stages read → DVC md5."""
        self.of_dvc_2 = of_dvc_2
        """Those of them whose pointer DVC 2 wrote: DVC 3 keeps their bytes elsewhere in cache and remote."""


class ProjectRepository:
    """Thin typed client of one watched repository."""

    def __init__(self, project: ProjectSource, settings: Settings):
        self.project, self.settings = project, settings
        self.git = GitMirror(self._url(), project.branch, settings.home / "mirrors" / f"{project.name}.git")
        self._at = lru_cache(maxsize=64)(self._resolve)

    def _url(self) -> str:
        url = self.project.repository
        is_path = "://" not in url and ":" not in url.split("/")[0]
        return str(Path(url).expanduser().resolve()) if is_path else url

    def at(self, revision: str) -> ProjectRevision:
        """The project at a full commit SHA.

        Raises:
            ConfigError: llmops.yaml, a prompt or the smoke tests are missing or wrong.
            SourceError: the commit is not in the mirror.
        """
        return self._at(revision)

    def _resolve(self, revision: str) -> ProjectRevision:
        text = self.git.read(revision, CONFIG_FILE)
        if text is None:
            raise ConfigError(
                [f"{CONFIG_FILE}: missing at the root of {short(revision)}; `llmops check` says what it needs"]
            )
        try:
            config = parse_config(text.decode())
        except UnicodeDecodeError as error:
            raise ConfigError([f"{CONFIG_FILE}: it is not UTF-8 text (byte {error.start})"]) from error
        if config.name != self.project.name:
            raise ConfigError(
                [f"{CONFIG_FILE}: name: it is {config.name!r}, but the settings say {self.project.name!r}"]
            )
        problems: list[str] = []
        tracked: dict[str, str] = {}
        of_dvc_2: set[str] = set()
        pointers: set[str] = set()

        def version(path: str, key: str) -> str:
            found, pointer, legacy = self._data_version(revision, path)
            if found is None:
                problems.append(
                    f"{CONFIG_FILE}: {key}: {path} is neither in Git nor tracked by DVC; "
                    f"`dvc add {path}`, then commit {path}.dvc"
                )
                return "missing"
            if found.startswith("dvc:"):
                tracked[path] = found.removeprefix("dvc:")
                pointers.add(pointer)
                of_dvc_2.update([path] if legacy else [])
            return found

        def text_of(path: str, key: str) -> str:
            data = self.git.read(revision, path)
            if data is None:
                problems.append(f"{CONFIG_FILE}: {key}: there is no {path} in Git at {short(revision)}")
                return BARE_PROMPT
            try:
                return data.decode()
            except UnicodeDecodeError as error:
                problems.append(f"{path}: it is not UTF-8 text (byte {error.start})")
                return BARE_PROMPT

        def prompt_of(path: str | None, key: str) -> str:
            if path is None:
                return BARE_PROMPT
            text = text_of(path, key)
            try:
                check_prompt(text)
            except PromptError as error:
                problems.append(f"{path}: {error} (named by {key} in {CONFIG_FILE})")
            return text

        data = config.data
        values: dict[str, Any] = {"name": config.name}
        values["data"] = {
            **data.model_dump(mode="json", exclude_defaults=True, include={"validation_share", "seed"}),
            **{
                split: {"path": path, "version": version(path, f"data.{split}")}
                for split in ("train", "validation", "test")
                if (path := getattr(data, split))
            },
        }
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
        values["evaluation"] = self._evaluation(config, text_of)
        values["quantization"] = config.quantization.model_dump(mode="json", exclude_defaults=True)
        values["quantization"] |= catalog.versions(catalog.QUANTIZATION_BACKENDS[config.quantization.backend])
        deployment = config.deployment
        values["engine"] = {
            "engine": deployment.engine,
            "serving": deployment.serving.model_dump(mode="json", exclude_defaults=True),
            **catalog.versions(catalog.ENGINES[deployment.engine]),
        }
        smoke: list[dict[str, Any]] = []
        if deployment.smoke_tests:
            tests = text_of(deployment.smoke_tests, "deployment.smoke_tests")
            if not problems:
                smoke = parse_smoke_tests(tests, deployment.smoke_tests).model_dump(mode="json")["tests"]
        values["gates"] = [g.model_dump(mode="json", exclude_defaults=True) for g in config.gates]
        values["policy"] = {
            "rollout": deployment.rollout.model_dump(mode="json", exclude_defaults=True),
            "approval": deployment.approval.model_dump(mode="json", exclude_defaults=True),
            "smoke_tests": smoke,
        }
        if problems:
            raise ConfigError(problems)
        files = self.git.files(revision)
        ci = config.ci.model_dump(mode="json", exclude_defaults=True)
        # Pointers of data that dataset_version reads are left out: new rows are no reason to lint the code again.
        values["tree"] = {"digest": tree_digest(files, config.ci.ignore, frozenset(pointers)), **ci}
        return ProjectRevision(self.project, revision, config, values, smoke, tracked, frozenset(of_dvc_2))

    @staticmethod
    def _evaluation(config: ProjectConfig, text_of: Any) -> dict[str, Any]:
        value = config.evaluation.model_dump(mode="json", exclude={"metrics"}, exclude_defaults=True)
        metrics: list[Any] = []
        for metric in config.evaluation.metrics:
            if isinstance(metric, str):
                metrics.append(metric)
                continue
            code = text_of(metric.file, f"evaluation.metrics: {metric.name}")
            digest_of_code = hashlib.sha256(code.encode()).hexdigest()
            metrics.append({**metric.model_dump(mode="json", exclude_defaults=True), "code": digest_of_code})
        value["metrics"] = metrics
        return value | catalog.versions(*(catalog.METRICS[m] for m in metrics if isinstance(m, str)))

    def _data_version(self, revision: str, path: str) -> tuple[str | None, str, bool]:
        """('dvc:<md5>' or 'git:<blob>', the file that says so, whether DVC 2 wrote it): PATH.dvc, dvc.lock, a tracked
        parent folder, or Git."""
        if out := self._out(revision, f"{path}.dvc"):
            return f"dvc:{out['md5']}", f"{path}.dvc", _of_dvc_2(out)
        for stage in (self._yaml(revision, "dvc.lock").get("stages") or {}).values():
            for out in stage.get("outs") or []:
                if out.get("path") == path and out.get("md5"):
                    return f"dvc:{out['md5']}", "dvc.lock", _of_dvc_2(out)
        parts = path.split("/")
        for depth in range(len(parts) - 1, 0, -1):
            pointer = "/".join(parts[:depth]) + ".dvc"
            if out := self._out(revision, pointer):
                return f"dvc:{out['md5']}", pointer, _of_dvc_2(out)
        try:
            return f"git:{self.git.commit(revision).tree[path].id}", path, False
        except KeyError:
            return None, path, False

    def _out(self, revision: str, pointer: str) -> dict[str, Any] | None:
        outs = self._yaml(revision, pointer).get("outs") or []
        return next((out for out in outs if out.get("md5")), None)

    def _yaml(self, revision: str, path: str) -> dict[str, Any]:
        """A file of DVC's, empty if there is none.

        Raises:
            ConfigError: it is not what DVC writes: a merge left its markers, or a person edited it.
        """
        text = self.git.read(revision, path)
        try:
            value = yaml.safe_load(text) if text is not None else {}
        except yaml.YAMLError as error:
            raise ConfigError(
                [f"{path}: not valid YAML; was a merge left unfinished? `dvc add` writes it anew"]
            ) from error
        return value if isinstance(value, dict) else {}

    # -- bytes ------------------------------------------------------------------------------------------------------

    def work_tree(self, revision: str) -> Path:
        """A clean export of the revision for programs."""
        return self.git.export(revision, self.settings.home / "work" / self.project.name / revision)

    def _dvc_tree(self, revision: str) -> Path:
        """The work tree with DVC pointed at our own cache, so that the user's is never touched."""
        tree = self.work_tree(revision)
        local = tree / ".dvc" / "config.local"
        if not (tree / ".dvc").is_dir():
            raise SourceError(f"{short(revision)} has no .dvc folder; run `dvc init` in the project and commit it")
        if not local.exists():
            lines = [
                "[core]\n    analytics = false\n    check_update = false\n",
                f"[cache]\n    dir = {self.settings.home / 'dvc-cache'}\n    type = hardlink,symlink,copy\n",
            ]
            lines += self._remotes_made_absolute(tree)
            part = local.with_name(f"{local.name}.{uuid.uuid4().hex}.part")
            part.write_text("".join(lines))
            part.replace(local)  # half of it would send DVC to the wrong cache and remote
        return tree

    def _remotes_made_absolute(self, tree: Path) -> list[str]:
        """A relative remote is relative to the user's .dvc folder, so it is resolved against the repository's path."""
        import configparser

        config = configparser.ConfigParser(interpolation=None, strict=False)  # a URL may hold a %
        config.read(tree / ".dvc" / "config")
        found = []
        for section in config.sections():
            url = config[section].get("url", "")
            if (
                section.strip("'").startswith("remote")
                and url
                and not urlparse(url).scheme
                and not Path(url).is_absolute()
            ):
                there = Path(self.git.url) / ".dvc" / url
                found.append(f"[{section}]\n    url = {there.resolve()}\n")
        return found

    def missing_data(self, at: ProjectRevision) -> list[str]:
        """Paths whose version the DVC remote does not hold. Looks at the remote, never at the user's own cache.

        Raises:
            SourceError: the remote cannot be asked.
        """
        if not at.tracked:
            return []
        tree = self._dvc_tree(at.revision)
        os.environ.setdefault("DVC_NO_ANALYTICS", "1")
        from dvc.exceptions import DvcException
        from dvc.repo import Repo

        try:
            with Repo(str(tree)) as repo:
                here, remote = repo.cache.local, repo.cloud.get_remote_odb()
                of_dvc_2 = (repo.cache.legacy, repo.cloud.get_remote_odb(hash_name=_DVC_2)) if at.of_dvc_2 else ()
                return [
                    p
                    for p, md5 in at.tracked.items()
                    if not any(odb.exists(md5) for odb in (of_dvc_2 if p in at.of_dvc_2 else (here, remote)))
                ]
        except (DvcException, OSError) as error:
            raise SourceError(f"the DVC remote cannot be asked: {error}") from error

    def pull(self, at: ProjectRevision, paths: list[str]) -> Path:
        """Brings DVC-tracked paths of the revision into its work tree; returns the tree.

        Raises:
            DataNotPushed: the remote does not hold a version.
            SourceError: DVC failed for another reason.
        """
        wanted = [p for p in paths if p in at.tracked and not self._is_here(at, p)]
        if not wanted:
            return self.work_tree(at.revision)
        tree = self._dvc_tree(at.revision)
        done = subprocess.run(
            [sys.executable, "-m", "dvc", "pull", "--quiet", "--", *wanted],
            cwd=tree,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "DVC_NO_ANALYTICS": "1"},
        )
        if done.returncode:
            text = done.stderr.strip() or done.stdout.strip()
            missing = self.missing_data(at)
            if missing:
                raise DataNotPushed(f"{', '.join(missing)}: not in the DVC remote; run `dvc push`")
            raise SourceError(
                f"dvc pull of {', '.join(wanted)} failed: {text.splitlines()[-1] if text else 'no message'}"
            )
        for path in wanted:
            self._marker(at, path).touch()
        return tree

    def _marker(self, at: ProjectRevision, path: str) -> Path:
        folder = self.settings.home / "work" / self.project.name
        return folder / f"{at.revision}.{digest(path)[:12]}.pulled"

    def _is_here(self, at: ProjectRevision, path: str) -> bool:
        return self._marker(at, path).exists() and (self.work_tree(at.revision) / path).exists()


_DVC_2 = "md5-dos2unix"
"""What DVC 3 calls the hashes of DVC 2, whose pointers name none."""


def _of_dvc_2(out: dict[str, Any]) -> bool:
    return "hash" not in out
