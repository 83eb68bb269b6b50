"""GitLab: a signing token signs id, time and body (`webhook-signature`, as Standard Webhooks defines it); the older
secret token is sent as it is (`X-Gitlab-Token`)."""

from collections.abc import Mapping, Sequence
from typing import Any

from llmops_assets.domain.webhooks import Event, Nothing, Push
from resources.webhooks.interface import (
    NO_COMMIT,
    Unauthentic,
    by_standard_webhooks,
    digest,
    equal,
    matching,
    named,
    number_at,
    text_at,
    texts_at,
)


class GitLab:
    def verify(self, headers: Mapping[str, str], body: bytes, secrets: Sequence[str], now: float) -> set[int]:
        if signature := headers.get("webhook-signature"):  # then nothing weaker counts
            identifier, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
            return by_standard_webhooks(signature, identifier, timestamp, body, secrets, now)
        if token := headers.get("x-gitlab-token"):
            return matching([equal(token, secret) for secret in secrets])
        raise Unauthentic("it has neither webhook-signature nor X-Gitlab-Token; give the webhook a token at GitLab")

    def identity(self, headers: Mapping[str, str], body: bytes) -> tuple[str, ...]:
        # The same for each attempt to send one event. Hooks that a hook caused share X-Gitlab-Event-UUID.
        if given := headers.get("webhook-id") or headers.get("idempotency-key"):
            return (f"id:{given}",)
        return (f"event:{headers.get('x-gitlab-event-uuid', '')}:{digest(body)}",)

    def event(self, headers: Mapping[str, str], document: Mapping[str, Any]) -> Event:
        name = headers.get("x-gitlab-event", "")
        kind = document.get("object_kind") or document.get("event_name") or ""  # of a system hook: the event in it
        if kind not in ("push", "tag_push", "merge_request"):
            said = "choose push events and merge request events"
            return Nothing(reason=f"the event {named(name)} starts nothing here; {said}")
        addresses = texts_at(document, "project", "git_http_url", "git_ssh_url", "web_url")
        if kind == "merge_request":
            action = text_at(document, "object_attributes", "action")
            if action not in ("open", "reopen", "update"):
                return Nothing(reason=f"for a merge request, {named(action)} needs no run")
            number = number_at(document, "object_attributes", "iid")
            return Push(addresses=addresses, ref=f"refs/merge-requests/{number}/head")
        return Push(
            addresses=addresses,
            ref=text_at(document, "ref"),
            deleted=document.get("after") == NO_COMMIT,
        )
