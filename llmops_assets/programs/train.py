"""python -m llmops_assets.programs.train --spec SPEC.json --output DIR

Fine-tunes a base model on rows, with LoRA or in full, or takes it as it is. Killed at any moment and started again
with the same DIR it goes on from its last complete checkpoint. Measuring belongs in `programs.evaluate`; here only the
loss on the validation rows is. The steps themselves are in `programs.fitting`.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from llmops_assets.programs.data.encoding import Encoded, Encoder
from llmops_assets.programs.data.rows import load_split
from llmops_assets.programs.models.loading import (
    check_weights,
    context_length,
    device,
    load_model,
    load_tokenizer,
    prepare_torch,
    read_config,
    save_tokenizer,
    seed_everything,
    versions,
)
from llmops_assets.programs.runtime.entry import ProgramRun, run
from llmops_assets.programs.runtime.specs import TrainResult, TrainSpec
from llmops_assets.programs.training.methods.lora import with_lora
from llmops_assets.programs.training.trainer import Fitted, finite, fit


def train(spec: TrainSpec, job: ProgramRun) -> TrainResult:
    """The whole program.

    Raises:
        BadInput: the base model, its tokenizer or the rows cannot be used.
    """
    base, data = Path(spec.base), Path(spec.data)
    config = read_config(base)
    check_weights(base)
    import torch

    prepare_torch()
    tokenizer = load_tokenizer(base)
    encoder = Encoder(tokenizer, spec.prompt)
    limit = min(spec.max_length or context_length(config), context_length(config))
    validation = [encoder.row(r, limit) for r in load_split(data, "validation")]
    rows = [encoder.row(r, limit) for r in load_split(data, "train")] if spec.method != "none" else []
    job.progress("prepare", f"{len(rows)} training rows, {sum(len(r.ids) for r in rows)} tokens")
    seed_everything(spec.seed)
    on_gpu = device() == "cuda"
    model = load_model("none", base, None, torch.bfloat16 if on_gpu and spec.method == "lora" else torch.float32)
    parameters = sum(p.numel() for p in model.parameters())
    if spec.method == "lora":
        model = with_lora(model, spec)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad) if spec.method != "none" else 0
    done = fit(model, rows, tokenizer.pad_token_id, spec, job) if spec.method != "none" else Fitted()
    validation_loss = _validation_loss(model, validation, tokenizer, job)
    _save(model, tokenizer, base, spec.method, job.new_artifact())
    return TrainResult(
        chat_template=tokenizer.chat_template,
        context_length=context_length(config),
        parameters=parameters,
        trained_parameters=trained,
        steps=done.steps,
        tokens=done.tokens,
        tokens_per_s=done.tokens_per_s,
        resumed_from_step=done.resumed_from_step,
        train_loss=done.loss,
        validation_loss=validation_loss,
        libraries=versions("accelerate"),
    )


def _validation_loss(model: Any, rows: list[Encoded], tokenizer: Any, job: ProgramRun) -> float | None:
    from llmops_assets.programs.evaluation.inference import likelihoods

    scored = likelihoods(model, [r for r in rows if r.learned], tokenizer.pad_token_id, job, "validate")
    tokens = sum(n for _, n in scored)
    return finite(sum(nll for nll, _ in scored) / tokens) if tokens else None


def _save(model: Any, tokenizer: Any, base: Path, method: str, artifact: Path) -> None:
    """safetensors and tokenizer, without paths or dates of this machine: equal trainings are equal bytes."""
    save_tokenizer(tokenizer, artifact)
    if method == "none":
        (artifact / "config.json").write_bytes((base / "config.json").read_bytes())
    elif method == "full":
        import torch

        config = read_config(base)
        model.to(getattr(torch, str(config.get("dtype") or config.get("torch_dtype") or "bfloat16")))
        model.save_pretrained(artifact)
    else:
        model.save_pretrained(artifact, safe_serialization=True)
        (artifact / "README.md").unlink(missing_ok=True)  # a model card with the path of the base model
        file = artifact / "adapter_config.json"
        adapter = {**json.loads(file.read_text(encoding="utf-8")), "base_model_name_or_path": None}
        # peft keeps module names in sets, whose order is another one in each process.
        adapter = {k: sorted(v, key=str) if isinstance(v, list) else v for k, v in adapter.items()}
        file.write_text(json.dumps(adapter, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _forget_checkpoints(job: ProgramRun) -> None:
    shutil.rmtree(job.output / "resume", ignore_errors=True)


if __name__ == "__main__":
    run("train", TrainSpec, train, afterwards=_forget_checkpoints)
