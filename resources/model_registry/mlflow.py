"""MLflow's model registry, and the model folder that a version references. Runs belong in `resources.tracking`."""

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version as version_of
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

REQUIREMENTS = ("mlflow", "torch", "transformers", "peft", "accelerate")
"""What loading a version needs."""


def how_to_load(name: str, base: Path, checkpoint: Path, uris: Sequence[str] = ()) -> str:
    """How to load a version, for its description, in Markdown.

    Args:
        uris: where the weights are, if the folders are only a cache of them.
    """
    places = f"`{base}` and `{checkpoint}`"
    where = (
        f"on a machine with the artifact store's folders {places}"
        if not uris
        else f"on the machine that registered it, where {places} are cached. Elsewhere, download "
        f"{' and '.join(f'`{uri}`' for uri in uris)}, and load them with transformers and peft"
    )
    return (
        "This version references its weights. Load it with\n\n"
        f'    mlflow.pyfunc.load_model("models:/{name}@champion").predict(\n'
        '        {"messages": [{"role": "user", "content": "..."}], "max_tokens": 32})\n\n'
        f"{where}. The content is the whole rendered prompt: the serving prompt belongs to a release, not to a "
        "checkpoint. For answers as users get them, ask the production endpoint (`llmops endpoints`)."
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
    both hold absolute paths, so `mlflow.transformers.load_model` reads the store's folders in place. So does
    `mlflow.pyfunc.load_model`, which takes and returns what an OpenAI-compatible chat endpoint does.
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
        "inference_task": "llm/v1/chat",
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
    function = {"loader_module": "mlflow.transformers", "python_version": platform.python_version()}
    flavors = {"transformers": flavor, "python_function": function}
    model = Model(run_id=run_id or None, flavors=flavors, metadata=dict(metadata))
    (folder / "requirements.txt").write_text("".join(f"{name}=={version_of(name)}\n" for name in REQUIREMENTS))
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

    def tags(self, name: str, version: int) -> dict[str, str]:
        return dict(self.server.client.get_model_version(name, str(version)).tags)

    def tag(self, name: str, version: int, tags: Mapping[str, str]) -> None:
        for key, value in tags.items():
            self.server.client.set_model_version_tag(name, str(version), key, value)

    def model_url(self, name: str, version: int) -> str | None:
        ui = self.server.ui
        return f"{ui}/#/models/{name}/versions/{version}{VIEW}" if ui else None
