"""The settings' `proposals`: commits that the location's bot makes when something outside of the repository has moved.

All of it is in the settings and not in llmops.yaml: the bot reads addresses and pushes commits with the location's
own credentials and network, so a commit must not be able to extend what it may do.
"""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from llmops_assets.domain.formatting import quoted
from llmops_assets.domain.models import Strict, WrongAt
from llmops_assets.domain.rollout import Duration
from llmops_assets.domain.upstreams import upstream_of


def _is_an_address(value: str) -> str:
    found = upstream_of(value)
    if found.scheme == "file" and not found.parts:
        raise ValueError("it allows every file of this machine; name a folder")
    return value


UpstreamAddress = Annotated[str, Field(min_length=1, max_length=2000), AfterValidator(_is_an_address)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]{0,127}$")]


class Bot(Strict):
    """Author and committer of the proposals. As an author it can never approve them."""

    name: str = Field(default="llmops-bot", min_length=1, max_length=100, description="Its name in commits.")
    email: str = Field(
        default="llmops-bot@localhost", description="Its e-mail address in commits; no person and no approver has it."
    )

    @field_validator("name", "email")
    @classmethod
    def _fits_a_commit(cls, value: str) -> str:
        if not value.isprintable() or any(sign in value for sign in "<>"):
            raise ValueError(f"{quoted(value)} has < or > or a control character, which Git does not allow")
        return value

    @field_validator("email")
    @classmethod
    def _is_an_email(cls, value: str) -> str:
        name, at, host = value.partition("@")
        if not name or not at or not host or "@" in host or " " in value:
            raise ValueError(f"{quoted(value)} is no e-mail address")
        return value


class ImportProposals(Strict):
    """`dvc import` and `dvc import-url` whose upstream has moved."""

    upstreams: tuple[UpstreamAddress, ...] = Field(
        min_length=1,
        description="What the bot may read, with everything below: folders of this machine (/srv/exports), URLs "
        "(https://data.example.com/exports, s3://bucket/prefix) and Git repositories (git@host:team/data.git) with "
        "their DVC remotes. A .dvc file that names anything else is skipped with a reason.",
    )
    remote: UpstreamAddress = Field(
        description="Address of the project's DVC remote, to which the bot pushes the data. If .dvc/config of the "
        "branch names another one, nothing is pushed: it is written with the location's credentials."
    )


class PromptProposal(Strict):
    """A prompt of MLflow's prompt registry that is a template of the project."""

    name: Name = Field(description="Its name in MLflow.")
    alias: Name = Field(
        default="candidate", description="The alias whose move is proposed: prompts:/NAME@ALIAS in MLflow."
    )
    key: Literal["prompt", "training.prompt"] = Field(
        default="prompt", description="The key of llmops.yaml that names the template's file, which a proposal changes."
    )
    released: Name | None = Field(
        default="production",
        description="The alias that follows the release in production, after its gates and approval. If no version "
        "has the released text, one is registered. None: no alias is moved.",
    )

    @model_validator(mode="after")
    def _aliases_differ(self) -> Self:
        if self.alias == self.released:
            raise WrongAt(f"it is the alias whose move is proposed, {self.alias!r}; the two must differ", "released")
        return self


class ProposalSettings(Strict):
    """What the bot proposes, and where."""

    to: Literal["proposal_branch", "watched_branch"] = Field(
        default="proposal_branch",
        description="proposal_branch: a branch llmops/PROJECT/…, for a person to merge. watched_branch: the commit is "
        "pushed to the branch itself, and takes the ordinary chain with its gates and approval.",
    )
    every: Duration = Field(
        default=600.0,
        ge=1,
        description="Time between two looks at what may have moved: 10m.",
    )
    bot: Bot = Field(default=Bot(), description="The author of the commits.")
    imports: ImportProposals | None = Field(default=None, description="Imported data. None: not looked at.")
    prompts: tuple[PromptProposal, ...] = Field(default=(), max_length=20, description="Prompts of MLflow's registry.")

    @model_validator(mode="after")
    def _proposes_something(self) -> Self:
        if self.imports is None and not self.prompts:
            raise ValueError("it proposes nothing; add `imports` or `prompts`, or remove it")
        keys = [prompt.key for prompt in self.prompts]
        for number, key in enumerate(keys):
            if key in keys[:number]:
                raise WrongAt(f"another prompt writes {key!r} already; each key has one", "prompts", number, "key")
        return self
