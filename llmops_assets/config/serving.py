"""Settings of serving on one machine: the gateway's address and limits."""

from typing import Annotated

from pydantic import Field

from llmops_assets.domain.models import Strict


class ServingSettings(Strict):
    port: int = Field(
        default=8300, ge=1, le=65535, description="The gateway's port, the stable address of all endpoints."
    )
    host: str = Field(default="127.0.0.1", description="Address that the gateway listens on.")
    start_timeout: float = Field(
        default=900.0,
        gt=0,
        description="Seconds that an engine may take until it answers: it verifies the weights' digest (about 1 s "
        "per GB), and loads them.",
    )
    require_api_key: bool = Field(
        default=False,
        description="Answer only requests with an API key of `llmops keys add`. Set it when `host` is reachable from "
        "other machines.",
    )
    cors_origins: tuple[Annotated[str, Field(pattern=r"^(\*|https?://[^/\s*]+)$")], ...] = Field(
        default=(),
        description="Origins whose web pages may ask the endpoints from a browser, such as https://chat.example.com; "
        '"*": all. Empty: none.',
    )
    max_body: int = Field(
        default=1 << 20,
        ge=1024,
        le=1 << 30,
        description="Largest request body in bytes. An endpoint accepts less if such a request would not fit its "
        "context: 64 KiB and 32 bytes per token of `deployment.serving.context_length`.",
    )
    max_headers: int = Field(default=32, ge=1, le=1024, description="Largest request headers in KiB.")
    receive_timeout: float = Field(
        default=30.0, gt=0, description="Seconds that a client has to send its whole request. Answers have no limit."
    )
    idle_timeout: float = Field(
        default=600.0,
        gt=0,
        description="Seconds without a byte in either direction after which a request ends: at least as long as an "
        "answer takes that is not streamed, with the time that it waits for a free slot.",
    )
    drain: float = Field(default=30.0, ge=0, description="Seconds that a replaced engine has to finish its streams.")
