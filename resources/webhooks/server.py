"""Serves the receiver with uvicorn, within limits that uvicorn itself does not have."""

import asyncio
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from llmops_assets.config.webhooks import WebhookSettings

GRACE_S = 5.0
"""Time for the answer, after the time in which a request has to arrive."""
HEADER_BYTES = 32 * 1024


def server(app: Any, limits: WebhookSettings) -> uvicorn.Server:
    """A server whose connections carry one request each, and end after `receive_timeout` whatever was sent by then.

    uvicorn waits without end for the rest of a request's headers.
    """

    class Bounded(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self.loop.call_later(limits.receive_timeout + GRACE_S, transport.abort)

    return uvicorn.Server(
        uvicorn.Config(
            app,
            host=limits.address,
            port=limits.port,
            http=Bounded,
            ws="none",
            lifespan="off",
            limit_concurrency=limits.connections,
            h11_max_incomplete_event_size=HEADER_BYTES,
            headers=[("Connection", "close")],
            server_header=False,
            proxy_headers=False,
            access_log=False,
            log_config=None,
            timeout_graceful_shutdown=2,
        )
    )
