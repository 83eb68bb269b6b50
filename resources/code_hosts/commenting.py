"""The one comment on a pull request: found again by its marker and author, updated in place, or made. For all hosts."""

from collections.abc import Iterable
from typing import NamedTuple, Protocol

from llmops_assets.domain.answer_comment import CommentAnswer


class Entry(NamedTuple):
    """A comment on the host."""

    identity: str
    body: str
    mine: bool
    """Whether the token's account wrote it: anybody can begin a comment with the marker."""


class Comments(Protocol):
    """The requests about comments of one host. `number` is that of the pull request."""

    def comment_of(self, number: int, identity: str) -> Entry | None:
        """The comment of this id; None if there is none."""

    def comments(self, number: int) -> Iterable[Entry]:
        """All comments."""

    def add_comment(self, number: int, body: str) -> str:
        """Posts a comment, and returns its id."""

    def change_comment(self, number: int, identity: str, body: str) -> None:
        """Replaces a comment's text."""


def show_comment(host: Comments, answer: CommentAnswer, known: str) -> str:
    """Shows the comment, and returns its id.

    Args:
        known: the id that the ledger has, or empty. It counts only if our marker is there too.
    """
    found = host.comment_of(answer.number, known) if known else None
    if found is None or not _is_ours(found, answer):
        found = next((entry for entry in host.comments(answer.number) if _is_ours(entry, answer)), None)
    if found is None:
        return host.add_comment(answer.number, answer.body)
    if found.body != answer.body:
        host.change_comment(answer.number, found.identity, answer.body)
    return found.identity


def _is_ours(entry: Entry, answer: CommentAnswer) -> bool:
    return entry.mine and entry.body.startswith(answer.marker)
