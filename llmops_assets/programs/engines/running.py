"""Starts a serving engine on a free port for the duration of a measurement.

Requests belong in the engine's client, the use of its answers in `programs.served_evaluate`.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from llmops_assets.programs.engines.interface import EngineClient
from llmops_assets.programs.engines.loading import client_of, load_engine
from llmops_assets.programs.runtime.errors import BadInput
from llmops_assets.programs.runtime.specs import ServeSpec

SAY_EVERY_S = 10.0
ATTEMPTS = 3  # another process can take the free port before the engine listens


@contextmanager
def running_engine(
    spec: ServeSpec,
    folder: Path,
    start_s: float = 900.0,
    on_wait: Callable[[float], None] | None = None,
    on_start: Callable[[int], None] | None = None,
) -> Iterator[EngineClient]:
    """An engine that ends with the block, or when this process ends in any way: it watches a pipe from here.

    Args:
        spec: its port is ignored.
        folder: for its log and specification.
        start_s: how long it may take until it answers.
        on_wait: told the seconds so far, while it starts.
        on_start: told the id of its process, when it answers.

    Raises:
        BadInput: it cannot serve the model.
    """
    process, engine = _start(spec, folder, start_s, on_wait or (lambda seconds: None))
    try:
        if on_start is not None:
            on_start(process.pid)
        yield engine
    finally:
        engine.close()
        assert process.stdin is not None and process.stdout is not None
        process.stdin.close()
        process.wait()
        process.stdout.close()


def _start(
    spec: ServeSpec, folder: Path, start_s: float, on_wait: Callable[[float], None]
) -> tuple[subprocess.Popen[bytes], EngineClient]:
    log, part = folder / "engine.log", load_engine(spec.engine)
    for _ in range(ATTEMPTS):
        port = _free_port(spec.host)
        file = folder / "engine.json"
        file.write_text(spec.model_copy(update={"port": port}).model_dump_json(), encoding="utf-8")
        with log.open("wb") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "llmops_assets.programs.serve", "--spec", str(file), "--until-stdin-closes"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=dict(os.environ),
            )
        engine = client_of(part, spec.engine, f"http://{spec.host}:{port}")
        if _ready(process, engine, start_s, on_wait):
            return process, engine
        slow = process.poll() is None
        process.kill()
        process.wait()
        if slow:
            raise BadInput(
                f"the engine did not answer within {start_s:g} s (serving.start_timeout in the settings)", spec.model
            )
        if "the port is not free" not in _last_line(log):
            break
    raise BadInput(_last_line(log) or "the engine did not start", spec.model)


def _ready(
    process: subprocess.Popen[bytes], engine: EngineClient, start_s: float, on_wait: Callable[[float], None]
) -> bool:
    began = time.monotonic()
    say_at = began + SAY_EVERY_S
    while process.poll() is None and (now := time.monotonic()) < began + start_s:
        if engine.ready():
            return True
        if now >= say_at:
            say_at = now + SAY_EVERY_S
            on_wait(now - began)
        time.sleep(0.05)
    return False


def _free_port(host: str) -> int:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else ""
