"""What lies between two commits of a repository, read by pygit2."""

from contextlib import suppress
from typing import Any

from llmops_assets.domain.approval import Author
from resources.project_source.git_objects import authors_of


def authors(repo: Any, commit: Any, since: str | None) -> list[Author]:
    """The people behind the commits that a commit has and `since` lacks; see `GitMirror.authors`."""
    import pygit2

    walker = repo.walk(commit.id, pygit2.enums.SortMode.TOPOLOGICAL)
    if since is not None:
        with suppress(KeyError, ValueError, pygit2.GitError):
            walker.hide(repo[since].id)
    found = {author: None for each in walker for author in authors_of(each)}
    return list(found or authors_of(commit))


def between(repo: Any, before: str, after: Any) -> list[str]:
    """The commits of the first parents between two, without both, oldest first; empty if `before` is gone."""
    walker = _after(repo, before, after)
    return [str(commit.id) for commit in walker][:0:-1] if walker is not None else []


def commit_times(repo: Any, before: str | None, after: Any) -> list[float]:
    """When the commits of the first parents after `before` were made, newest first; see `GitMirror.commit_times`."""
    walker = _after(repo, before, after) if before is not None else None
    return [float(commit.commit_time) for commit in (walker if walker is not None else [after])]


def _after(repo: Any, before: str, after: Any) -> Any | None:
    """Walks the first parents from a commit back to another one; None if that is gone."""
    import pygit2

    walker = repo.walk(after.id, pygit2.enums.SortMode.TOPOLOGICAL)
    walker.simplify_first_parent()
    try:
        walker.hide(repo[before].id)
    except (KeyError, ValueError, pygit2.GitError):
        return None
    return walker
