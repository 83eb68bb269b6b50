"""Decides what a webhook's delivery is for: which watched projects its push, or a prompt's alias, concerns. Pure.

Nothing here starts a run. A delivery only says that it is worth looking at a branch now; what follows from the branch's
head is decided by `domain.requests`, for a delivery as for a poll.
"""

import re
from collections.abc import Collection, Sequence
from typing import Literal
from urllib.parse import urlsplit

from llmops_assets.domain.formatting import excerpt
from llmops_assets.domain.models import Frozen

WATCHES_TAG = "llmops/watches"
"""The tag of the sensors that read a project's branch; its value is the project. A delivery has them tick."""
PROPOSES_TAG = "llmops/proposes"
"""The tag of the sensor that proposes commits to a project; its value is the project."""
PROPOSALS = "proposals:"
"""Before a project's name: it is that sensor that is to tick, and not those that read the branch."""
WAITS = "a commit waits"
"""The cursor of such a sensor while a later tick has to deal with the branch's newest commit. It decides nothing."""
LOOK = "a push was announced"
"""The cursor that has the next tick ask the remote itself, instead of using what another sensor has just seen, or look
for what has moved, although it is not time yet."""
BRANCHES, TAGS = "refs/heads/", "refs/tags/"
PULL_REQUESTS = ("refs/pull/", "refs/merge-requests/")
_SCP = re.compile(r"^(?:[^@/\s]+@)?(?P<host>\[[^\]]+\]|[^:/\s]+):(?P<path>(?!//).+)$")
"""git@host:path, as `git clone` takes it."""


class Push(Frozen):
    """A branch, tag or pull request of a repository has moved."""

    addresses: tuple[str, ...]
    """The repository's addresses as its server names them: by HTTPS, by SSH, its page."""
    ref: str
    """refs/heads/BRANCH, refs/tags/TAG, refs/pull/NUMBER/head or refs/merge-requests/NUMBER/head."""
    deleted: bool = False


class Nothing(Frozen):
    """A delivery that starts nothing."""

    reason: str
    ping: bool = False
    """Whether it is the sender's own test of the connection."""


class PromptMoved(Frozen):
    """An alias of a prompt registry names another version."""

    name: str
    alias: str


Event = Push | PromptMoved | Nothing


class WatchedBranch(Frozen):
    """What a project watches."""

    project: str
    places: frozenset[str]
    """`normalized_address` of each address of its repository."""
    branch: str
    more: bool = False
    """Whether other branches or pull requests run too; which of them, its sensor decides."""
    tags: bool = False
    """Whether tags decide what is deployed."""
    prompts: frozenset[str] = frozenset()
    """NAME@ALIAS of the registry's prompts that become proposals."""


class Answer(Frozen):
    """What the receiver answers, and which projects' sensors look."""

    status: Literal["accepted", "ignored", "already", "refused"]
    code: int
    """The HTTP status."""
    reason: str
    projects: tuple[str, ...] = ()
    wakes: str = ""
    """Before the names of the projects that are woken: PROPOSALS, or nothing."""


def normalized_address(address: str) -> str:
    """A repository's address without what does not identify it: scheme, user, port, `.git`, upper case.

    Equal for https://github.com/Team/Repo.git, git@github.com:team/repo and ssh://git@github.com:22/team/repo. A path
    of this machine, also as file://, keeps its case.
    """
    text = address.strip()
    if "://" in text:
        try:
            parts = urlsplit(text)
            host, path = parts.hostname or "", parts.path
        except ValueError:  # not the address of anything
            return ""
        if parts.scheme.lower() == "file":
            return _trimmed(path)
    elif found := _SCP.match(text):
        host, path = found["host"].strip("[]"), f"/{found['path'].lstrip('/')}"
    else:
        return _trimmed(text)
    return f"{host}{_trimmed(path)}".lower() if host else ""


def _answer_prompt(event: PromptMoved, watched: Sequence[WatchedBranch], signed_for: Collection[str]) -> Answer:
    here = [w for w in watched if f"{event.name}@{event.alias}" in w.prompts]
    prompt = f"prompts:/{excerpt(event.name, 100)}@{excerpt(event.alias, 100)}"
    if not here:
        return Answer(status="ignored", code=202, reason=f"{prompt} is proposed to no project")
    own = tuple(w.project for w in here if w.project in signed_for)
    if not own:
        them = ", ".join(w.project for w in here)
        return Answer(status="refused", code=403, reason=f"its secret is another project's, and not that of {them}")
    return Answer(status="accepted", code=202, reason=f"{prompt} is looked at now", projects=own, wakes=PROPOSALS)


def _trimmed(path: str) -> str:
    return re.sub(r"/{2,}", "/", path).rstrip("/").removesuffix(".git").rstrip("/")


def answer(event: Event, watched: Sequence[WatchedBranch], signed_for: Collection[str]) -> Answer:
    """Answers an authenticated delivery.

    Args:
        watched: what all projects watch.
        signed_for: the projects whose secret the delivery was signed with.
    """
    if isinstance(event, Nothing):
        return Answer(status="ignored", code=200 if event.ping else 202, reason=event.reason)
    if isinstance(event, PromptMoved):
        return _answer_prompt(event, watched, signed_for)
    places = {place for address in event.addresses if (place := normalized_address(address))}
    here = [w for w in watched if w.places & places]
    if not here:
        named = excerpt(next(iter(event.addresses), "without an address"), 200)
        return Answer(status="refused", code=404, reason=f"no project watches the repository {named}")
    own = [w for w in here if w.project in signed_for]
    if not own:
        them = ", ".join(w.project for w in here)
        return Answer(status="refused", code=403, reason=f"its secret is another project's, and not that of {them}")
    watches = ", ".join(dict.fromkeys(w.branch for w in own))
    if event.ref.startswith(TAGS):
        found = [w for w in own if w.tags]
        what, why = f"tag {excerpt(event.ref.removeprefix(TAGS), 100)}", "has no part in what is deployed"
    elif event.ref.startswith(PULL_REQUESTS):
        found = [w for w in own if w.more]
        what, why = f"pull request {excerpt(event.ref.split('/')[2], 20)}", "does not run by the settings"
    else:
        branch = event.ref.removeprefix(BRANCHES)
        found = [w for w in own if w.more or w.branch == branch]
        what, why = f"branch {excerpt(branch, 100)}", f"is not watched, but {watches}"
    if not found:
        return Answer(status="ignored", code=202, reason=f"{what} {why}")
    if event.deleted:
        return Answer(status="ignored", code=202, reason=f"{what} was deleted; nothing follows from that")
    names = tuple(w.project for w in found)
    return Answer(status="accepted", code=202, reason=f"{what} is looked at now", projects=names)
