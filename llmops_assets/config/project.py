"""The schema of `llmops.yaml`; its errors name file, line, key and remedy.

Reading the file from Git belongs in `resources.project_source`; which keys a stage reads, in
`llmops_assets.domain.chain`.
"""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)

from llmops_assets import catalog
from llmops_assets.config.ci import Ci
from llmops_assets.config.deployment import Deployment
from llmops_assets.config.documents import CONFIG_BYTES, DocumentError, read_text
from llmops_assets.config.evaluation import Evaluation
from llmops_assets.config.image import Image
from llmops_assets.config.metrics import SERVED, name_of, part_of
from llmops_assets.config.part_names import NameOf, SchemeName
from llmops_assets.config.project_paths import ProjectPath
from llmops_assets.config.training import Training
from llmops_assets.config.yaml_validation import ConfigError, validate_yaml
from llmops_assets.domain.budget import Budget
from llmops_assets.domain.gate_rule import Gate
from llmops_assets.domain.models import Strict, WrongAt
from llmops_assets.domain.must_pass import MustPassPolicy
from llmops_assets.domain.policy import CiPolicy, Policy
from llmops_assets.domain.rollout import Share
from llmops_assets.domain.served_figures import SERVED_FIGURES, misfit

CONFIG_FILE = "llmops.yaml"


class BaseModelPath(Strict):
    """A folder of the project, tracked by DVC."""

    path: ProjectPath = Field(description="A folder of the project with config.json, safetensors and a tokenizer.")


class BaseModelHub(Strict):
    """A model on the Hugging Face hub, at one commit."""

    hub: str = Field(pattern=r"^[\w.-]+/[\w.-]+$", description="org/name on the Hugging Face hub.")
    revision: str = Field(pattern=r"^[0-9a-f]{40}$", description="Commit SHA. No branch: its content can change.")


def _kind_of_base(value: Any) -> str:
    """The model to validate against, so that errors are about this one only."""
    is_hub = isinstance(value, BaseModelHub) or (isinstance(value, dict) and {"hub", "revision"} & set(value))
    return "BaseModelHub" if is_hub else "BaseModelPath"


class Model(Strict):
    base: Annotated[
        Annotated[BaseModelPath, Tag("BaseModelPath")] | Annotated[BaseModelHub, Tag("BaseModelHub")],
        Discriminator(_kind_of_base),
    ] = Field(description="A folder of the project, or a commit on the Hugging Face hub.")
    license: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9][a-z0-9.+-]*$",
        max_length=100,
        description="Licence of the trained model, for its model card: an identifier of the Hugging Face hub such as "
        "apache-2.0.",
    )


class Data(Strict):
    test: ProjectPath = Field(description="Held-out rows (.jsonl or .parquet), DVC-tracked.")
    train: ProjectPath | None = Field(default=None, description="Training rows; not needed with training.method none.")
    validation: ProjectPath | None = Field(default=None, description="Absent: a seeded share of train.")
    validation_share: Share = Field(default=0.05, description="Share of train that is held out for validation.")
    seed: int = Field(default=7, description="Seed of the validation split.")


class Quantization(Strict):
    backend: Annotated[str, NameOf(catalog.QUANTIZATION_BACKENDS)] = Field(
        default="gguf", description="Backend that writes the file that the engine loads."
    )
    scheme: Annotated[str, SchemeName()] = Field(
        default="q8_0", description="Precision of the weights, a name of the backend: 8 or 16 bits per weight."
    )

    @field_validator("scheme")
    @classmethod
    def _of_the_backend(cls, scheme: str, info: ValidationInfo) -> str:
        backend = info.data.get("backend")
        if backend is not None and scheme not in (known := catalog.QUANTIZATION_BACKENDS[backend].schemes):
            raise ValueError(f"{backend} has no scheme {scheme!r} (known: {', '.join(known)})")
        return scheme


