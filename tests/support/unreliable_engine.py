"""python tests/support/unreliable_engine.py --spec SPEC.json --output DIR

An engine that streams answers as llama.cpp does, and treats users worse than probes: the spec's chat template says how.
A request with "user" in it counts as a user's.
"""

import argparse
import itertools
import json
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

EVERY = 10
"""Each tenth request of a user is treated badly."""


class Engine(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, spec: dict[str, Any]) -> None:
        super().__init__((spec["host"], spec["port"]), Handler)
        self.manner: str = spec["chat_template"]
        self.users = itertools.count(1)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Engine

    def do_GET(self) -> None:
        self._answer(200, b"{}")

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["messages"][-1]["content"]
        bad = "user" in asked and not next(self.server.users) % EVERY
        manner = self.server.manner if bad else ""
        if manner == "errors":
            self._answer(500, b'{"error": {"message": "out of memory"}}')
            return
        if manner == "refuses":
            self._answer(400, b'{"error": {"message": "the request exceeds the available context size"}}')
            return
        time.sleep(1.5 if manner == "slow" else 0.01)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        events = [{"delta": {"content": "yes"}}, {"delta": {}, "finish_reason": "stop"}]
        for choice in events[:1] if manner == "breaks" else events:
            self._chunk(f"data: {json.dumps({'choices': [choice]})}\n\n".encode())
        if manner == "breaks":
            self.close_connection = True  # in the middle: without the last chunk
            return
        self._chunk(b"data: [DONE]\n\n")
        self._chunk(b"")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--spec", type=Path)
    parser.add_argument("--output", type=Path)
    Engine(json.loads(parser.parse_args().spec.read_text())).serve_forever()


if __name__ == "__main__":
    main()
