"""GitHub: `X-Hub-Signature-256` is the HMAC-SHA256 of the body. Nothing else is signed, and no time is."""

from collections.abc import Mapping, Sequence
from typing import Any

from llmops_assets.domain.webhooks import Event, Nothing, Push
from resources.webhooks.interface import (
    NO_COMMIT,
    Unauthentic,
    by_hex_digest,
    digest,
    named,
    pull_request_event,
    text_at,
    texts_at,
)


class GitHub:
    def verify(self, headers: Mapping[str, str], body: bytes, secrets: Sequence[str], now: float) -> set[int]:
        signature = headers.get("x-hub-signature-256", "")
        if not signature.startswith("sha256="):
            raise Unauthentic("it has no X-Hub-Signature-256; give the webhook a secret at GitHub")
        return by_hex_digest(signature.removeprefix("sha256="), body, secrets)

    def identity(self, headers: Mapping[str, str], body: bytes) -> tuple[str, ...]:
        # The id is not signed: who replays a delivery can change it, but not the body, which has the time of the push.
        return f"id:{headers.get('x-github-delivery') or digest(body)}", f"body:{digest(body)}"

    def event(self, headers: Mapping[str, str], document: Mapping[str, Any]) -> Event:
        name = headers.get("x-github-event", "")
        if name == "ping":
            return Nothing(reason="pong", ping=True)
        if name not in ("push", "pull_request"):
            return Nothing(reason=f"the event {named(name)} starts nothing here; choose push and pull requests")
        addresses = texts_at(document, "repository", "clone_url", "ssh_url", "git_url", "html_url")
        if name == "pull_request":
            return pull_request_event(document, addresses, ("opened", "reopened", "synchronize"))
        return Push(
            addresses=addresses,
            ref=text_at(document, "ref"),
            deleted=document.get("deleted") is True or document.get("after") == NO_COMMIT,
        )
