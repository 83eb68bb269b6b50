"""The settings of programs: where they run, their limits, and how a project's own code runs."""

from typing import Annotated, Literal

from pydantic import Field

from llmops_assets import catalog
from llmops_assets.config.part_names import NameOf
from llmops_assets.domain.models import Strict
from llmops_assets.domain.rollout import Duration

CI_STEPS = 15
"""Tools that the CI stage runs one after another, at most: its own, and ten commands of the project."""


class TimeLimits(Strict):
    """How long a program may run. Then it is ended with everything that it has started, and the request fails."""

    dataset_version: Duration = Field(default=6 * 3600.0, gt=0, description="Checking the data: 6h.")
    container_image: Duration = Field(default=2 * 3600.0, gt=0, description="Building and scanning an image: 2h.")
    fine_tuned_checkpoint: Duration = Field(default=7 * 86400.0, gt=0, description="Training: 7d.")
    evaluation_report: Duration = Field(default=86400.0, gt=0, description="Evaluation of the checkpoint: 24h.")
    quantized_artifact: Duration = Field(default=43200.0, gt=0, description="Merge and quantization: 12h.")
    served_evaluation_report: Duration = Field(default=86400.0, gt=0, description="Evaluation as served: 24h.")


class ComputeSettings(Strict):
    backend: Annotated[str, NameOf(catalog.COMPUTE)] = Field(default="local", description="Where programs run.")
    threads: int | None = Field(default=None, ge=1, description="CPU threads of one program; None: all cores.")
    llama_cpp: str | None = Field(default=None, description="A llama.cpp checkout, to convert more architectures.")
    checkpoint_every: float = Field(default=15.0, gt=0, description="Seconds between resumable training checkpoints.")
    ci_timeout: float = Field(
        default=900.0,
        gt=0,
        description="Time limit of each tool of the CI stage, such as the project's tests, in s.",
    )
    project_environments: bool = Field(
        default=True,
        description="Build an environment for a project's tests from its uv.lock, or its requirements.txt with hashes: "
        "from wheels only, by uv, with the index of this machine. Otherwise they run in our own. Local profile only.",
    )
    isolation: Literal["auto", "required", "off"] = Field(
        default="auto",
        description="Whether a project's own code (its tests and metrics) runs under bubblewrap, with its own "
        "namespaces, a read-only system and no network. auto: if bubblewrap works; CI reports and `llmops check` say "
        "when it does not. required: otherwise it does not run. off: never. In a pod, the pod isolates it.",
    )
    project_memory: float = Field(default=4.0, gt=0, description="Memory of a project's own code in GiB.")
    project_processes: int = Field(default=512, ge=1, description="Processes of a project's own code at once.")
    metric_timeout: float = Field(default=600.0, gt=0, description="Time limit of a project's own metric in seconds.")
    time_limits: TimeLimits = Field(default=TimeLimits(), description="Time limit of each stage's program.")
    price_per_hour: dict[str, Annotated[float, Field(ge=0)]] = Field(
        default_factory=dict,
        description="What an hour of a machine costs, by hardware class: {cpu-16: 0.8}. Reports show what the stages "
        "of a commit cost, and name a class without a price.",
    )
    currency: str = Field(default="USD", min_length=1, max_length=8, description="Of `price_per_hour`, as text.")
    preload: bool = Field(
        default=True,
        description="Import the libraries of programs once, in a process that each program is forked from: about five "
        "CPU seconds less per program, for 250 MB of memory until 15 minutes after the last one. Local profile only.",
    )

    def time_limit(self, stage: str) -> float | None:
        """The time limit in seconds of a stage's program; None: it has none."""
        if stage == "ci_report":
            return CI_STEPS * self.ci_timeout + 300  # and the copy of the tree
        limit: float | None = getattr(self.time_limits, stage, None)
        return limit
