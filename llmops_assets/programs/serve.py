"""python -m llmops_assets.programs.serve --spec SPEC.json

Serves a GGUF model with its composed chat template, OpenAI-compatible, until it is told to stop. Who starts it,
restarts it and sends traffic to it belongs elsewhere.
"""

import argparse
import hashlib
import os
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Any

from llmops_assets.programs.quantization.gguf_header import read_header
from llmops_assets.programs.runtime.entry import BAD_INPUT, BadInput, load_spec, prepare_environment
from llmops_assets.programs.runtime.specs import ServeSpec

PARALLEL = 8
CONTEXT = 2048  # tokens per request where neither the release nor the model asks for less


def serve(spec: ServeSpec) -> Any:
    """A listening server.

    Raises:
        BadInput: the model cannot be read or was altered, a setting is wrong, or the port is taken.
    """
    _refuse_altered(Path(spec.model), spec.sha256)
    context = context_per_request(Path(spec.model), spec.serving)
    parallel = _count(spec.serving, "parallel") or PARALLEL
    threads = _count(spec.serving, "threads") or int(os.environ.get("OMP_NUM_THREADS") or 0)
    max_tokens = _count(spec.serving, "max_tokens")
    _refuse_taken_port(spec.host, spec.port)
    from xllamacpp import CommonParams, Server

    params = CommonParams()
    params.model.path = spec.model
    params.model_alias = {spec.alias}
    params.chat_template = spec.chat_template
    params.use_jinja = True
    params.n_parallel = parallel
    params.n_ctx = context * parallel
    params.hostnames = [spec.host]
    params.port = spec.port
    params.endpoint_metrics = True
    params.ui = False
    params.verbosity = 1
    if max_tokens:
        params.n_predict = max_tokens
    if threads:
        params.cpuparams.n_threads = threads
        params.cpuparams_batch.n_threads = threads
    try:
        return Server(params)
    except (RuntimeError, ValueError) as error:
        raise BadInput(f"llama.cpp cannot serve it: {error}", spec.model) from error


def context_per_request(model: Path, serving: dict[str, Any]) -> int:
    """Tokens that one request may have, answer included.

    Raises:
        BadInput: the model cannot be read, or the setting is no number.
    """
    header = read_header(model)
    trained = int(header.get(f"{header.get('general.architecture')}.context_length") or CONTEXT)
    return _count(serving, "context_length") or min(CONTEXT, trained)


def _count(serving: dict[str, Any], name: str) -> int:
    """A setting that counts something; 0 if it is not set.

    Raises:
        BadInput: it is no whole number of 1 or more.
    """
    value = serving.get(name)
    if value is None:
        return 0
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise BadInput(f"it is {value!r}, and must be a whole number of 1 or more", f"serving.{name}")
    return value


def _refuse_altered(model: Path, sha256: str) -> None:
    """About 1 s per GB at each start; what was measured and approved is served, or nothing."""
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
            "--rebuild quantized_artifact --reason damaged` makes it again, and the endpoint comes back by itself",
            str(model),
        )


def _refuse_taken_port(host: str, port: int) -> None:
    """llama.cpp says nothing about why it ends, and a second listener on the port would steal requests."""
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
        server = serve(spec)
    except BadInput as error:
        print(f"serve: {error}", file=sys.stderr, flush=True)
        os._exit(BAD_INPUT)
    print(f"serving {spec.alias} on {server.listening_address}", flush=True)
    stop.wait()
    # The server's threads may be in the middle of answers; waiting for them is the proxy's work, before it stops us.
    os._exit(0)


def _end_with_stdin() -> None:
    """Reads until nobody holds the other end any more, also when its holder was killed."""
    while os.read(0, 4096):
        pass
    os._exit(0)


if __name__ == "__main__":
    main()
