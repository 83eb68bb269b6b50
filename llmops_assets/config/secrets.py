"""Values that come from the environment, not from the settings file."""

import os
from typing import Annotated, ClassVar

from pydantic import Discriminator, Field, Tag

from llmops_assets.config.yaml_validation import ConfigError
from llmops_assets.domain.models import Strict
from llmops_assets.domain.redaction import carries_credentials


class FromEnvironment(Strict):
    """A secret value: only the name of its variable is written, shown or passed on."""

    hides_input: ClassVar[bool] = True
    """Errors do not show the value in its place: it may be the secret."""

    env: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="The environment variable that holds the value.")

    def read(self) -> str:
        """The value now.

        Raises:
            ConfigError: the variable is not set, or empty.
        """
        if value := os.environ.get(self.env):
            return value
        raise ConfigError([f"the environment variable {self.env}, which the settings name, is not set"])


Address = Annotated[
    Annotated[FromEnvironment, Tag("FromEnvironment")] | Annotated[str, Tag("str")],
    Discriminator(lambda value: "FromEnvironment" if isinstance(value, dict | FromEnvironment) else "str"),
]
"""A URL, or the environment variable that holds it."""


def read_address(value: FromEnvironment | str | None) -> str | None:
    """The address itself, or the value of its variable.

    Raises:
        ConfigError: the variable is not set.
    """
    return value.read() if isinstance(value, FromEnvironment) else value


def refuse_credentials(address: str, remedy: str) -> None:
    """Raises ValueError if an address contains a password or token. The message does not contain the address."""
    if carries_credentials(address):
        raise ValueError(f"it contains a password or token; {remedy}")
