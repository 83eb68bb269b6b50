"""Commits of the location's own bot: made in the mirror without a checkout, and pushed. No other commit is overwritten.

The same files on the same base give the same commit, so that a repeated attempt pushes nothing new.
"""

from collections.abc import Mapping

from llmops_assets.domain.formatting import excerpt, quoted
from llmops_assets.domain.keys import short
from resources.project_source.errors import SourceError
from resources.project_source.git import GitError, git
from resources.project_source.git_credentials import apart
from resources.project_source.git_mirror import GitMirror

PUSH_S = 120.0
_FILES = (0o100644, 0o100755)
_MOVED = ("[rejected]", "cannot lock ref", "incorrect old value")
"""What Git says if the branch is not what the push expects."""


class BranchMoved(SourceError):
    """The branch has another commit than expected: it has to be looked at again."""


def commit_files(
    mirror: GitMirror, base: str, files: Mapping[str, bytes], name: str, email: str, message: str, at: float
) -> str:
    """Makes a commit on `base` that changes existing files; returns its SHA. No branch is changed.

    Args:
        files: path within the project → new content.
        name: of author and committer.
        at: the commit's time, epoch seconds.

    Raises:
        SourceError: a path is no ordinary file of `base`.
    """
    import pygit2

    repo, parent = mirror.repo, mirror.commit(base)
    index = pygit2.Index()
    index.read_tree(parent.tree)
    for path, content in files.items():
        full = f"{mirror.root}/{path}" if mirror.root else path
        mode = index[full].mode if full in index else None
        if mode not in _FILES:
            raise SourceError(f"{quoted(full)} is no ordinary file of {short(base)}, so it is not changed")
        index.add(pygit2.IndexEntry(full, repo.create_blob(content), mode))
    who = pygit2.Signature(name, email, int(at), 0)
    return str(repo.create_commit(None, who, who, message, index.write_tree(repo), [parent.id]))


def push(mirror: GitMirror, revision: str, ref: str, expected: str | None) -> None:
    """Pushes a commit to a branch.

    Args:
        expected: the commit that the branch has, and that may be replaced; empty: there is no such branch. None: the
            branch is only advanced, never replaced.

    Raises:
        BranchMoved: the branch is not as expected. Nothing was pushed.
        SourceError: the remote cannot be reached, or refuses it: no right to push, a protected branch, a hook.
    """
    url, credentials = apart(mirror.url)
    lease = [] if expected is None else [f"--force-with-lease=refs/heads/{ref}:{expected}"]
    try:
        git("push", "--quiet", "--no-verify", *lease, "--", url, f"{revision}:refs/heads/{ref}",
            where=mirror.folder, timeout=PUSH_S, env=credentials)  # fmt: skip
    except GitError as error:
        said = error.stderr or str(error)
        if any(text in said for text in _MOVED):
            raise BranchMoved(f"{ref} of {mirror.shown} has moved") from None
        raise SourceError(
            f"{mirror.shown}: {short(revision)} cannot be pushed to {ref}: {excerpt(said, 300)}"
        ) from None
