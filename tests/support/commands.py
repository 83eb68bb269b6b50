"""`llmops` as a process of its own, forked from one that has imported its libraries: 0.2 CPU seconds instead of 1.2.

Its own modules are imported by each command, so that they see its environment. Some tests of `tests/cli` start a new
interpreter instead.
"""

import atexit
import json
import os
import runpy
import socket
import socketserver
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from llmops_assets.machine.processes import run_and_exit
from tests.support.waiting import CEILING_S

MODULE = "llmops_assets.cli"


def llmops(
    *words: str, env: Mapping[str, str], cwd: Path | None = None, timeout: float = CEILING_S
) -> subprocess.CompletedProcess[str]:
    """Runs `python -m llmops_assets.cli` with these words to its end, as `subprocess.run(capture_output=True)` does."""
    with tempfile.TemporaryDirectory(prefix="llmops-command") as folder, socket.socket(socket.AF_UNIX) as connection:
        files = [Path(folder, name) for name in ("out", "err")]
        request = {"words": words, "env": dict(env), "cwd": str(cwd or Path.cwd()), "files": [str(f) for f in files]}
        connection.settimeout(timeout)
        connection.connect(_server())
        connection.sendall(json.dumps(request).encode() + b"\n")
        with connection.makefile() as answer:
            code = answer.readline()
        out, err = (f.read_text() if f.exists() else "" for f in files)
    assert code, f"llmops {' '.join(words)} ended without an exit code: {err}"
    return subprocess.CompletedProcess([MODULE, *words], int(code), out, err)


@cache
def _server() -> str:
    """The address of this test process's server, which ends with it."""
    folder = tempfile.TemporaryDirectory(prefix="llmops-commands")
    path = f"{folder.name}/socket"
    command = [sys.executable, "-m", "tests.support.commands", path]
    # No home is named in it: a test that ends every process of its home would end this one too.
    env = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    server = subprocess.Popen(command, cwd=Path(__file__).parents[2], env=env, stdout=subprocess.PIPE)

    def end() -> None:
        server.kill()
        server.wait()
        folder.cleanup()

    atexit.register(end)
    assert server.stdout is not None and server.stdout.readline() == b"ready\n", "the server of commands did not start"
    return path


class _Command(socketserver.StreamRequestHandler):
    """Runs in a fork of the server, and forks the command in turn, whose exit code it returns."""

    def handle(self) -> None:
        request = json.loads(self.rfile.readline())
        if (pid := os.fork()) == 0:
            self.connection.close()
            _become(request)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        self.wfile.write(f"{code}\n".encode())


class _Server(socketserver.ForkingMixIn, socketserver.UnixStreamServer):
    max_children = 16

    def service_actions(self) -> None:
        super().service_actions()
        if os.getppid() == 1:  # the test process was killed
            os._exit(1)


def _become(request: dict[str, list[str]]) -> None:
    def main() -> None:
        os.environ.clear()
        os.environ.update(request["env"])
        os.chdir(str(request["cwd"]))
        for descriptor, name in enumerate([os.devnull, *request["files"]]):
            file = os.open(name, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(file, descriptor)
            os.close(file)
        sys.path[0], sys.argv = str(request["cwd"]), [MODULE, *request["words"]]
        runpy.run_module(MODULE, run_name="__main__", alter_sys=True)

    run_and_exit(main)


def _serve(path: str) -> None:
    import resources.run_launching.preloaded  # noqa: F401

    with _Server(path, _Command) as server:
        print("ready", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    _serve(sys.argv[1])
