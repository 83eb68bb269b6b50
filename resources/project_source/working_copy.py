"""Initializes Git and DVC in a user's working copy. Commits, pushes and overwrites nothing.

The files of a project belong in `llmops_assets.scaffold.project`; reading watched repositories in
`resources.project_source.git_mirror` and `resources.project_source.revisions`.
"""

import logging
import os
import posixpath
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from resources.project_source.dvc_files import is_tracked
from resources.project_source.errors import SourceError
from resources.project_source.git import GitError, git

BRANCH = "main"
_NEW = ("??", "A ", "AM")
"""How `git status` marks files that no commit holds yet."""


class WorkingCopy:
    """The folder of a project: the root of a Git repository, one that can become it, or a folder within one.

    Raises:
        SourceError: the repository around it is bare or ignores the folder, or Git fails.
    """

    def __init__(self, folder: Path):
        self.folder = folder.resolve()
        around = None if (self.folder / ".git").exists() else self._around()
        self.root = around or self.folder
        """The root of the repository."""
        self.configured: str | None = None
        """DVC's configuration, relative to the folder, if it was changed here."""
        if self.within and self._is_ignored():
            raise SourceError(
                f"{self.folder} is ignored by the Git repository {self.root}, so nothing of it could be committed. "
                f"Remedy: change its .gitignore (`git check-ignore -v {self.folder}/` names the line), or `git init "
                f"{self.folder}` first if it should be its own repository"
            )

    @property
    def within(self) -> str | None:
        """The folder's path within the repository; None: it is the root."""
        return None if self.folder == self.root else self.folder.relative_to(self.root).as_posix()

    def _around(self) -> Path | None:
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
        return Path(git("rev-parse", "--show-toplevel", where=there)).resolve()

    def _is_ignored(self) -> bool:
        try:
            return bool(self.git("check-ignore", "--", f"{self.folder}/"))  # which may not exist yet
        except GitError as error:
            if error.stderr == "":  # its answer is exit code 1
                return False
            raise

    def git(self, *args: str) -> str:
        return git(*args, where=self.root)

    def ensure_git(self) -> str | None:
        """Initializes Git; returns what was done as text, None if it is already a repository."""
        if (self.root / ".git").exists():
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
        return str((self.root / url).resolve()) if is_path else url

    def new_files(self) -> set[str]:
        """Paths, relative to the folder, that are in no commit yet and not ignored."""
        return {path for mark, path in self._status() if mark in _NEW}

    def shortest(self, paths: Sequence[str]) -> list[str]:
        """The same paths for `git add`, with a folder in place of its files if nothing else in it has changed."""
        status = [path for _, path in self._status()]
        if sorted(paths) == sorted(status):
            return ["--all"]
        found: dict[str, None] = {}
        for path in paths:
            top = path.split("/")[0]
            whole = "/" in path and top != ".." and all(p in paths for p in status if p.startswith(f"{top}/"))
            found[f"{top}/" if whole else path] = None
        return list(found)

    def _status(self) -> list[tuple[str, str]]:
        entries = self.git("status", "--porcelain", "--untracked-files=all", "--no-renames", "-z").split("\0")
        here = self.within or "."
        return [(entry[:2], posixpath.relpath(entry[3:], here)) for entry in entries if entry]

    # -- DVC --------------------------------------------------------------------------------------------------------

    def ensure_dvc(self) -> list[str]:
        """Initializes DVC, and adds a remote if none is configured; returns what was done as text.

        In a folder of a repository that has DVC at its root or on the way there, that one is used.
        """
        from dvc.repo import Repo

        done = []
        above = [p for p in (self.folder, *self.folder.parents) if p.is_relative_to(self.root)]
        with _dvc_errors(self.folder):
            if not any((p / ".dvc").is_dir() for p in above):
                Repo.init(str(self.folder), subdir=self.within is not None).close()
                done.append("DVC: initialized")
            with Repo(str(self.folder)) as repo:
                if not repo.config["remote"]:
                    beside = self.root.with_name(f"{self.root.name}-dvc-remote")
                    self.configured = posixpath.join(os.path.relpath(repo.dvc_dir, self.folder), "config")
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
        return bool(self.git("ls-files", "--cached", "--", str(self.folder / path)))

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
