"""Settings of the LLMs that judge answers. They are the operator's: a commit names one, but no address and no key."""

from typing import Any

from pydantic import Field, field_validator

from llmops_assets.config.secrets import FromEnvironment, refuse_credentials
from llmops_assets.domain.judging import PROMPT_VERSION
from llmops_assets.domain.models import Strict

Parameter = bool | int | float | str | None


class Judge(Strict):
    """An OpenAI-compatible chat endpoint that `{metric: llm_judge, judge: NAME}` asks."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]{0,62}$", description="Its name in llmops.yaml.")
    base_url: str = Field(
        pattern=r"^https?://[^\s/?#]+[^\s?#]*$",
        description="Address below which /chat/completions is, such as https://api.openai.com/v1.",
    )
    model: str = Field(min_length=1, max_length=200, description="The model's name at the endpoint.")
    api_key: FromEnvironment | None = Field(
        default=None, description="{env: NAME}, the variable that holds its API key. Absent: it needs none."
    )
    timeout: float = Field(default=120.0, gt=0, le=3600, description="Seconds that one answer may take.")
    retries: int = Field(
        default=3,
        ge=0,
        le=10,
        description="Further attempts after a time-out, a lost connection, or the answers 408, 429 and 5xx.",
    )
    parallel: int = Field(default=4, ge=1, le=64, description="Requests at once.")
    constrained: bool = Field(
        default=False,
        description="Ask for JSON under a schema by `response_format`, as OpenAI, vLLM and llama.cpp do: the judge "
        "cannot answer without a verdict, nor give its reasons before.",
    )
    parameters: dict[str, Parameter] = Field(
        default_factory=dict,
        description="Parameters of the request. Sent anyway: temperature 0, seed 0, max_tokens 1024; null leaves one "
        "out.",
    )

    @field_validator("base_url")
    @classmethod
    def _holds_no_key(cls, value: str) -> str:
        refuse_credentials(value, "leave it out, and put it into the environment: api_key: {env: NAME}")
        return value.rstrip("/")

    @field_validator("api_key", mode="before")
    @classmethod
    def _is_no_key(cls, value: Any) -> Any:
        if isinstance(value, str):  # without this, the message would quote the key
            raise ValueError("a key never belongs here; put it into the environment and name the variable: {env: NAME}")
        return value

    @property
    def identity(self) -> dict[str, Any]:
        """What of it changes its verdicts: part of the key of what it measures. Its address does not."""
        return {
            "model": self.model,
            "prompt": PROMPT_VERSION,
            "constrained": self.constrained,
            "parameters": self.parameters,
        }
