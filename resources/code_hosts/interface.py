"""The interface of code hosts, and how an attempt can fail. Implementations belong in the other modules.

An attempt whose answer is lost may have been accepted. So every method first looks for what an earlier attempt has
made, by an identity that is kept on the host itself, and makes it only if there is none.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from llmops_assets.domain.answer_comment import CommentAnswer
from llmops_assets.domain.answers import GroupAnswer
from llmops_assets.domain.deployment_answers import DeploymentAnswer
from llmops_assets.domain.models import Frozen


class Permission(Frozen):
    """What the token was tried for, and whether it is enough."""

    what: str
    granted: bool | None
    """None: it cannot be tried without changing anything."""
    detail: str = ""
    needed: bool = True
    """False: without it, something else is shown instead."""


class CodeHost(Protocol):
    """One repository on a code host."""

    deploys: bool
    """Whether it shows deployments."""

    def __init__(self, api: str, repository: str, token: str):
        """Keeps the address. Does no I/O.

        Args:
            api: the base URL of the host's API, without a slash at its end.
            repository: owner/name; on GitLab with all groups.
        """

    def report(self, answer: GroupAnswer, known: str) -> str:
        """Shows a group's state at its commit, and returns the host's id of it.

        Args:
            known: that id, if it is known from an earlier report; else empty.

        Raises:
            HostUnavailable, HostRefuses: it is not known to be shown.
        """

    def pull_requests(self, revision: str) -> tuple[int, ...]:
        """The numbers of the pull requests that contain a commit, open or merged; none if it does not know it."""

    def comment(self, answer: CommentAnswer, known: str) -> str:
        """Shows a comment on a pull request, and returns the host's id of it; see `report`."""

    def deploy(self, answer: DeploymentAnswer, known: str) -> str:
        """Shows a deployment and its state, and returns the host's id of it; see `report`."""

    def notes(self) -> tuple[str, ...]:
        """What it shows in another way than asked for, and why."""

    def verify(self) -> list[Permission]:
        """Tries what can be tried without changing anything.

        Raises:
            HostUnavailable: the host cannot be reached.
        """


class HostUnavailable(Exception):
    """The host cannot be reached, limits the rate, or does not accept the token: nothing can be posted now.

    Args:
        wait_s: how long the host asks to wait, in seconds; None if it does not say.
    """

    def __init__(self, why: str, wait_s: float | None = None):
        super().__init__(why)
        self.wait_s = wait_s


class HostRefuses(Exception):
    """The host answers, and does not do this; other requests may succeed."""

    def __init__(self, why: str, status: int):
        super().__init__(why)
        self.status = status


@contextmanager
def unless_refused(*statuses: int) -> Iterator[None]:
    """Leaves its block if the host refuses with one of these statuses, such as 404 for what is no longer there."""
    try:
        yield
    except HostRefuses as error:
        if error.status not in statuses:
            raise


def status_line(answer: GroupAnswer, limit: int) -> str:
    """The headline where a host shows nothing else, cut at its end."""
    text = answer.headline
    if answer.state == "waiting" and not text.startswith("waiting"):
        text = f"waiting for a person: {text}"
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
