"""LoRA: low-rank adapters on a frozen base model (Hu et al. 2021), by peft."""

import json
from pathlib import Path
from typing import Any

from llmops_assets.programs.models.loading import check_weights, load_weights
from llmops_assets.programs.runtime.errors import BadInput
from llmops_assets.programs.runtime.specs import TrainSpec


class Lora:
    """A `TrainingMethod`; its checkpoint is the adapter only."""

    half_precision = True

    def prepare(self, model: Any, spec: TrainSpec) -> Any:
        """The model with new adapters; the other weights are frozen.

        Raises:
            BadInput: target_modules matches no module of the model.
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

    def round(self, model: Any, base: Path) -> None:
        """The adapter is saved as it was trained."""

    def save(self, model: Any, base: Path, artifact: Path) -> None:
        model.save_pretrained(artifact, safe_serialization=True)
        (artifact / "README.md").unlink(missing_ok=True)  # a model card that contains the base model's path
        file = artifact / "adapter_config.json"
        adapter = {**json.loads(file.read_text(encoding="utf-8")), "base_model_name_or_path": None}
        # peft keeps module names in sets, whose order differs between processes.
        adapter = {k: sorted(v, key=str) if isinstance(v, list) else v for k, v in adapter.items()}
        file.write_text(json.dumps(adapter, indent=2, sort_keys=True) + "\n", encoding="utf-8")

    def load(self, base: Path, checkpoint: Path, dtype: Any) -> Any:
        from peft import PeftModel

        model = load_weights(base, "the base model", dtype)
        check_weights(checkpoint, "the checkpoint")
        adapted = PeftModel.from_pretrained(model, str(checkpoint), local_files_only=True)
        return adapted.merge_and_unload()
