"""GGUF, by llama.cpp's own converter."""

import os
import subprocess
import sys
from pathlib import Path

from llmops_assets.programs.quantization.gguf_architectures import REMEDY
from llmops_assets.programs.runtime.errors import BadInput


def _convert(model: Path, file: Path, scheme: str, converter: str | None) -> None:
    environment = dict(os.environ)
    if converter is None:
        command = [sys.executable, "-m", "convert_hf_to_gguf"]
    else:
        command = [sys.executable, str(Path(converter) / "convert_hf_to_gguf.py")]
        environment["PYTHONPATH"] = str(Path(converter) / "gguf-py")
    # The name is written into the file: a fixed one, so that equal weights are equal bytes.
    command += [str(model), "--outfile", str(file), "--outtype", scheme, "--model-name", "model"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode == 0 and file.exists():
        return
    lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    if any("pre-tokenizer was not recognized" in line for line in lines):
        raise BadInput(f"the GGUF converter does not know this tokenizer; {REMEDY}", str(model))
    raise BadInput(f"the GGUF converter failed: {lines[-1] if lines else 'without a word'}; {REMEDY}", str(model))


def _verify(file: Path) -> None:
    """Opens what was written, so that a broken file is found here and not by an engine in production."""
    from gguf import GGUFReader

    reader = GGUFReader(file)
    names = {tensor.name for tensor in reader.tensors}
    if "token_embd.weight" not in names or reader.get_field("tokenizer.ggml.tokens") is None:
        raise RuntimeError(f"{file} lacks its embeddings or its tokenizer; the conversion is not usable")
