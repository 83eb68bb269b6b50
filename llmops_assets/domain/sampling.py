"""The sampling defaults of a release: how its engine chooses tokens when a client says nothing.

Part of the release, so that what is served is what was measured. `llmops_assets.programs.engines` applies them.
"""

from pydantic import Field

from llmops_assets.domain.models import Strict


class Sampling(Strict):
    """How the endpoint samples if the client sets nothing; each value that a client sends wins over these.

    Part of the release: a change makes a new one. The served evaluation asks with them.
    """

    temperature: float = Field(
        default=0.0, ge=0, le=2, description="0: always the most probable token, so that equal requests get one answer."
    )
    top_p: float = Field(default=1.0, gt=0, le=1, description="Only the most probable tokens of this total share.")
    top_k: int = Field(default=0, ge=0, description="Only this many most probable tokens; 0: all.")
    min_p: float = Field(
        default=0.0, ge=0, le=1, description="Only tokens at least this probable, relative to the most probable one."
    )
    repetition_penalty: float = Field(
        default=1.0, gt=0, le=10, description="Above 1, tokens of the last 64 become less probable."
    )
    seed: int | None = Field(
        default=None, ge=0, lt=2**32 - 1, description="Seed of each answer; absent: a new one for each request."
    )
    stop: tuple[str, ...] = Field(
        default=(), max_length=16, description="Texts that end an answer; they are not part of it."
    )
    max_tokens: int | None = Field(
        default=None,
        ge=1,
        description="Tokens of an answer, also in the served evaluation; absent: until it ends or the context is full.",
    )
