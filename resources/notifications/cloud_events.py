"""CloudEvents 1.0 in structured mode: one JSON object per event, by HTTP POST.

Source and id identify an event: they are the same each time that it is sent, so a receiver can drop repetitions.
"""

from datetime import UTC, datetime

import httpx

from llmops_assets.domain.notification_messages import Message
from resources.notifications.interface import TIMEOUT_S, Undeliverable

TYPE = "llmops."
"""Prefix of an event's type, such as llmops.rejected."""
_NEVER_TAKEN = frozenset({400, 405, 406, 409, 411, 413, 414, 415, 422, 501})
"""Answers about this message. All others, such as 401, 404, 429 or 503, are about the target, and may pass."""


class CloudEventNotifier:
    def __init__(self, address: str, token: str | None):
        if not address.lower().startswith(("http://", "https://")):
            raise Undeliverable("its address is not an http or https URL")
        self._address, self._token = address, token

    def send(self, message: Message, now: float) -> None:
        headers, body = encode(message)
        if self._token:
            headers = {**headers, "Authorization": f"Bearer {self._token}"}
        try:
            # Streamed, so that an endless answer is not read. Redirects are not followed: the token is for this host.
            with httpx.stream("POST", self._address, content=body, headers=headers, timeout=TIMEOUT_S) as answer:
                status = answer.status_code
        except httpx.TimeoutException as error:
            raise Undeliverable(f"no answer within {TIMEOUT_S:.0f} s") from error
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            raise Undeliverable(f"it cannot be reached ({type(error).__name__})") from error
        if not 200 <= status < 300:
            raise Undeliverable(f"it answered with status {status}", refused=status in _NEVER_TAKEN)


def encode(message: Message) -> tuple[dict[str, str], bytes]:
    """(headers, body) of the HTTP request."""
    from cloudevents.core.bindings.http import to_structured
    from cloudevents.core.formats.json import JSONFormat
    from cloudevents.core.v1.event import CloudEvent

    data = message.model_dump(include={"project", "title", "detail", "command", "commit", "subject", "release"})
    data |= message.model_dump(include={"environment", "run_url", "commit_url"})
    event = CloudEvent(
        attributes={
            "id": message.id,
            "source": f"/llmops/{message.project}",
            "type": TYPE + message.kind,
            "specversion": "1.0",
            "time": datetime.fromtimestamp(message.at, UTC),
            "datacontenttype": "application/json",
            **({"subject": subject} if (subject := message.commit or message.release) else {}),
        },
        data={key: value for key, value in data.items() if value is not None},
    )
    sent = to_structured(event, JSONFormat())
    return dict(sent.headers), bytes(sent.body)