class ProjectConfig(Strict):
    """`llmops.yaml`. Only name, model and data.test are required."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]{0,62}$", description="The project's name, as in the settings.")
    model: Model = Field(description="The base model, which is trained, or served without training.")
    data: Data = Field(description="Rows of {input, output} or {messages}.")
    prompt: ProjectPath | None = Field(default=None, description="Template of the user turn; absent: the input only.")
    training: Training = Field(default=Training(), description="How the base model is trained.")
    evaluation: Evaluation = Field(default=Evaluation(), description="What is measured, and on how many rows.")
    gates: tuple[Gate, ...] = Field(default=(), description="Conditions for a model to proceed.")
    quantization: Quantization = Field(default=Quantization(), description="How the trained model is quantized.")
    deployment: Deployment = Field(default=Deployment(), description="How it is served, tested and rolled out.")
    ci: Ci = Field(default=Ci(), description="Checks of the project's own code.")
    image: Image = Field(default=Image(), description="The project's container image, if it has a Dockerfile.")
    budget: Budget = Field(default=Budget(), description="What computing may cost; a run over it waits for a person.")
    on_newer: Literal["wait", "cancel"] = Field(
        default="wait",
        description="What happens if an older commit's run is in progress: wait until it ends, or cancel it and start "
        "at once.",
    )

    @model_validator(mode="after")
    def _holds_together(self) -> "ProjectConfig":
        if catalog.TRAINING_METHODS[self.training.method].trains and self.data.train is None:
            raise WrongAt("is missing; name the training rows, or set training.method: none", "data", "train")
        engine = catalog.ENGINES[self.deployment.engine]
        backend = catalog.QUANTIZATION_BACKENDS[self.quantization.backend]
        if backend.format not in engine.formats:
            raise WrongAt(
                f"deployment.engine {engine.name} loads {', '.join(engine.formats)}, and quantization.backend "
                f"{backend.name} writes {backend.format}; choose two that match",
                "quantization" if "quantization" in self.model_fields_set else "deployment",
            )
        names = self.evaluation.names
        of_champion = {name_of(m) for m in self.evaluation.metrics if (part := part_of(m)) and part.reads == "champion"}
        kept = self.evaluation.must_pass
        if kept is not None and kept.metric in of_champion:
            told = f"{kept.metric} compares with the champion's answers, so it has no value of a row; name another one"
            raise WrongAt(told, "evaluation", "must_pass", "metric")
        of_model = {name_of(m) for m in self.evaluation.metrics if (part := part_of(m)) and not part.as_served}
        for number, gate in enumerate(self.gates):
            if gate.metric in SERVED_FIGURES and gate.metric not in names:
                if wrong := misfit(gate):
                    raise WrongAt(wrong[1], "gates", number, wrong[0])
                continue
            if gate.metric not in names:
                figures = tuple(SERVED_FIGURES) if gate.of == "served" else ()
                close = difflib.get_close_matches(gate.metric, [*names, *figures], n=1)
                hint = f"did you mean {close[0]!r}? " if close else ""
                also = f"; of the served model also {', '.join(figures)}" if figures else ""
                raise WrongAt(
                    f"{hint}evaluation.metrics does not measure {gate.metric!r} (measured: {', '.join(names)}{also}); "
                    "add it there or change the gate",
                    "gates",
                    number,
                    "metric",
                )
            if gate.metric in of_champion and (gate.no_worse_than or gate.per):
                raise WrongAt(
                    f"{gate.metric} compares with the champion's answers already; write at_least: 0.5, or less to "
                    "tolerate a loss",
                    "gates",
                    number,
                    "no_worse_than" if gate.no_worse_than else "per",
                )
            if gate.of == "served" and gate.metric in of_model:
                raise WrongAt(
                    f"{gate.metric} is measured before quantization only; leave it out", "gates", number, "of"
                )
        return self

    @property
    def parts(self) -> tuple[catalog.Part, ...]:
        """The parts of the catalog that this project uses."""
        metrics = (part for m in self.evaluation.metrics if (part := part_of(m)) is not None)
        return (
            catalog.TRAINING_METHODS[self.training.method],
            *metrics,
            catalog.QUANTIZATION_BACKENDS[self.quantization.backend],
            catalog.ENGINES[self.deployment.engine],
        )

    def policy(self, test_rows: str, evaluation: dict[str, Any], smoke_tests: Sequence[dict[str, Any]]) -> Policy:
        """The policy that it states, with the resolved parts of the revision."""
        return Policy(
            gates=self.gates,
            approval=self.deployment.approval,
            review=self.deployment.review,
            rollout=self.deployment.rollout,
            budget=self.budget,
            smoke_tests=tuple(smoke_tests),
            test_rows=test_rows,
            evaluation=evaluation,
            must_pass=MustPassPolicy(rule=kept.rule, file=kept.file, version=str(evaluation.get("must_pass")))
            if (kept := self.evaluation.must_pass)
            else None,
            ci=CiPolicy(
                ruff=self.ci.ruff,
                tests=self.ci.tests is not False,
                tests_required=self.ci.tests == "required",
                secrets=self.ci.secrets,
                types=self.ci.types,
                licences=self.ci.licences.model_dump(mode="json") if self.ci.licences else None,
                commands=tuple(c.model_dump(mode="json") for c in self.ci.commands),
                ignore=self.ci.ignore,
            ),
            image=self.image.policy,
        )

    @property
    def training_prompt(self) -> str | None:
        return self.training.prompt or self.prompt


def load_config(file: Path) -> ProjectConfig:
    """The configuration in a file on disk.

    Raises:
        ConfigError: as `parse_config`, or the file cannot be read.
    """
    try:
        return parse_config(read_text(file, CONFIG_BYTES), str(file))
    except DocumentError as error:
        raise ConfigError([f"{file}: {error}"]) from error


def parse_config(text: str, where: str = CONFIG_FILE, served: bool = False) -> ProjectConfig:
    """A project's configuration from its YAML; of a served release, metrics that have since been renamed are accepted.

    Raises:
        ConfigError: every problem, each with file, line, key and remedy.
    """
    return validate_yaml(ProjectConfig, text, where, context=SERVED if served else None)
