"""python -m llmops_assets.programs.quantize --spec SPEC.json --output DIR

Merges a checkpoint into its base model, and quantizes it with a backend of the catalog into the file that the engine
serves. Measuring the result belongs in `programs.served_evaluate`.
"""

import shutil
from pathlib import Path

from llmops_assets.catalog import QUANTIZATION_BACKENDS, TRAINING_METHODS
from llmops_assets.programs.models.loading import (
    load_tokenizer,
    merge_dtype,
    prepare_torch,
    read_config,
    save_tokenizer,
    versions,
)
from llmops_assets.programs.models.stop_tokens import GENERATION_CONFIG
from llmops_assets.programs.quantization.interface import QuantizationBackend
from llmops_assets.programs.runtime.entry import ProgramRun, run
from llmops_assets.programs.runtime.errors import BadInput
from llmops_assets.programs.runtime.specs import QuantizeResult, QuantizeSpec
from llmops_assets.programs.training.methods.interface import TrainingMethod


def quantize(spec: QuantizeSpec, job: ProgramRun) -> QuantizeResult:
    """The whole program.

    Raises:
        BadInput: the model cannot be converted.
    """
    base, checkpoint = Path(spec.base), Path(spec.checkpoint)
    backend: QuantizationBackend = QUANTIZATION_BACKENDS[spec.backend].load()(spec.converter)
    if reason := backend.refuses(read_config(base)):
        raise BadInput(reason, str(base))
    merged = job.output / "merged"
    shutil.rmtree(merged, ignore_errors=True)
    job.progress("merge", "the checkpoint into the base model")
    _merge(spec.method, base, checkpoint, merged)
    job.progress("convert", f"to {spec.backend}, {spec.scheme}")
    file = backend.quantize(merged, job.new_artifact(), spec.scheme)
    shutil.rmtree(merged)
    return QuantizeResult(file=file.name, size_bytes=file.stat().st_size, libraries=versions(*backend.libraries))


def _merge(name: str, base: Path, checkpoint: Path, merged: Path) -> None:
    import torch

    prepare_torch()
    method: TrainingMethod = TRAINING_METHODS[name].load()()
    model = method.load(base, checkpoint, merge_dtype(base))
    if broken := next((n for n, w in model.named_parameters() if not torch.isfinite(w).all()), None):
        raise BadInput(f"the weights {broken} are not finite: the training diverged; lower training.learning_rate")
    model.save_pretrained(merged)
    save_tokenizer(load_tokenizer(checkpoint), merged)
    if (checkpoint / GENERATION_CONFIG).is_file():  # older checkpoints have none
        shutil.copyfile(checkpoint / GENERATION_CONFIG, merged / GENERATION_CONFIG)


if __name__ == "__main__":
    run("quantize", QuantizeSpec, quantize)
