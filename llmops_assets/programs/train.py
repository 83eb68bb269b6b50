"""python -m llmops_assets.programs.train --spec SPEC.json --output DIR

Fine-tunes a base model with a training method of the catalog. If killed and started again with the same DIR, it resumes
from its last complete checkpoint. Computes the loss on the validation rows; other measuring belongs in
`programs.evaluate`, the steps in `programs.training.trainer`, the methods in `programs.training.methods`.
"""

import math
import shutil
from pathlib import Path
from typing import Any

from llmops_assets.catalog import TRAINING_METHODS
from llmops_assets.domain.divergence import REMEDY
from llmops_assets.programs.data.encoding import Encoded, Encoder
from llmops_assets.programs.data.rows import load_split, places
from llmops_assets.programs.models.loading import (
    check_weights,
    context_length,
    device,
    load_tokenizer,
    load_weights,
    prepare_torch,
    read_config,
    save_tokenizer,
    seed_everything,
    versions,
)
from llmops_assets.programs.models.stop_tokens import configured_stops, save_stops
from llmops_assets.programs.runtime.entry import ProgramRun, run
from llmops_assets.programs.runtime.errors import BadInput, TrainingDiverged
from llmops_assets.programs.runtime.specs import TrainResult, TrainSpec
from llmops_assets.programs.training.methods.interface import TrainingMethod
from llmops_assets.programs.training.precision import chosen_precision
from llmops_assets.programs.training.trainer import Fitted, fit
from llmops_assets.programs.training.truncation import cut, refuse_above_share, truncated


def train(spec: TrainSpec, job: ProgramRun) -> TrainResult:
    """The whole program.

    Raises:
        BadInput: the base model, its tokenizer or the rows cannot be used.
        TrainingDiverged: the loss is not finite, or far above its best.
    """
    base, data = Path(spec.base), Path(spec.data)
    config = read_config(base)
    check_weights(base)
    import torch

    prepare_torch()
    tokenizer = load_tokenizer(base)
    encoder = Encoder(tokenizer, spec.prompt, stops=configured_stops(base))
    limit = min(spec.max_length or context_length(config), context_length(config))
    part = TRAINING_METHODS[spec.method]
    method: TrainingMethod = part.load()()
    if part.trains and encoder.end_of_turn is None:
        raise BadInput(
            "the model's chat template ends the assistant's turn with no stop token, so the trained model would not "
            "end its answers; add its end-of-turn token after the content in chat_template.jinja",
            str(base),
        )
    names = ("train", "validation") if part.trains else ("validation",)
    whole = {name: [encoder.row(r) for r in load_split(data, name)] for name in names}
    long = [line for name in names for line in truncated(whole[name], places(data, name, len(whole[name])), limit)]
    if part.trains and (
        told := refuse_above_share(long, sum(map(len, whole.values())), limit, context_length(config), spec)
    ):
        job.progress("prepare", told)
    rows, validation = cut(whole.get("train", []), limit), cut(whole["validation"], limit)
    job.progress("prepare", f"{len(rows)} training rows, {sum(len(r.ids) for r in rows)} tokens")
    seed_everything(spec.seed)
    on_gpu = device() == "cuda"
    half = on_gpu and method.half_precision and (not part.trains or chosen_precision(spec.precision) == "bf16")
    model = load_weights(base, "the base model", torch.bfloat16 if half else torch.float32)
    parameters = sum(p.numel() for p in model.parameters())
    model = method.prepare(model, spec)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad) if part.trains else 0
    try:
        done = fit(model, rows, tokenizer, spec, job) if part.trains else Fitted()
    except TrainingDiverged:
        _forget_checkpoints(job)  # resuming would diverge again
        raise
    method.round(model, base)
    validation_loss = _validation_loss(model, validation, tokenizer, job)
    if part.trains and validation_loss is not None and not math.isfinite(validation_loss):
        raise TrainingDiverged(f"the training diverged: it ended with a validation loss of {validation_loss}; {REMEDY}")
    artifact = job.new_artifact()
    save_tokenizer(tokenizer, artifact)
    method.save(model, base, artifact)
    save_stops(encoder.stops, base, artifact)
    return TrainResult(
        chat_template=tokenizer.chat_template,
        context_length=context_length(config),
        parameters=parameters,
        trained_parameters=trained,
        steps=done.steps,
        tokens=done.tokens,
        tokens_per_s=done.tokens_per_s,
        resumed_from_step=done.resumed_from_step,
        truncated_rows=len(long),
        precision=done.precision if part.trains else None,
        train_loss=done.loss,
        validation_loss=validation_loss if validation_loss is not None and math.isfinite(validation_loss) else None,
        libraries=versions("accelerate"),
    )


def _validation_loss(model: Any, rows: list[Encoded], tokenizer: Any, job: ProgramRun) -> float | None:
    from llmops_assets.programs.evaluation.inference import likelihoods

    scored = likelihoods(model, [r for r in rows if r.learned], tokenizer.pad_token_id, job, "validate")
    tokens = sum(n for _, n in scored)
    return sum(nll for nll, _ in scored) / tokens if tokens else None


def _forget_checkpoints(job: ProgramRun) -> None:
    shutil.rmtree(job.output / "resume", ignore_errors=True)


if __name__ == "__main__":
    run("train", TrainSpec, train, afterwards=_forget_checkpoints)
