"""The key `training` of `llmops.yaml`: how the base model is trained."""

from typing import Annotated, Literal

from pydantic import (
    Field,
)

from llmops_assets import catalog
from llmops_assets.config.part_names import NameOf
from llmops_assets.config.project_paths import ProjectPath
from llmops_assets.domain.models import Strict


class Lora(Strict):
    """Low-rank adaptation, Hu et al. 2021 (arXiv:2106.09685)."""

    r: int = Field(default=16, ge=1, description="Rank.")
    alpha: int = Field(default=32, ge=1, description="Scale; the update is multiplied by alpha / r.")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Share of activations dropped while training.")
    target_modules: str | tuple[str, ...] = Field(default="all-linear", description="As in peft.LoraConfig.")


class Training(Strict):
    method: Annotated[str, NameOf(catalog.TRAINING_METHODS)] = Field(
        default="lora", description="How the weights are trained; none: base model and prompt only."
    )
    prompt: ProjectPath | None = Field(
        default=None, description="Template used in training; absent: `prompt`, so that a change of `prompt` retrains."
    )
    lora: Lora = Field(default=Lora(), description="Used with method lora.")
    learning_rate: float = Field(default=2e-4, gt=0, description="Peak learning rate of AdamW.")
    schedule: Literal["linear", "cosine", "constant"] = Field(
        default="linear", description="Schedule of the learning rate after the warm-up."
    )
    warmup_ratio: float = Field(default=0.03, ge=0, lt=1, description="Share of the steps that warm up.")
    weight_decay: float = Field(default=0.0, ge=0, description="Weight decay of AdamW.")
    batch_size: int = Field(default=8, ge=1, description="Rows per step and device.")
    gradient_accumulation: int = Field(default=1, ge=1, description="Batches per optimizer step.")
    epochs: float = Field(default=1.0, gt=0, description="Passes over the training rows; max_steps overrides it.")
    max_steps: int | None = Field(default=None, ge=1, description="Optimizer steps.")
    max_length: int | None = Field(
        default=None,
        ge=8,
        description="Tokens per row, with prompt and chat template; longer rows are truncated. Absent: the model's "
        "context.",
    )
    max_truncated: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="Share of the training and validation rows that may be longer than max_length. If more are, the "
        "training is refused, and its message names the first of them.",
    )
    precision: Literal["auto", "bf16", "fp32"] = Field(
        default="auto",
        description="Precision in which the training computes. auto: bf16 where the device has instructions for it "
        "(GPUs since Ampere, CPUs with AVX512-BF16 or AMX), else fp32; the checkpoint says which it was. bf16 is "
        "emulated, several times slower, on other CPUs, and refused on other GPUs.",
    )
    seed: int = Field(default=7, description="Seed of order, initialization and dropout.")
