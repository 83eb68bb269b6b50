"""LoRA: low-rank adapters on a frozen base model (Hu et al. 2021), by peft."""

from typing import Any

from llmops_assets.programs.runtime.errors import BadInput
from llmops_assets.programs.runtime.specs import TrainSpec


def with_lora(model: Any, spec: TrainSpec) -> Any:
    """The model with fresh adapters; the rest is frozen.

    Raises:
        BadInput: target_modules names nothing of this model.
    """
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
