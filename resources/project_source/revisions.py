"""A watched project: its commits, each resolved once, and its data, from Git and DVC.

What a commit states belongs in `resolved_revision`.
"""

from functools import lru_cache
from pathlib import Path

from llmops_assets.config.settings import Settings
from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.config.yaml_validation import ConfigError
from resources.project_source.dvc import ANSWER_S, DvcData
from resources.project_source.git_mirror import GitMirror
from resources.project_source.looks import Gate, RemoteLooks
from resources.project_source.resolved_revision import ProjectRevision, resolve

PATIENCE_S, SHORT_PATIENCE_S = 15.0, 2.0
"""How long a tick waits for a remote, at most and at least: the shorter the more projects wait for that tick."""
SHARED_FOR_S = 5.0
"""Dagster's daemon begins a round of ticks every 5 s; in each, a project's sensors share a look at its remote."""


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
            return resolve(self.project, revision, self.git, self.dvc, self.settings, served)
        except ConfigError as error:
            return error.problems

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
