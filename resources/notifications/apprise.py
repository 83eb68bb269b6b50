"""Messages for people by apprise: chat, e-mail, webhooks; its own documentation lists the URLs."""

import logging
from typing import Any

from llmops_assets.domain.notification_messages import Message
from resources.notifications.interface import Undeliverable

_BAD = frozenset({"rejected", "failed", "returned", "endpoint_down"})
_WARNS = frozenset({"waiting", "rolled_back", "undelivered"})


class AppriseNotifier:
    def __init__(self, address: str, token: str | None):
        self._address = address

    def send(self, message: Message, now: float) -> None:
        import apprise

        # Its own log lines are repeated at each attempt, and can show what the address contains.
        logging.getLogger("apprise").setLevel(logging.CRITICAL)
        sender: Any = apprise.Apprise()
        if not sender.add(self._address):
            raise Undeliverable("its address is none of apprise's URLs")
        taken = sender.notify(
            title=message.title,
            body=message.text(now),
            notify_type="failure" if message.kind in _BAD else "warning" if message.kind in _WARNS else "info",
            body_format=apprise.NotifyFormat.TEXT,
        )
        if not taken:
            raise Undeliverable("apprise could not deliver it: the target is unreachable, or refuses it")
