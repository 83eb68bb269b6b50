"""A server for tests of code hosts: it keeps what is asked of it, and injects faults between client and host."""

import json
import re
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, NamedTuple

from tests.support.waiting import CEILING_S


class Seen(NamedTuple):
    method: str
    path: str
    body: Any
    status: int


class Fault(NamedTuple):
    """What happens to the next request that matches `where`, a pattern of "METHOD /path"."""

    where: str
    status: int = 0
    """Answered instead of passing the request on."""
    headers: tuple[tuple[str, str], ...] = ()
    message: str = ""
    kind: Literal["answer", "cut", "silent"] = "answer"
    """cut: the request is carried out, and the connection closed without an answer. silent: no answer at all."""


class HostServer(ABC):
    """A code host's state, and what was asked of it.

    Attributes:
        seen: every request that reached it, with the status of its answer.
        faults: each is taken by the first request that it matches.
    """

    def __init__(self) -> None:
        self.url = ""
        self.seen: list[Seen] = []
        self.faults: list[Fault] = []
        self.ids = iter(range(1, 10**6))
        self.lock = threading.Lock()

    def posts(self, pattern: str = "") -> list[Seen]:
        """The accepted requests that changed something."""
        return [s for s in self.seen if s.method != "GET" and s.status < 300 and re.search(pattern, s.path)]

    def fault_of(self, method: str, path: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if re.search(fault.where, f"{method} {path}"):
                    self.faults.remove(fault)
                    return fault
        return None

    @abstractmethod
    def handle(self, method: str, target: str, headers: dict[str, str], body: Any) -> tuple[int, Any]:
        """(status, JSON) of the answer to a request."""


def page(entries: list[Any], query: dict[str, str]) -> list[Any]:
    size, number = int(query.get("per_page", "30")), int(query.get("page", "1"))
    return entries[(number - 1) * size : number * size]


@contextmanager
def serving(host: HostServer) -> Iterator[None]:
    """Serves a code host at its `url`."""

    class Handler(BaseHTTPRequestHandler):
        def _any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            fault = host.fault_of(self.command, self.path)
            if fault and fault.kind == "silent":
                time.sleep(CEILING_S)
                return
            if fault and fault.kind == "answer":
                status, told = fault.status, {"message": fault.message}
            else:
                headers = {name.lower(): value for name, value in self.headers.items()}
                status, told = host.handle(self.command, self.path, headers, body)
            host.seen.append(Seen(self.command, self.path, body, status))
            if fault and fault.kind == "cut":
                self.close_connection = True
                self.connection.close()
                return
            self.send_response(status)
            for name, value in fault.headers if fault else ():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(json.dumps(told).encode())

        do_GET = do_POST = do_PATCH = do_PUT = _any

        def log_message(self, format: str, *args: object) -> None:
            pass

        def handle(self) -> None:
            with suppress(OSError, ValueError):  # the client has gone, or we have closed its connection
                super().handle()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    host.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
