"""Gitea and Forgejo: `X-Gitea-Signature` is the HMAC-SHA256 of the body. Nothing else is signed, and no time is."""

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


class Gitea:
    def verify(self, headers: Mapping[str, str], body: bytes, secrets: Sequence[str], now: float) -> set[int]:
        signature = headers.get("x-gitea-signature") or headers.get("x-forgejo-signature") or ""
        if not signature:
            raise Unauthentic("it has no X-Gitea-Signature; give the webhook a secret at Gitea")
        return by_hex_digest(signature, body, secrets)

    def identity(self, headers: Mapping[str, str], body: bytes) -> tuple[str, ...]:
        given = headers.get("x-gitea-delivery") or headers.get("x-forgejo-delivery") or digest(body)
        return f"id:{given}", f"body:{digest(body)}"

    def event(self, headers: Mapping[str, str], document: Mapping[str, Any]) -> Event:
        name = headers.get("x-gitea-event") or headers.get("x-forgejo-event") or ""
        if name not in ("push", "pull_request", "pull_request_sync"):
            return Nothing(reason=f"the event {named(name)} starts nothing here; choose push and pull requests")
        addresses = texts_at(document, "repository", "clone_url", "ssh_url", "html_url")
        if name != "push":
            return pull_request_event(document, addresses, ("opened", "reopened", "synchronized"))
        return Push(
            addresses=addresses,
            ref=text_at(document, "ref"),
            deleted=document.get("after") == NO_COMMIT,
        )
