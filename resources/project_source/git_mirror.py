"""Reads a watched repository: a bare mirror updated by `git fetch`, read by pygit2 without a checkout.

The user's own checkout is never changed. Interpreting the files belongs in `resolved_revision`.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import Any

from llmops_assets.config.documents import check_size
from llmops_assets.domain.approval import Author
from llmops_assets.domain.branches import Tip
from llmops_assets.domain.formatting import quoted
from llmops_assets.domain.keys import short
from llmops_assets.machine.locks import alone
from llmops_assets.machine.redaction import redacted
from resources.project_source import git_history
from resources.project_source.elsewhere import kept_elsewhere
from resources.project_source.errors import SourceError
from resources.project_source.exports import export
from resources.project_source.fetching import Fetching, StillFetching
from resources.project_source.git import GitError, git
from resources.project_source.git_credentials import apart
from resources.project_source.git_objects import authors_of, text_of, version, walk
from resources.project_source.links import LINK, LeavesProject, follow
from resources.project_source.remote_refs import RemoteRefs

_TIMEOUT_S = 600.0
"""Of commands that read and write only this machine's disk: a checkout of a large tree."""
MOST_FILES = 200_000
_BRANCHES = "refs/remotes/origin/"
"""Where the mirror keeps the remote's branches."""
_PULL_REQUESTS = ("refs/pull/", "refs/merge-requests/")
"""Where GitHub and Gitea, and GitLab, keep the commits of pull requests."""


