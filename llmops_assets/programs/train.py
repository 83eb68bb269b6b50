"""python -m llmops_assets.programs.train --spec SPEC.json --output DIR

Fine-tunes a base model on rows, with LoRA or in full, or takes it as it is. Killed at any moment and started again
with the same DIR it goes on from its last complete checkpoint. Measuring belongs in `programs.evaluate`; here only the
loss on the validation rows is.
"""

import hashlib
import json
import math
import shutil
from pathlib import Path
from typing import Any

from llmops_assets.domain.keys import digest
from llmops_assets.programs.encoding import IGNORED, Encoded, Encoder
from llmops_assets.programs.entry import BadInput, Job, run
from llmops_assets.programs.models import (
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
from llmops_assets.programs.rows import load_split
from llmops_assets.programs.specs import TrainResult, TrainSpec

LOGGED_STEPS = 5000  # beyond these the loss is taken every n-th step only, so that checkpoints stay small


def train(spec: TrainSpec, job: Job) -> TrainResult:
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
        model = _with_lora(model, spec)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad) if spec.method != "none" else 0
    done = _fit(model, rows, tokenizer, spec, job) if spec.method != "none" else _Fitted()
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


class _Fitted:
    steps = 0
    tokens = 0
    tokens_per_s = 0.0
    resumed_from_step = 0
    loss: float | None = None


def _with_lora(model: Any, spec: TrainSpec) -> Any:
    from peft import LoraConfig, get_peft_model

    lora = spec.lora
    target = lora.get("target_modules", "all-linear")
    config = LoraConfig(
        r=lora.get("r", 16),
        lora_alpha=lora.get("alpha", 32),
        lora_dropout=lora.get("dropout", 0.0),
        target_modules=target if isinstance(target, str) else list(target),
        task_type="CAUSAL_LM",
    )
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        raise BadInput(f"training.lora does not fit the model: {error}") from error


def _fit(model: Any, rows: list[Encoded], tokenizer: Any, spec: TrainSpec, job: Job) -> _Fitted:
    from transformers import Trainer, TrainingArguments

    from llmops_assets.programs.checkpoints import TimedCheckpoints, prepare, step_of
    from llmops_assets.programs.progress import TrainingProgress

    usable = [r for r in rows if r.learned]
    if not usable:
        raise BadInput("no training row has an answer within max_length; raise training.max_length or shorten the rows")
    if len(usable) < len(rows):
        job.progress("prepare", f"{len(rows) - len(usable)} rows are left out: max_length cuts their whole answer off")
    folder = job.output / "resume"
    checkpoint = prepare(folder, _identity(spec))
    updates = math.ceil(math.ceil(len(usable) / spec.batch_size) / spec.gradient_accumulation)
    total = spec.max_steps or max(1, math.ceil(updates * spec.epochs))
    progress = TrainingProgress(job)
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(folder),
            per_device_train_batch_size=spec.batch_size,
            gradient_accumulation_steps=spec.gradient_accumulation,
            max_steps=total,
            learning_rate=spec.learning_rate,
            lr_scheduler_type=spec.schedule,
            warmup_steps=math.ceil(total * spec.warmup_ratio),
            weight_decay=spec.weight_decay,
            seed=spec.seed,
            data_seed=spec.seed,
            bf16=True,
            use_cpu=device() == "cpu",
            save_strategy="no",
            save_total_limit=2,
            eval_strategy="no",
            logging_strategy="steps",
            logging_steps=max(1, math.ceil(total / LOGGED_STEPS)),
            logging_nan_inf_filter=False,
            include_num_input_tokens_seen="non_padding",
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
            dataloader_pin_memory=device() == "cuda",
        ),
        train_dataset=[{"input_ids": r.ids, "labels": r.labels} for r in usable],
        data_collator=Collator(tokenizer.pad_token_id),
        callbacks=[TimedCheckpoints(job, folder, spec.checkpoint_every_s), progress],
    )
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)
    done = _Fitted()
    done.resumed_from_step = step_of(checkpoint) if checkpoint else 0
    if checkpoint:
        job.progress("resume", f"from {checkpoint.name}")
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    done.steps = trainer.state.global_step
    done.tokens = int(trainer.state.num_input_tokens_seen)
    done.tokens_per_s = progress.tokens_per_s(done.tokens)
    losses = [float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]
    done.loss = _finite(sum(losses) / len(losses)) if losses else None
    if done.loss is None:
        job.progress("train", "the loss is not finite: the training diverged; lower training.learning_rate")
    return done


class Collator:
    """Pads a batch on the right."""

    def __init__(self, pad: int):
        self.pad = pad

    def __call__(self, rows: list[dict[str, list[int]]]) -> dict[str, Any]:
        import torch

        longest = max(len(r["input_ids"]) for r in rows)

        def padded(name: str, value: int) -> Any:
            return torch.tensor([r[name] + [value] * (longest - len(r[name])) for r in rows])

        mask = torch.tensor([[1] * len(r["input_ids"]) + [0] * (longest - len(r["input_ids"])) for r in rows])
        return {"input_ids": padded("input_ids", self.pad), "attention_mask": mask, "labels": padded("labels", IGNORED)}


def _validation_loss(model: Any, rows: list[Encoded], tokenizer: Any, job: Job) -> float | None:
    from llmops_assets.programs.inference import likelihoods

    scored = likelihoods(model, [r for r in rows if r.learned], tokenizer.pad_token_id, job, "validate")
    tokens = sum(n for _, n in scored)
    return _finite(sum(nll for nll, _ in scored) / tokens) if tokens else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


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
        file.write_text(json.dumps(adapter, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _identity(spec: TrainSpec) -> str:
    """Of everything that decides the training, wherever its files lie: the same job may be started elsewhere."""
    files = [Path(spec.data) / "train.jsonl", Path(spec.base) / "config.json", Path(spec.base) / "tokenizer.json"]
    contents = [hashlib.sha256(p.read_bytes()).hexdigest() for p in files if p.is_file()]
    weights = [(p.name, p.stat().st_size) for p in sorted(Path(spec.base).glob("*.safetensors"))]
    fields = spec.model_dump(mode="json", exclude={"base", "data", "checkpoint_every_s"})
    return digest([fields, contents, weights, versions()])


def _forget_checkpoints(job: Job) -> None:
    shutil.rmtree(job.output / "resume", ignore_errors=True)


if __name__ == "__main__":
    run("train", TrainSpec, train, afterwards=_forget_checkpoints)
