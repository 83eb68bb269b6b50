"""python -m benchmarks.bare_trainer --side ours|bare --spec SPEC.json --output DIR

Times one training in its own process, from tokenized rows to the last step: `ours` with the train program's own steps
(progress lines, resumable checkpoints, everything in `programs.training.trainer`), `bare` with a transformers.Trainer
with the same settings and nothing else. Prints {"tokens", "seconds"}; train_tokens_per_s compares them.
"""

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

from llmops_assets.programs.data.encoding import Encoded, Encoder
from llmops_assets.programs.data.rows import load_split
from llmops_assets.programs.models.loading import device, load_tokenizer, load_weights, prepare_torch, seed_everything
from llmops_assets.programs.runtime.entry import ProgramRun, prepare_environment
from llmops_assets.programs.runtime.specs import TrainSpec
from llmops_assets.programs.training.methods.lora import Lora
from llmops_assets.programs.training.precision import chosen_precision
from llmops_assets.programs.training.trainer import collator, fit


def bare(model: Any, rows: list[Encoded], tokenizer: Any, spec: TrainSpec, job: ProgramRun) -> None:
    from transformers import PrinterCallback, Trainer, TrainingArguments

    total = spec.max_steps or math.ceil(len(rows) / spec.batch_size * spec.epochs)
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(job.output / "bare"),
            per_device_train_batch_size=spec.batch_size,
            gradient_accumulation_steps=spec.gradient_accumulation,
            max_steps=total,
            learning_rate=spec.learning_rate,
            lr_scheduler_type=spec.schedule,
            warmup_steps=math.ceil(total * spec.warmup_ratio),
            weight_decay=spec.weight_decay,
            seed=spec.seed,
            data_seed=spec.seed,
            bf16=chosen_precision(spec.precision) == "bf16",
            use_cpu=device() == "cpu",
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
            dataloader_pin_memory=device() == "cuda",
        ),
        train_dataset=[{"input_ids": r.ids, "labels": r.labels} for r in rows],
        data_collator=collator(tokenizer),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bare_trainer")
    parser.add_argument("--side", choices=("ours", "bare"), required=True)
    parser.add_argument("--spec", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    prepare_environment()
    spec = TrainSpec.model_validate_json(arguments.spec.read_text())
    arguments.output.mkdir(parents=True, exist_ok=True)
    job = ProgramRun(arguments.output)
    import torch

    prepare_torch()
    tokenizer = load_tokenizer(Path(spec.base))
    encoder = Encoder(tokenizer, spec.prompt)
    rows = [encoder.row(r, spec.max_length) for r in load_split(Path(spec.data), "train")]
    seed_everything(spec.seed)
    on_gpu = device() == "cuda"
    base = load_weights(Path(spec.base), "the base model", torch.bfloat16 if on_gpu else torch.float32)
    model = Lora().prepare(base, spec)
    work = {"ours": fit, "bare": bare}[arguments.side]
    began = time.perf_counter()
    work(model, rows, tokenizer, spec, job)
    seconds = time.perf_counter() - began
    # One epoch sees each row once on either side, so both train on the same tokens by construction.
    print(json.dumps({"tokens": sum(len(r.ids) for r in rows), "seconds": seconds}))


if __name__ == "__main__":
    main()
