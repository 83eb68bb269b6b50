"""Settings of the webhook receiver: where it listens, and the secrets that deliveries are signed with."""

from typing import Annotated

from pydantic import Field

from llmops_assets.config.secrets import FromEnvironment
from llmops_assets.domain.models import Strict

Secrets = Annotated[tuple[FromEnvironment, ...], Field(max_length=8)]


class WebhookSettings(Strict):
    port: int = Field(default=3100, ge=1, le=65535, description="The receiver's port.")
    address: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="Address that it listens on. It speaks plain HTTP: put a proxy with TLS in front of it. In a pod: "
        "0.0.0.0.",
    )
    secrets: Secrets = Field(
        default=(),
        description="Secrets of the webhooks of all projects without their own `webhook_secrets`, each {env: NAME}. A "
        "delivery may be signed with any: while a secret is replaced, list the old and the new one.",
    )
    max_body: int = Field(
        default=5 << 20,
        ge=1024,
        le=25 << 20,
        description="Largest delivery in bytes. A push of thousands of commits can have megabytes; a larger one is "
        "refused, and its commits are found by the next poll.",
    )
    receive_timeout: float = Field(
        default=10.0, gt=0, le=600, description="Seconds that a sender has for a whole request."
    )
    connections: int = Field(
        default=64, ge=1, le=10_000, description="The most connections at a time; more are answered with 503."
    )
