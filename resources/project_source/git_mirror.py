"""The bare mirror of a watched repository: updated by `git fetch`, with its branches, tags and pull requests.

The user's own checkout is never changed. Reading commits and files belongs in `git_repository`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from llmops_assets.domain.branches import Tip
from llmops_assets.machine.locks import alone
from resources.project_source.errors import SourceError
from resources.project_source.exports import export
from resources.project_source.fetching import Fetching, StillFetching
from resources.project_source.git import GitError, git
from resources.project_source.git_credentials import apart
from resources.project_source.git_repository import GitRepository
from resources.project_source.remote_refs import RemoteRefs

_TIMEOUT_S = 600.0
"""Of commands that read and write only this machine's disk: a checkout of a large tree."""
_BRANCHES = "refs/remotes/origin/"
"""Where the mirror keeps the remote's branches."""
_PULL_REQUESTS = ("refs/pull/", "refs/merge-requests/")
"""Where GitHub and Gitea, and GitLab, keep the commits of pull requests."""


class GitMirror(GitRepository):
    """A bare mirror of one repository under the home folder. Constructing it does no I/O.

    Args:
        root: see `GitRepository`.
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
        super().__init__(url, folder, root)
        self.branch = branch
        self._more = _PULL_REQUESTS if pull_requests else ()
        self.release_tags = release_tags
        self._fetching = Fetching(folder, fetch_limit_s)
        self._ask = RemoteRefs()

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
        """The progress of an update that takes long."""
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

    def contains(self, revision: str) -> bool:
        """Whether the watched branch contains a commit, as of the last fetch."""
        tip = self.tip()
        if tip is None:
            return False
        commit = str(self.commit(revision).id)
        return commit == tip or bool(self.repo.descendant_of(tip, commit))

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
