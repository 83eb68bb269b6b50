"""The training loop: transformers' Trainer on tokenized rows, resumed from complete checkpoints.

Loading, validating and saving belong in `programs.train`.
"""

import copy
import hashlib
import math
from pathlib import Path
from typing import Any

from llmops_assets.domain.keys import digest
from llmops_assets.programs.data.encoding import IGNORED, Encoded
from llmops_assets.programs.models.loading import device, versions
from llmops_assets.programs.runtime.entry import ProgramRun
from llmops_assets.programs.runtime.errors import BadInput
from llmops_assets.programs.runtime.specs import TrainSpec
from llmops_assets.programs.training.precision import chosen_precision

LOGGED_STEPS = 5000  # above this number the loss is logged only every n-th step, so that checkpoints stay small


class Fitted:
    """The result of a training."""

    steps = 0
    tokens = 0
    tokens_per_s = 0.0
    resumed_from_step = 0
    precision = "fp32"
    loss: float | None = None


def fit(model: Any, rows: list[Encoded], tokenizer: Any, spec: TrainSpec, job: ProgramRun) -> Fitted:
    """Trains the model in place.

    Raises:
        BadInput: no row has a token to learn.
        TrainingDiverged: the loss is not finite, or far above its best.
    """
    from transformers import PrinterCallback, TrainingArguments

    from llmops_assets.programs.training.checkpoints import TimedCheckpoints, prepare, step_of
    from llmops_assets.programs.training.progress import TrainingProgress
    from llmops_assets.programs.training.schedule import WarmTrainer

    usable = [r for r in rows if r.learned]
    if not usable:
        raise BadInput("no training row has an answer within max_length; raise training.max_length or shorten the rows")
    if len(usable) < len(rows):
        job.progress("prepare", f"{len(rows) - len(usable)} rows are left out: max_length cuts their whole answer off")
    folder = job.output / "resume"
    checkpoint = prepare(folder, identity(spec))
    updates = math.ceil(math.ceil(len(usable) / spec.batch_size) / spec.gradient_accumulation)
    total = spec.max_steps or max(1, math.ceil(updates * spec.epochs))
    progress = TrainingProgress(job)
    precision = chosen_precision(spec.precision)
    trainer = WarmTrainer(
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
            bf16=precision == "bf16",
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
        data_collator=collator(tokenizer),
        callbacks=[TimedCheckpoints(job, folder, spec.checkpoint_every_s), progress],
    )
    trainer.remove_callback(PrinterCallback)
    done = Fitted()
    done.precision = precision
    done.resumed_from_step = step_of(checkpoint) if checkpoint else 0
    if checkpoint:
        job.progress("resume", f"from {checkpoint.name}")
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    done.steps = trainer.state.global_step
    done.tokens = int(trainer.state.num_input_tokens_seen)
    done.tokens_per_s = progress.tokens_per_s(done.tokens)
    losses = [float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]
    done.loss = sum(losses) / len(losses) if losses else None
    return done


def collator(tokenizer: Any) -> Any:
    """Pads a batch on the right: many tokenizers pad left, for generation, which shifts every position in training."""
    from transformers import DataCollatorForSeq2Seq

    right = copy.copy(tokenizer)
    right.padding_side = "right"
    return DataCollatorForSeq2Seq(right, label_pad_token_id=IGNORED)


def identity(spec: TrainSpec) -> str:
    """The digest of everything that affects the training, without paths: the same job may be started elsewhere."""
    files = [Path(spec.data) / "train.jsonl", Path(spec.base) / "config.json", Path(spec.base) / "tokenizer.json"]
    contents = [hashlib.sha256(p.read_bytes()).hexdigest() for p in files if p.is_file()]
    weights = [(p.name, p.stat().st_size) for p in sorted(Path(spec.base).glob("*.safetensors"))]
    fields = spec.model_dump(mode="json", exclude={"base", "data", "checkpoint_every_s"})
    return digest([fields, contents, weights, versions()])
