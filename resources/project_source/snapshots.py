"""The files of a commit of a repository on this machine, for a command that has no mirror of it."""

from pathlib import Path

from resources.project_source.errors import SourceError
from resources.project_source.git import GitError, git


class Checkout:
    """A folder of a Git repository: its root, or the folder of one project in it.

    Raises:
        SourceError: it is in no repository.
    """

    def __init__(self, folder: Path):
        self.folder = folder.resolve()
        try:
            self.root = Path(git("rev-parse", "--show-toplevel", where=self.folder))
            self.prefix = git("rev-parse", "--show-prefix", where=self.folder)
        except GitError as error:
            raise SourceError(f"{folder} is in no Git repository, so it has no revisions") from error

    def commit(self, name: str) -> str:
        """The full SHA of a commit, branch or tag.

        Raises:
            SourceError: there is none of that name.
        """
        try:
            return git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}", where=self.root)
        except GitError as error:
            raise SourceError(
                f"{self.root} has no commit {name!r}. In a shallow clone, fetch it first, for example by "
                "`git fetch --unshallow`"
            ) from error

    def fork_point(self, base: str, revision: str) -> str:
        """The commit from which the revision left the base; the base itself if their histories do not meet."""
        try:
            return git("merge-base", base, revision, where=self.root)
        except GitError:
            return base

    def export(self, commit: str, folder: Path) -> Path:
        """A clean checkout of a commit; returns the project's folder in it.

        Raises:
            SourceError: Git failed, or the commit does not have the project's folder.
        """
        git("clone", "--quiet", "--shared", "--no-checkout", str(self.root), str(folder), where=self.root)
        git("-c", "core.hooksPath=/dev/null", "checkout", "--quiet", "--detach", commit, where=folder)
        there = folder / self.prefix
        if not there.is_dir():
            raise SourceError(f"{commit[:12]} has no folder {self.prefix}")
        return there
