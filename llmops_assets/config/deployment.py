"""The key `deployment` of `llmops.yaml`: how a model is served, tested and rolled out."""

from typing import Annotated

from pydantic import (
    Field,
    model_validator,
)

from llmops_assets import catalog
from llmops_assets.config.part_names import NameOf
from llmops_assets.config.project_paths import ProjectPath
from llmops_assets.domain.approval import Approval
from llmops_assets.domain.models import Strict
from llmops_assets.domain.report_review import Review
from llmops_assets.domain.rollout import RolloutPolicy
from llmops_assets.domain.sampling import Sampling


class ServingOptions(Strict):
    """Options of the engine. They are part of the release: a change makes a new release."""

    parallel: int = Field(default=8, ge=1, le=256, description="Requests answered at once.")
    context_length: int | None = Field(default=None, ge=64, description="Tokens per request; None: up to 2048.")
    max_tokens: int | None = Field(
        default=None,
        ge=1,
        description="Maximum tokens of an answer if the client sets none; None: until it ends or the context is full. "
        "The served evaluation ignores it, unlike sampling.max_tokens.",
    )


class Deployment(Strict):
    engine: Annotated[str, NameOf(catalog.ENGINES)] = Field(
        default="llama.cpp", description="The server behind the endpoint."
    )
    serving: ServingOptions = Field(default=ServingOptions(), description="Options of the engine.")
    sampling: Sampling = Field(
        default=Sampling(), description="How answers are sampled if the client says nothing: greedy by default."
    )
    smoke_tests: ProjectPath | None = Field(default=None, description="File with a list of {name, input, expect}.")
    approval: Approval = Field(default=Approval(), description="Who must approve a release before production.")
    review: Review = Field(
        default=Review(), description="Who must accept an evaluation report before its model is registered."
    )
    rollout: RolloutPolicy = Field(default=RolloutPolicy(), description="How traffic moves to a new release.")

    @model_validator(mode="after")
    def _one_length(self) -> "Deployment":
        limits = (self.sampling.max_tokens, self.serving.max_tokens)
        if None not in limits and limits[0] != limits[1]:
            raise ValueError(
                f"sampling.max_tokens is {limits[0]} and serving.max_tokens {limits[1]}; keep sampling.max_tokens only"
            )
        return self
