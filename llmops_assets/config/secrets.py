"""Values that stand in the environment, not in the settings file."""

import os
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Discriminator, Field, Tag

from llmops_assets.config.yaml_validation import ConfigError
from llmops_assets.domain.models import Strict


class FromEnvironment(Strict):
    """A value that holds a secret: only the variable's name is ever written, shown or handed on."""

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
"""A URL, or where in the environment it stands."""


def _read(value: FromEnvironment | str | None) -> str | None:
    return value.read() if isinstance(value, FromEnvironment) else value


def _has_password(url: str) -> bool:
    try:
        return bool(urlsplit(url).password)
    except ValueError:
        return False  # no URL: what it is for will say so
