"""The schema of the smoke tests: questions that staging and a rollout's candidate must answer."""

from pydantic import Field, field_validator

from llmops_assets.config.yaml_validation import validate_yaml
from llmops_assets.domain.models import Strict
from llmops_assets.domain.patterns import compiled
from llmops_assets.domain.rollout import Duration


class Expectation(Strict):
    status: int = Field(default=200, description="HTTP status of the answer.")
    contains: str | None = Field(default=None, description="Text that the answer must contain.")
    matches: str | None = Field(
        default=None,
        description="Regular expression in Python's syntax, searched in the answer; no lookarounds, no backreferences.",
    )
    does_not_match: str | None = Field(
        default=None, description="Regular expression that must not be found in the answer; syntax as in `matches`."
    )
    max_latency: Duration | None = Field(default=None, description="For example 5s.")

    @field_validator("matches", "does_not_match")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            compiled(pattern)
        return pattern


class SmokeTest(Strict):
    name: str = Field(description="What the test shows.")
    input: str = Field(description="The user's input, without the prompt.")
    expect: Expectation = Field(default=Expectation(), description="The expected answer.")


class SmokeTests(Strict):
    """The file that deployment.smoke_tests names: a list, or a mapping with `tests`."""

    tests: tuple[SmokeTest, ...] = Field(min_length=1)


def parse_smoke_tests(text: str, where: str) -> SmokeTests:
    """The smoke tests from their YAML.

    Raises:
        ConfigError: as `parse_config`.
    """
    return validate_yaml(SmokeTests, text, where, wrap="tests")
