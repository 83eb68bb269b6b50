"""The entry point of all programs: arguments, progress and exit codes.

A program is a function `work(spec, job) -> result`; `run` makes it a command. Reports, data and models belong in other
packages of `programs`. Only light imports here: the environment is set before any heavy import.
"""

import argparse
import json
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from dagster_pipes import PIPES_PROTOCOL_VERSION, PipesFileMessageWriterChannel, PipesMessage
from pydantic import BaseModel, ValidationError

from llmops_assets.catalog import UnavailablePart, UnknownPart
from llmops_assets.machine.disk_space import full, has_no_room, is_full
from llmops_assets.machine.files import write_atomically
from llmops_assets.programs.runtime.errors import BAD_INPUT, DISK_FULL, BadInput, Unavailable
from llmops_assets.programs.runtime.hardware import note_hardware

MESSAGES = "messages.jsonl"
"""The file of progress in the output folder: one Dagster Pipes message per line."""
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_EVALUATE_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "TQDM_DISABLE": "1",
    # Without it cuBLAS is not deterministic, and torch warns only when it is too late to set it.
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
}


class ProgramRun:
    """One run of a program: its output folder and its progress."""

    def __init__(self, output: Path):
        self.output = output
        self.artifact = output / "artifact"
        self.gpus: list[str] = []
        """Models of the GPUs that another process used for this program, such as an engine."""
        self._last = 0.0
        self._messages = PipesFileMessageWriterChannel(str(output / MESSAGES))

    def new_artifact(self) -> Path:
        """Creates an empty artifact folder; deletes what a killed run left there."""
        shutil.rmtree(self.artifact, ignore_errors=True)
        self.artifact.mkdir(parents=True)
        return self.artifact

    def progress(self, phase: str, message: str = "", every_s: float = 0.0, **figures: float | int | None) -> None:
        """Appends a line to messages.jsonl and prints it; at most one line per `every_s` seconds."""
        now = time.monotonic()
        if every_s and now - self._last < every_s:
            return
        self._last = now
        shown = {k: (round(v, 6) if isinstance(v, float) else v) for k, v in figures.items()}
        line = {"at": datetime.now(UTC).isoformat(timespec="milliseconds"), "phase": phase, **shown}
        if message:
            line["message"] = message
        self._messages.write_message(
            PipesMessage(
                __dagster_pipes_version=PIPES_PROTOCOL_VERSION,
                method="report_custom_message",
                params={"payload": line},
            )
        )
        _say(" ".join([f"{phase}:", *([message] if message else []), *_human(shown)]))


def _say(text: str) -> None:
    """Prints a line. A closed pipe is no error: the program outlives the worker that started it."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - open until this process ends


def _human(figures: dict[str, Any]) -> list[str]:
    text = [f"{figures['step']}/{figures['total']}"] if "step" in figures and "total" in figures else []
    for name, value in figures.items():
        if name in ("step", "total") or value is None:
            continue
        text.append(f"eta {value:.0f}s" if name == "eta_s" else f"{name} {value:.4g}")
    return text


S = TypeVar("S", bound=BaseModel)


def run(
    name: str,
    spec_type: type[S],
    work: Callable[[S, ProgramRun], BaseModel],
    afterwards: Callable[[ProgramRun], None] | None = None,
) -> None:
    """Runs a program as a command, and exits.

    If the output folder holds the result of the same spec, nothing is done: starting a program twice gives one result.

    Args:
        name: module name, for the usage text.
        spec_type: model of the specification.
        work: the program's function.
        afterwards: cleans the output folder up once the result is written.
    """
    parser = argparse.ArgumentParser(prog=f"python -m llmops_assets.programs.{name}")
    parser.add_argument("--spec", required=True, type=Path, help="JSON file with the specification")
    parser.add_argument("--output", required=True, type=Path, help="folder for result.json, artifact/, messages.jsonl")
    arguments = parser.parse_args()
    output: Path = arguments.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    job = ProgramRun(output)
    prepare_environment()
    try:
        spec = load_spec(spec_type, arguments.spec)
        text = spec.model_dump_json()
        if _finished(output, text):
            _say(f"{name}: this output folder already holds the result")
            return
        for stale in ("result.json", "error.json", "spec_of_result.json"):
            (output / stale).unlink(missing_ok=True)
        result = work(spec, job)
        note_hardware(output, job.gpus)
        write_atomically(output / "spec_of_result.json", text)
        write_atomically(output / "result.json", result.model_dump_json(indent=2))
    except (BadInput, UnknownPart, UnavailablePart) as error:
        given = error if isinstance(error, BadInput) else BadInput(str(error))
        told = {"error": type(given).__name__, "message": given.message, "where": given.where}
        write_atomically(output / "error.json", json.dumps(told))
        print(f"{name}: {error}", file=sys.stderr, flush=True)
        sys.exit(BAD_INPUT)
    except Unavailable as error:
        print(f"{name}: {error}", file=sys.stderr, flush=True)
        sys.exit(1)
    except Exception as error:
        _exit_if_full(name, error, output)
        raise
    if afterwards is not None:
        afterwards(job)


def _exit_if_full(name: str, error: Exception, output: Path) -> None:
    if not (is_full(error) or has_no_room(output)):
        return
    traceback.print_exc()
    with suppress(OSError):  # its log is on the same disk
        print(f"{name}: {full(f'what {name} writes', output)}", file=sys.stderr, flush=True)
    os._exit(DISK_FULL)  # exit handlers that write would fail, and change the exit code


def load_spec(spec_type: type[S], path: Path) -> S:
    """Reads the specification from its file.

    Raises:
        BadInput: it cannot be read, or is invalid.
    """
    try:
        return spec_type.model_validate_json(path.read_bytes())
    except OSError as error:
        raise BadInput(f"cannot be read: {error.strerror}", str(path)) from error
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(str(p) for p in e['loc'])}: {e['msg']}" for e in error.errors())
        raise BadInput(f"is not a {spec_type.__name__}: {problems}", str(path)) from error


def prepare_environment() -> None:
    """Disables network access and the output of libraries. Must run before any heavy import."""
    for name, value in OFFLINE.items():
        os.environ.setdefault(name, value)
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        os.environ[name] = "1"


def _finished(output: Path, spec: str) -> bool:
    written = output / "spec_of_result.json"
    return (output / "result.json").exists() and written.exists() and written.read_text(encoding="utf-8") == spec
