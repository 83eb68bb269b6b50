"""Initializes Git and DVC in a user's working copy. Commits, pushes and overwrites nothing.

The files of a project belong in `llmops_assets.scaffold.project`; reading watched repositories in
`resources.project_source.git_mirror` and `resources.project_source.revisions`.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from resources.project_source.dvc_files import is_tracked
from resources.project_source.errors import SourceError
from resources.project_source.git import git

BRANCH = "main"
_NEW = ("??", "A ", "AM")
"""How `git status` marks files that no commit holds yet."""


class WorkingCopy:
    """The folder of a Git repository, or one that can become it.

    Raises:
        SourceError: the folder is inside another repository, or Git fails.
    """

    def __init__(self, folder: Path):
        self.folder = folder.resolve()
        if not (self.folder / ".git").exists() and (root := self._root()) is not None:
            raise SourceError(
                f"{self.folder} lies within the Git repository {root}, and a new project is made at the root of one. "
                f"Remedy: `llmops init {root}`, or `git init {self.folder}` first if it should be its own repository"
            )

    def _root(self) -> Path | None:
        """The repository that contains a folder without .git; the folder may not exist yet."""
        there = next(p for p in (self.folder, *self.folder.parents) if p.is_dir())
        try:
            bare = git("rev-parse", "--is-bare-repository", where=there) == "true"
        except SourceError as error:
            if "not a git repository" in str(error):
                return None
            raise
        if bare:
            raise SourceError(f"{there} lies within a bare Git repository; clone it, and work in the clone")
        return Path(git("rev-parse", "--show-toplevel", where=there))

    def git(self, *args: str) -> str:
        return git(*args, where=self.folder)

    def ensure_git(self) -> str | None:
        """Initializes Git; returns what was done as text, None if it is already a repository."""
        if (self.folder / ".git").exists():
            return None
        self.git("init", "--quiet", f"--initial-branch={BRANCH}")
        return f"Git: a new repository, branch {BRANCH}"

    @property
    def branch(self) -> str:
        try:
            return self.git("symbolic-ref", "--short", "HEAD")
        except SourceError:
            return BRANCH  # a detached head names none

    @property
    def origin(self) -> str | None:
        """The remote to which commits are pushed; a local path is made absolute."""
        try:
            url = self.git("remote", "get-url", "origin")
        except SourceError:
            return None
        is_path = "://" not in url and ":" not in url.split("/")[0]
        return str((self.folder / url).resolve()) if is_path else url

    def new_files(self) -> set[str]:
        """Paths that are in no commit yet and not ignored."""
        return {path for mark, path in self._status() if mark in _NEW}

    def shortest(self, paths: Sequence[str]) -> list[str]:
        """The same paths for `git add`, with a folder in place of its files if nothing else in it has changed."""
        status = [path for _, path in self._status()]
        if sorted(paths) == sorted(status):
            return ["--all"]
        found: dict[str, None] = {}
        for path in paths:
            top = path.split("/")[0]
            whole = "/" in path and all(p in paths for p in status if p.startswith(f"{top}/"))
            found[f"{top}/" if whole else path] = None
        return list(found)

    def _status(self) -> list[tuple[str, str]]:
        entries = self.git("status", "--porcelain", "--untracked-files=all", "--no-renames", "-z").split("\0")
        return [(entry[:2], entry[3:]) for entry in entries if entry]

    # -- DVC --------------------------------------------------------------------------------------------------------

    def ensure_dvc(self) -> list[str]:
        """Initializes DVC, and adds a remote if none is configured; returns what was done as text."""
        from dvc.repo import Repo

        done = []
        with _dvc_errors(self.folder):
            if not (self.folder / ".dvc").is_dir():
                Repo.init(str(self.folder)).close()
                done.append("DVC: initialized")
            with Repo(str(self.folder)) as repo:
                if not repo.config["remote"]:
                    beside = self.folder.with_name(f"{self.folder.name}-dvc-remote")
                    with repo.config.edit("repo") as config:
                        config["remote"] = {"storage": {"url": str(beside)}}
                        config["core"]["remote"] = "storage"
                    done.append(
                        f"DVC: no remote was configured, so `dvc push` goes to the folder {beside}, on this machine "
                        "only; `dvc remote modify storage url s3://bucket/path` names one that others reach too"
                    )
                elif not repo.config["core"].get("remote"):
                    names = ", ".join(repo.config["remote"])
                    done.append(
                        f"DVC: none of its remotes ({names}) is the default; `dvc remote default NAME` says which"
                    )
        return done

    def untracked(self, paths: Sequence[str]) -> list[str]:
        """The paths that exist, but are neither in Git nor tracked by DVC."""
        return [p for p in paths if self._holds_something(p) and not self._in_git(p) and not is_tracked(self.folder, p)]

    def _holds_something(self, path: str) -> bool:
        there = self.folder / path
        return there.is_file() or (there.is_dir() and any(there.iterdir()))

    def _in_git(self, path: str) -> bool:
        return bool(self.git("ls-files", "--cached", "--", path))

    def track(self, paths: Sequence[str]) -> None:
        """`dvc add`."""
        from dvc.repo import Repo

        with _dvc_errors(self.folder), Repo(str(self.folder)) as repo:
            repo.add([str(self.folder / p) for p in paths])


@contextmanager
def _dvc_errors(folder: Path) -> Iterator[None]:
    from dvc.exceptions import DvcException

    os.environ.setdefault("DVC_NO_ANALYTICS", "1")
    logging.getLogger("dvc").setLevel(logging.WARNING)  # its advice on what to do next is not ours
    try:
        yield
    except DvcException as error:
        remedy = "fix that and run `llmops init` again; it continues from there"
        if "ignored" in str(error):
            remedy = "remove the line that ignores it from .gitignore and run `llmops init` again"
        raise SourceError(f"DVC in {folder}: {error}. Remedy: {remedy}") from error
