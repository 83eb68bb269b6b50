"""The receiver's web application: POST /webhooks/SENDER, GET /health. It answers; others act.

A delivery is bounded before it is verified, verified before it is read, and remembered before it is acted on. Each
answer is JSON with a status, a reason and the projects; a log line has these and nothing from a header or a body but
names of events and repositories.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from llmops_assets.catalog import WEBHOOKS
from llmops_assets.config.documents import DocumentError, parse_object
from llmops_assets.config.settings import Settings
from llmops_assets.domain.formatting import excerpt, size
from llmops_assets.domain.webhooks import Answer, WatchedBranch, answer, normalized_address
from resources.webhooks.deliveries import Deliveries
from resources.webhooks.interface import Malformed, Sender, Unauthentic

log = logging.getLogger("llmops.webhooks")
JSON = "application/json"


class Refused(Exception):
    """The request is answered with this code and reason."""

    def __init__(self, code: int, reason: str):
        super().__init__(reason)
        self.code, self.reason = code, reason


class Secrets:
    """The secrets of all projects.

    Raises:
        ConfigError: a variable that the settings name is not set.
    """

    def __init__(self, settings: Settings):
        assert settings.webhooks is not None
        shared = [secret.read() for secret in settings.webhooks.secrets]
        found: dict[str, list[str]] = {secret: [] for secret in shared}
        for project in settings.projects:
            for secret in [s.read() for s in project.webhook_secrets] or shared:
                found.setdefault(secret, []).append(project.name)
        self.values: Sequence[str] = tuple(found)
        self._projects = tuple(found.values())

    def projects(self, indices: Iterable[int]) -> set[str]:
        """The projects that these secrets are for."""
        return {name for index in indices for name in self._projects[index]}


def watched_branches(settings: Settings) -> list[WatchedBranch]:
    """What the projects watch.

    Raises:
        ConfigError: a variable that holds a repository's address is not set.
    """
    found = []
    for project in settings.projects:
        places = {normalized_address(a) for a in (project.address, project.web or "")} - {""}
        found.append(
            WatchedBranch(
                project=project.name,
                places=frozenset(places),
                branch=project.branch,
                more=project.watches_more,
                tags=project.release_tags is not None,
                prompts=frozenset(f"{p.name}@{p.alias}" for p in project.proposals.prompts)
                if project.proposals
                else frozenset(),
            )
        )
    return found


class Receiver:
    """Answers deliveries.

    Args:
        wake: called with the projects whose branch moved, or `proposals:` and the project; returns at once.
    """

    def __init__(
        self,
        settings: Settings,
        deliveries: Deliveries,
        wake: Callable[[Sequence[str]], None],
        clock: Callable[[], float] = time.time,
    ):
        assert settings.webhooks is not None
        self._limits, self._deliveries, self._wake, self._clock = settings.webhooks, deliveries, wake, clock
        self._secrets, self._watched = Secrets(settings), watched_branches(settings)
        self._senders: dict[str, Sender] = {}
        routes = [
            Route("/webhooks/{sender}", self._deliver, methods=["POST"]),
            Route("/health", self._health, methods=["GET"]),
        ]
        self.app = Starlette(routes=routes, exception_handlers={404: _no_such_page, 405: _wrong_method})

    async def _health(self, _: Request) -> JSONResponse:
        return JSONResponse({"status": "ok", "projects": len(self._watched)})

    async def _deliver(self, request: Request) -> JSONResponse:
        name = request.path_params["sender"]
        try:
            sender = self._sender(name)
            body = await self._body(request)
            found = await run_in_threadpool(self._answer, name, sender, dict(request.headers), body)
        except Refused as error:
            found = Answer(status="refused", code=error.code, reason=error.reason)
        except ClientDisconnect:
            found = Answer(status="refused", code=400, reason="the sender went away before the end of its request")
        if found.projects and found.status == "accepted":
            self._wake([f"{found.wakes}{project}" for project in found.projects])
        projects = f" ({', '.join(found.projects)})" if found.projects else ""
        log.info("%s: %s, %d: %s%s", excerpt(name, 40), found.status, found.code, found.reason, projects)
        said = {"status": found.status, "reason": found.reason, "projects": list(found.projects)}
        return JSONResponse(said, found.code)

    def _sender(self, name: str) -> Sender:
        if name not in self._senders:
            if name not in WEBHOOKS:
                known = ", ".join(f"/webhooks/{one}" for one in WEBHOOKS)
                raise Refused(404, f"no such sender; known: {known}")
            self._senders[name] = WEBHOOKS[name].load()()
        return self._senders[name]

    async def _body(self, request: Request) -> bytes:
        """The request's body, within the limits of kind, size and time."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != JSON:
            raise Refused(415, f"its content type is not {JSON}; choose that for the webhook")
        most = self._limits.max_body
        too_large = Refused(413, f"it is larger than {size(most)} (webhooks.max_body); the next poll finds the commits")
        length = request.headers.get("content-length", "0")
        if not length.isdigit() or int(length) > most:
            raise too_large
        body = bytearray()
        try:
            async with asyncio.timeout(self._limits.receive_timeout):
                async for part in request.stream():
                    body += part
                    if len(body) > most:
                        raise too_large
        except TimeoutError:
            raise Refused(408, f"it did not arrive within {self._limits.receive_timeout:g} s") from None
        return bytes(body)

    def _answer(self, name: str, sender: Sender, headers: Mapping[str, str], body: bytes) -> Answer:
        try:
            signed_by = sender.verify(headers, body, self._secrets.values, self._clock())
            event = sender.event(headers, parse_object(body))
        except Unauthentic as error:
            raise Refused(401, str(error)) from None
        except (DocumentError, Malformed) as error:
            raise Refused(400, str(error)) from None
        found = answer(event, self._watched, self._secrets.projects(signed_by))
        if found.status != "accepted":
            return found
        try:
            new = self._deliveries.add(name, sender.identity(headers, body))
        except Exception as error:  # a full or broken disk
            log.error("the delivery cannot be remembered: %s: %s", type(error).__name__, error)
            raise Refused(503, "it cannot be remembered now; send it again, or wait for the next poll") from None
        if not new:
            return Answer(status="already", code=200, reason="this delivery was received before; nothing is done again")
        return found


async def _no_such_page(_: Request, __: Exception) -> JSONResponse:
    known = ", ".join(f"/webhooks/{one}" for one in WEBHOOKS)
    return JSONResponse({"status": "refused", "reason": f"deliveries are sent to {known}", "projects": []}, 404)


async def _wrong_method(_: Request, __: Exception) -> JSONResponse:
    return JSONResponse({"status": "refused", "reason": "deliveries are sent by POST", "projects": []}, 405)
