"""python -m llmops_assets.programs.serve --spec SPEC.json

Serves a release with an engine of the catalog, OpenAI-compatible, until SIGTERM. Starting it, restarting it and routing
traffic belong in `resources.serving`.
"""

import argparse
import hashlib
import os
import signal
import socket
import sys
import threading
from pathlib import Path

from llmops_assets.catalog import UnavailablePart, UnknownPart
from llmops_assets.programs.engines.loading import load_engine
from llmops_assets.programs.runtime.entry import load_spec, prepare_environment
from llmops_assets.programs.runtime.errors import BAD_INPUT, BadInput
from llmops_assets.programs.runtime.specs import ServeSpec


def _refuse_altered(model: Path, sha256: str) -> None:
    """Only the model that was measured and approved is served. Takes about 1 s per GB at each start."""
    if not sha256:
        return
    try:
        with model.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BadInput(f"cannot be read: {error.strerror}", str(model)) from error
    if found != sha256:
        raise BadInput(
            f"was altered (sha256 {sha256} was released, {found} is there) and is not loaded. Remedy: `llmops run "
            "--rebuild quantized_artifact --reason damaged` computes it again, and the endpoint then recovers",
            str(model),
        )


def _refuse_taken_port(host: str, port: int) -> None:
    """llama.cpp does not report why it ends, and a second listener on the port would take requests."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise BadInput(f"the port is not free: {error.strerror}", f"{host}:{port}") from error


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m llmops_assets.programs.serve")
    parser.add_argument("--spec", required=True, type=Path, help="JSON file with the specification")
    parser.add_argument("--output", type=Path, help="ignored: an endpoint leaves nothing behind")
    parser.add_argument("--until-stdin-closes", action="store_true", help="end with the process that started this one")
    arguments = parser.parse_args()
    prepare_environment()
    stop = threading.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: stop.set())
    if arguments.until_stdin_closes:
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    try:
        spec = load_spec(ServeSpec, arguments.spec)
        _refuse_altered(Path(spec.model), spec.sha256)
        _refuse_taken_port(spec.host, spec.port)
        engine = load_engine(spec.engine)
        server = engine.serve(spec)
    except (BadInput, UnknownPart, UnavailablePart) as error:
        print(f"serve: {error}", file=sys.stderr, flush=True)
        os._exit(BAD_INPUT)
    print(f"serving {spec.alias} on {server.listening_address}", flush=True)
    stop.wait()
    # The server's threads may still be answering; the proxy waits for that before it stops this process.
    os._exit(0)


def _end_with_stdin() -> None:
    """Ends this process when the other end of stdin is closed, also if its owner was killed."""
    while os.read(0, 4096):
        pass
    os._exit(0)


if __name__ == "__main__":
    main()
