"""MLflow's model registry, and the model folder that a version references. Runs belong in `resources.tracking`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmops_assets.catalog import TRAINING_METHODS
from llmops_assets.config.settings import Settings
from resources.model_registry.interface import CHECKPOINT_TAG
from resources.tracking.mlflow_server import VIEW, MlflowServer

REGISTERED = (
    "Checkpoints that passed their gates, one version each. Production serves the version with the alias champion. The "
    "weights are stored in the artifact store; a version references them."
)


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
    """Writes an MLflow model of a few files that references the weights in the store instead of copying them.

    `local_base_model_path` and `peft_adaptor` are mlflow.transformers' own keys (MLflow 3, PEFT with a local base);
    both hold absolute paths, so `mlflow.transformers.load_model` reads the store's folders in place.
    """
    import shutil

    from mlflow.models import Model

    tokenizer = folder / "components" / "tokenizer"
    tokenizer.mkdir(parents=True)
    part = TRAINING_METHODS[method]
    weights = checkpoint if part.trains else base
    for path in checkpoint.iterdir():
        if path.is_file() and path.suffix in (".json", ".jinja", ".txt", ".model") and "adapter" not in path.name:
            shutil.copyfile(path, tokenizer / path.name)
    flavor: dict[str, Any] = {
        "task": "text-generation",
        "instance_type": "TextGenerationPipeline",
        "pipeline_model_type": architecture,
        "source_model_name": metadata.get("base", ""),
        "local_base_model_path": str(base if part.adapter else weights),
        "components": ["tokenizer"],
        "tokenizer_type": tokenizer_class,
        "torch_dtype": "torch.bfloat16",
        "framework": "pt",
        "transformers_version": "5",
    }
    if part.adapter:
        flavor["peft_adaptor"] = str(checkpoint)
    model = Model(run_id=run_id or None, flavors={"transformers": flavor}, metadata=dict(metadata))
    model.save(str(folder / "MLmodel"))


class MlflowRegistry:
    """A `ModelRegistry` on MLflow. The constructor does no I/O."""

    def __init__(self, server: MlflowServer):
        self.server = server

    @classmethod
    def from_settings(cls, settings: Settings) -> "MlflowRegistry":
        return cls(MlflowServer(settings.mlflow_uri, lambda: settings.ui("mlflow")))

    def register(self, name: str, source: str, run_id: str | None, tags: Mapping[str, str], note: str = "") -> int:
        from mlflow.exceptions import MlflowException

        try:
            self.server.client.create_registered_model(name, description=REGISTERED)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        for version in self.server.client.search_model_versions(f"name = '{name}'"):
            if version.tags.get(CHECKPOINT_TAG) == tags[CHECKPOINT_TAG]:
                return int(version.version)
        made = self.server.client.create_model_version(
            name, source, run_id=run_id or None, tags=dict(tags), description=note or None
        )
        return int(made.version)

    def set_alias(self, name: str, alias: str, version: int) -> None:
        self.server.client.set_registered_model_alias(name, alias, str(version))

    def model_url(self, name: str, version: int) -> str | None:
        ui = self.server.ui
        return f"{ui}/#/models/{name}/versions/{version}{VIEW}" if ui else None
