"""The section `ci` of `llmops.yaml`: which checks run on a project's code, and on what."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator

from llmops_assets.config.ignore_patterns import check_pattern
from llmops_assets.config.project_paths import ProjectPath
from llmops_assets.domain.licences import LicenceName, PackageName
from llmops_assets.domain.models import Strict

CI_CHECKS = (
    *("configuration", "prompt", "smoke_tests", "isolation", "environment"),
    *("ruff", "secrets", "types", "tests", "licences", "kubernetes", "module"),
)
"""Names that no command of a project may have: those of the checks."""


def _is_no_check(name: str) -> str:
    if name in CI_CHECKS:
        raise ValueError(f"{name} is a check of its own; name the command differently")
    return name


class CiCommand(Strict):
    """A tool of the project. It runs like the tests: in a copy of the project, isolated, without network."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,39}$"), AfterValidator(_is_no_check)] = Field(
        description="Name of the check."
    )
    run: tuple[Annotated[str, Field(min_length=1, max_length=4000)], ...] = Field(
        min_length=1,
        max_length=100,
        description="The command as a list of words, run at the root of the project; no shell.",
    )
    sarif: ProjectPath | None = Field(
        default=None, description="A SARIF 2.1.0 file that it writes; a result of level error fails the check."
    )
    junit: ProjectPath | None = Field(
        default=None, description="A JUnit file that it writes; a test that failed fails the check."
    )


class Licences(Strict):
    """Which licences the base model and the packages in the project's lock may have."""

    allow: tuple[LicenceName, ...] = Field(
        min_length=1,
        max_length=200,
        description="Names of SPDX, such as Apache-2.0, or those of model.license. Of `A OR B` one must be among them, "
        "of `A AND B` both.",
    )
    packages: dict[PackageName, str] = Field(
        default_factory=dict,
        description="Package -> its licence, where its metadata do not state it: {some-package: MIT}.",
    )


class Ci(Strict):
    ignore: tuple[Annotated[str, AfterValidator(check_pattern)], ...] = Field(
        default=("docs/**", "*.md", "LICENSE"),
        description="Files that no check reads, as patterns of .gitignore: `*.md` in any folder, `/notes.txt` at the "
        "root, `docs/**` all below docs, `!docs/api.md` includes a file again; the last match decides.",
    )
    ruff: bool = Field(default=True, description="Lint the project's Python.")
    tests: bool | Literal["required"] = Field(
        default=True,
        description="Run the project's pytest. true: a project without tests passes with a warning. required: it "
        "fails. At least one test must pass, and pytest must come to its own end.",
    )
    types: bool = Field(
        default=True, description="Run mypy or pyright, if the project configures it and its environment has it."
    )
    commands: tuple[CiCommand, ...] = Field(
        default=(), max_length=10, description="Further tools of the project. An exit code other than 0 fails."
    )

    @field_validator("commands")
    @classmethod
    def _commands_differ(cls, commands: tuple[CiCommand, ...]) -> tuple[CiCommand, ...]:
        names = [c.name for c in commands]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"{', '.join(twice)} is listed twice; name each command differently")
        return commands

    licences: Licences | None = Field(
        default=None,
        description="Check the licences of the base model and of the locked packages. An unknown one is not allowed. "
        "None: not checked.",
    )
    secrets: bool = Field(
        default=True,
        description="Scan for secrets with detect-secrets: in the files that differ from those of the release in "
        "production, or in all. A file `.secrets.baseline`, and `pragma: allowlist secret` in a line, allow what is "
        "none.",
    )
