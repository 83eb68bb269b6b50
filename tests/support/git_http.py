"""A Git server over HTTP that asks for a user and a password, and looks at `ps` while Git talks to it."""

import base64
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil


class GitServer:
    """Serves the bare repositories of a folder by Git's dumb protocol: files only.

    Args:
        user: the only pair that is let in, with `password`.
    """

    def __init__(self, folder: Path, user: str, password: str):
        self.folder, self.closed = folder, False
        self._expected = f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"
        self.asked: list[str] = []
        self.listed: set[str] = set()
        """The command lines of all processes at each request."""
        server = self

        class Handler(SimpleHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked.append(self.path)
                server.listed |= command_lines()
                if server.closed:
                    self.send_error(403)
                elif self.headers.get("Authorization") == server._expected:
                    super().do_GET()
                else:
                    self.send_response(401)
                    self.send_header("WWW-Authenticate", 'Basic realm="git"')
                    self.end_headers()

            def log_message(self, *_: Any) -> None:
                return None

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
        self.host = f"127.0.0.1:{self._http.server_port}"

    @contextmanager
    def serving(self) -> Iterator["GitServer"]:
        thread = threading.Thread(target=self._http.serve_forever)
        thread.start()
        try:
            yield self
        finally:
            self._http.shutdown()
            thread.join()
            self._http.server_close()

    def publish(self, repository: Path) -> None:
        """Makes what was pushed visible to the dumb protocol."""
        subprocess.run(["git", "update-server-info"], cwd=repository, check=True)


def command_lines() -> set[str]:
    """What `ps` shows to every user."""
    found = set()
    for process in psutil.process_iter():
        try:
            found.add(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found
