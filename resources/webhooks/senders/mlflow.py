"""MLflow: `X-MLflow-Signature` signs id, time and body as Standard Webhooks does; the secret itself is the key."""

from collections.abc import Mapping, Sequence
from typing import Any

from llmops_assets.domain.webhooks import Event, Nothing, PromptMoved
from resources.webhooks.interface import Unauthentic, by_standard_webhooks, named, text_at


class MLflow:
    def verify(self, headers: Mapping[str, str], body: bytes, secrets: Sequence[str], now: float) -> set[int]:
        signature = headers.get("x-mlflow-signature")
        if not signature:
            raise Unauthentic("it has no X-MLflow-Signature; give the webhook a secret at MLflow")
        identifier, timestamp = headers.get("x-mlflow-delivery-id", ""), headers.get("x-mlflow-timestamp", "")
        return by_standard_webhooks(signature, identifier, timestamp, body, secrets, now, str.encode)

    def identity(self, headers: Mapping[str, str], body: bytes) -> tuple[str, ...]:
        return (f"id:{headers.get('x-mlflow-delivery-id', '')}",)  # it is signed

    def event(self, headers: Mapping[str, str], document: Mapping[str, Any]) -> Event:
        what = f"{document.get('entity')}.{document.get('action')}"
        if what != "prompt_alias.created":
            return Nothing(reason=f"the event {named(what)} proposes nothing here; choose prompt_alias.created")
        return PromptMoved(name=text_at(document, "data", "name"), alias=text_at(document, "data", "alias"))