class GitMirror:
    """A bare mirror of one repository under the home folder. Constructing it does no I/O.

    Args:
        root: the project's folder within the repository; empty: all of it. Paths are relative to it, and what lies
            outside does not exist.
        pull_requests: whether their commits are fetched too.
        release_tags: pattern of the tags that name what is deployed; None: the branch's newest commit is.
    """

    def __init__(
        self,
        url: str,
        branch: str,
        folder: Path,
        fetch_limit_s: float = 3600.0,
        root: str = "",
        pull_requests: bool = False,
        release_tags: str | None = None,
    ):
        self.url, self.branch, self.folder, self.root = url, branch, folder, root
        self._more = _PULL_REQUESTS if pull_requests else ()
        self.release_tags = release_tags
        self._fetching = Fetching(folder, fetch_limit_s)
        self._ask = RemoteRefs()

    @property
    def shown(self) -> str:
        """The URL without credentials, for messages."""
        return redacted(self.url)

    def fetch(self, patience_s: float | None = None, on_progress: Callable[[str], None] | None = None) -> None:
        """Updates the mirror; old commits stay, also after a force-push.

        Args:
            patience_s: how long to wait; a fetch that takes longer goes on without the caller. None: to its end.
            on_progress: told how far a long fetch is.

        Raises:
            StillFetching: it goes on.
            SourceError: the remote cannot be reached or is not a repository.
        """
        url, credentials = apart(self.url)
        fetch = ("fetch", "--progress", "--prune", "--no-auto-gc", "--", url)
        more = (f"+{refs}*:{refs}*" for refs in self._more)
        branches = (f"+refs/heads/*:{_BRANCHES}*", "+refs/tags/*:refs/tags/*", *more)
        with self._errors("is unreachable"):
            self._fetching.run(self._initialize, (*fetch, *branches), credentials, patience_s, on_progress)

    def update(self) -> None:
        """Asks the remote what it has, and fetches only if that differs: an unchanged remote costs one round trip.

        Raises:
            SourceError: the remote cannot be reached, does not answer, or is not a repository.
        """
        if (self.folder / "HEAD").exists():
            url, credentials = apart(self.url)
            with self._errors("is unreachable"):
                if (self._refs_here() or self._ask(url, credentials, self._more)) == self._refs(self.repo):
                    return
        self.fetch()

    def _refs_here(self) -> dict[str, str] | None:
        """The refs of a remote that is a folder of this machine, within a millisecond; None if Git must be asked."""
        import pygit2

        if not self.url.startswith("/"):
            return None
        try:
            return self._refs(pygit2.Repository(self.url))
        except (pygit2.GitError, OSError, ValueError):
            return None

    def _refs(self, repo: Any) -> dict[str, str]:
        """Branches and tags of the remote or, as of the last fetch, of the mirror."""
        found: dict[str, str] = {}
        for reference in repo.references.iterator():
            name = reference.raw_name.decode(errors="surrogateescape").replace(_BRANCHES, "refs/heads/", 1)
            if name.startswith(("refs/heads/", "refs/tags/", *self._more)):
                found[name] = str(reference.target)
        return found

    def branches(self) -> dict[str, Tip]:
        """The remote's branches, as of the last fetch; the watched one too where only its tags are deployed."""
        tips = self._tips("refs/heads/")
        if self.release_tags is None:
            tips.pop(self.branch, None)
        return tips

    def pull_requests(self) -> dict[str, Tip]:
        """Pull requests by their number, as of the last fetch; none unless they are fetched."""
        found = {name: tip for refs in self._more for name, tip in self._tips(refs).items()}
        return {name.removesuffix("/head"): tip for name, tip in found.items() if name.endswith("/head")}

    def _tips(self, prefix: str) -> dict[str, Tip]:
        import pygit2

        repo, found = self.repo, {}
        for name, target in self._refs(repo).items():
            with suppress(KeyError, ValueError, pygit2.GitError):  # a ref to what is no commit
                if name.startswith(prefix):
                    there = repo[target]
                    commit = there.peel(pygit2.Commit)
                    # An annotated tag has a time of its own: the last one made is the newest, whatever it names.
                    at = there.tagger.time if isinstance(there, pygit2.Tag) and there.tagger else commit.commit_time
                    tip = Tip(revision=str(commit.id), committed=float(at))
                    found[name.removeprefix(prefix)] = tip
        return found

    @property
    def doing(self) -> str:
        """What an update that takes long is at."""
        if self._fetching.running:
            return f"{self.shown}: git fetch goes on in the background ({self._fetching.progress()})"
        return f"{self.shown} has not answered yet; it is waited for in the background, and delays no other project"

    def _initialize(self) -> None:
        if not (self.folder / "HEAD").exists():
            self._git("init", "--quiet", "--bare", str(self.folder), where=self.folder.parent)
            # Objects that are no longer in a branch stay readable: provenance outlives a force-push.
            self._git("config", "gc.auto", "0")

    def _git(self, *args: str, where: Path | None = None) -> None:
        with self._errors(f"git {args[0]} failed"):
            git(*args, where=where or self.folder, timeout=_TIMEOUT_S)

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        """Names the repository in errors, without credentials."""
        try:
            yield
        except StillFetching as error:
            raise StillFetching(f"{self.shown}: {error}") from None
        except GitError as error:
            if error.stderr is None:
                raise SourceError(f"{self.shown}: {error}") from error
            lines = error.stderr.splitlines() or ["no message"]
            told = next((line for line in lines if line.startswith(("fatal:", "error:"))), lines[0])
            raise SourceError(f"{self.shown}: {what}: {told}") from None

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

    def head(self) -> str | None:
        """The commit that is to be deployed, as of the last fetch: the branch's newest, or its newest release tag's.

        None if there is no such branch or tag.
        """
        return self.tip() if self.release_tags is None else self._released()

    def _released(self) -> str | None:
        """The commit of the tag that was made last and is on the watched branch."""
        tags = {
            name: tip for name, tip in self._tips("refs/tags/").items() if fnmatchcase(name, self.release_tags or "")
        }
        newest_first = sorted(tags.items(), key=lambda tag: (tag[1].committed, tag[0]), reverse=True)
        return next((tip.revision for _, tip in newest_first if self.contains(tip.revision)), None)

    def tip(self) -> str | None:
        """The newest commit of the watched branch as of the last fetch; None if there is no such branch."""
        try:
            reference = self.repo.references.get(f"{_BRANCHES}{self.branch}")
        except ValueError:  # a name that no branch can have
            return None
        return str(reference.target) if reference is not None else None

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

    def contains(self, revision: str) -> bool:
        """Whether the watched branch contains a commit, as of the last fetch."""
        tip = self.tip()
        if tip is None:
            return False
        commit = str(self.commit(revision).id)
        return commit == tip or bool(self.repo.descendant_of(tip, commit))

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

    def export(self, revision: str, folder: Path) -> Path:
        """A clean checkout of the revision's whole repository for programs, made once and then reused."""
        with self._errors("git checkout failed"):
            return export(self.folder, revision, folder)

    def repack(self) -> None:
        """Packs the mirror's objects if there are many; unreachable ones stay, for provenance outlives a force-push."""
        if (self.folder / "HEAD").exists():
            with alone(self.folder.parent / f"{self.folder.name}.lock"):
                options = ("-c", "gc.auto=6700", "-c", "gc.autoPackLimit=50", "-c", "gc.autoDetach=false")
                self._git(*options, "-c", "gc.pruneExpire=never", "gc", "--auto", "--quiet")
