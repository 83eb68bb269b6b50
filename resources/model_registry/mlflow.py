"""The model folder that MLflow's registry points at. Runs and aliases belong in `resources.tracking`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_mlflow_model(
    folder: Path,
    *,
    base: Path,
    checkpoint: Path,
    method: str,
    architecture: str,
    tokenizer_class: str,
    run_id: str,
    metadata: Mapping[str, Any],
) -> None:
    """An MLflow model of a few files that points at the weights in the store instead of copying them.

    `local_base_model_path` and `peft_adaptor` are mlflow.transformers' own keys (MLflow 3, PEFT with a local base);
    both hold absolute paths, so `mlflow.transformers.load_model` reads the store's folders in place.
    """
    import shutil

    from mlflow.models import Model

    tokenizer = folder / "components" / "tokenizer"
    tokenizer.mkdir(parents=True)
    weights = base if method == "none" else checkpoint
    for path in checkpoint.iterdir():
        if path.is_file() and path.suffix in (".json", ".jinja", ".txt", ".model") and "adapter" not in path.name:
            shutil.copyfile(path, tokenizer / path.name)
    flavor: dict[str, Any] = {
        "task": "text-generation",
        "instance_type": "TextGenerationPipeline",
        "pipeline_model_type": architecture,
        "source_model_name": metadata.get("base", ""),
        "local_base_model_path": str(base if method == "lora" else weights),
        "components": ["tokenizer"],
        "tokenizer_type": tokenizer_class,
        "torch_dtype": "torch.bfloat16",
        "framework": "pt",
        "transformers_version": "5",
    }
    if method == "lora":
        flavor["peft_adaptor"] = str(checkpoint)
    model = Model(run_id=run_id or None, flavors={"transformers": flavor}, metadata=dict(metadata))
    model.save(str(folder / "MLmodel"))


REGISTERED = (
    "Checkpoints that passed their gates, a version each. The alias champion is on what production serves. The weights "
    "lie in the artifact store; a version points at them."
)
