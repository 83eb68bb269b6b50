"""Reads the commits and files of a bare repository by pygit2, without a checkout.

Updating it, and its branches and tags, belongs in `git_mirror`; interpreting the files in `resolved_revision`.
"""

import os
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from llmops_assets.config.documents import check_size
from llmops_assets.domain.approval import Author
from llmops_assets.domain.formatting import quoted
from llmops_assets.domain.keys import short
from llmops_assets.machine.redaction import redacted
from resources.project_source import git_history
from resources.project_source.elsewhere import kept_elsewhere
from resources.project_source.errors import SourceError
from resources.project_source.git_objects import authors_of, text_of, version, walk
from resources.project_source.links import LINK, LeavesProject, follow

MOST_FILES = 200_000
"""Of a commit."""


class GitRepository:
    """The commits of a project. Constructing it does no I/O.

    Args:
        url: where it was fetched from, for messages.
        folder: the bare repository.
        root: the project's folder within it; empty: all of it. Paths are relative to it, and what lies outside does
            not exist.
    """

    def __init__(self, url: str, folder: Path, root: str = ""):
        self.url, self.folder, self.root = url, folder, root

    @property
    def shown(self) -> str:
        """The URL without credentials, for messages."""
        return redacted(self.url)

    @property
    def repo(self) -> Any:
        import pygit2

        if not (self.folder / "HEAD").exists():
            raise SourceError(f"{self.shown} was never fetched")
        try:
            return pygit2.Repository(str(self.folder))
        except (pygit2.GitError, ValueError) as error:
            raise SourceError(
                f"{self.folder} is not a Git repository ({error}). Remedy: delete it, and it is fetched again"
            ) from error

    def resolve(self, name: str) -> str:
        """The commit SHA of a SHA, a prefix of one, a branch or a tag.

        Raises:
            SourceError: there is no such revision.
        """
        import pygit2

        repo = self.repo
        for candidate in (name, f"origin/{name}"):
            # A revision can also name a file or a folder, main:README.md, from which no commit is found.
            with suppress(KeyError, ValueError, TypeError, pygit2.GitError):
                return str(repo.revparse_single(candidate).peel(pygit2.Commit).id)
        raise SourceError(f"{quoted(name)} is no commit, branch or tag of {self.shown}")

    def commit(self, revision: str) -> Any:
        """The commit of a full SHA.

        Raises:
            SourceError: the mirror does not have it.
        """
        import pygit2

        try:
            return self.repo[revision].peel(pygit2.Commit)
        except (KeyError, ValueError, pygit2.GitError) as error:
            raise SourceError(f"{revision} is no commit of {self.shown}") from error

    def tree(self, revision: str) -> Any:
        """Git's tree of the project at a revision.

        Raises:
            SourceError: the mirror does not have the revision, or it has no such folder.
        """
        tree = self.commit(revision).tree
        for part in self.root.split("/") if self.root else ():
            tree = next((entry for entry in tree if entry.name == part and entry.type_str == "tree"), None)
            if tree is None:
                raise SourceError(f"{short(revision)} of {self.shown} has no folder {quoted(self.root)}")
        return tree

    def read(self, revision: str, path: str, limit: int | None = None) -> bytes | None:
        """A file's content at a revision, None if there is none.

        Raises:
            DocumentError: it has more bytes than the limit.
        """
        entry = self._follow(revision, path)
        if entry is None or entry.type_str != "blob":
            return None
        if limit is not None:
            check_size(entry.size, limit)
        return bytes(entry.data)

    def _follow(self, revision: str, path: str) -> Any | None:
        """The object at a path, through symbolic links; None for a link that leaves the project (see `links_out`)."""
        try:
            return follow(self.tree(revision), path)
        except LeavesProject:
            return None

    def links_out(self, revision: str) -> dict[str, str]:
        """The symbolic links that leave the project → where to."""
        tree, found = self.tree(revision), {}
        for path, entry in self._entries(revision):
            if entry.filemode == LINK:
                try:
                    follow(tree, path)
                except LeavesProject as error:
                    found[path] = f"{os.fsdecode(entry.data)}, {error}"
        return found

    def object_id(self, revision: str, path: str) -> str | None:
        """The id of a file or folder at a revision (equal content, equal id), None if it does not exist."""
        found = self._follow(revision, path)
        return str(found.id) if found is not None else None

    def kept_elsewhere(self, revision: str, path: str) -> str | None:
        """Why the content of a file or folder is not in the repository: Git LFS, a submodule. None if it is."""
        return kept_elsewhere(self.tree(revision), path)

    def author(self, revision: str) -> str:
        author = authors_of(self.commit(revision))[0]
        return f"{author.name} <{author.email}>"

    def authors(self, revision: str, since: str | None) -> list[Author]:
        """The people behind the commits that a revision has and `since` lacks: authors, committers, co-authors.

        Of the whole history if `since` is None or gone; of the commit itself if it adds no commit, as when an older
        commit is deployed again. Never empty.
        """
        return git_history.authors(self.repo, self.commit(revision), since)

    def between(self, before: str, after: str) -> list[str]:
        """The branch's commits between two revisions, oldest first; empty if `before` is gone."""
        return git_history.between(self.repo, before, self.commit(after))

    def commit_times(self, before: str | None, after: str) -> list[float]:
        """When the branch's commits after `before`, up to `after`, were committed: epoch seconds, newest first.

        Of `after` alone if `before` is None or gone; empty if `before` has it.
        """
        return git_history.commit_times(self.repo, before, self.commit(after))

    def message(self, revision: str) -> str:
        commit = self.commit(revision)
        return (text_of(commit, commit.raw_message).strip().splitlines() or ["(no message)"])[0]

    def files(self, revision: str) -> dict[str, str]:
        """Path → blob id (and mode, for executables) of every file at a revision; of a link, also what it leads to."""
        tree = self.tree(revision)
        return {path: version(tree, path, entry) for path, entry in self._entries(revision)}

    def _entries(self, revision: str) -> list[tuple[str, Any]]:
        """Path and object of every file at a revision.

        Raises:
            SourceError: there are unreasonably many. Git stores equal folders once: a commit of a few KB can hold
                millions of files, and exporting them would fill the disk.
        """
        found = list(islice(walk(self.tree(revision)), MOST_FILES + 1))
        if len(found) > MOST_FILES:
            raise SourceError(f"{short(revision)} has more than {MOST_FILES:,} files; leave out what is generated")
        return found

    def changed_files(self, before: str, after: str) -> list[str]:
        """Paths that differ between two revisions."""
        try:
            old = self.files(before)
        except SourceError:
            old = {}
        new = self.files(after)
        return sorted(p for p in {*old, *new} if old.get(p) != new.get(p))
