"""The interface of notifiers, and how an attempt can fail. Implementations belong in the other modules."""

from typing import Protocol

from llmops_assets.domain.notification_messages import Message

TIMEOUT_S = 10.0
"""How long one attempt waits for a connection, and for the answer."""


class Notifier(Protocol):
    """Sends messages to one address."""

    def __init__(self, address: str, token: str | None):
        """Keeps the address. Does no I/O.

        Raises:
            Undeliverable: the address cannot be used.
        """

    def send(self, message: Message, now: float) -> None:
        """Sends a message and returns when the target has taken it.

        Raises:
            Undeliverable: it has not, as far as is known.
        """


class Undeliverable(Exception):
    """An attempt failed. The message says why, and never contains the address.

    Args:
        refused: the target does not take this message, and would not the next time; others may pass.
    """

    def __init__(self, why: str, refused: bool = False):
        super().__init__(why)
        self.refused = refused
