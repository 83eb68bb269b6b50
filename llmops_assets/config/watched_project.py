"""The entry of one watched project in the settings. What its own repository says belongs in `config.project`."""

import re
from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from llmops_assets.config.code_host import CodeHostSettings, repository_on_host
from llmops_assets.config.notifications import NotificationTarget, refuse_same_names
from llmops_assets.config.project_paths import ProjectPath
from llmops_assets.config.proposals import ProposalSettings
from llmops_assets.config.secrets import Address, FromEnvironment, refuse_credentials
from llmops_assets.config.triggers import Drift, Schedule
from llmops_assets.config.webhooks import Secrets
from llmops_assets.config.yaml_validation import ConfigError
from llmops_assets.domain.branches import BranchRule, PullRequests
from llmops_assets.domain.models import Strict, WrongAt
from llmops_assets.domain.policy_floor import PolicyFloor
from llmops_assets.domain.rollout import Duration
from llmops_assets.machine.redaction import redacted

Owner = Annotated[str, Field(pattern=r"^(team:[\w-]+|[^@\s]+@[^@\s]+\.[^@\s]+)$")]
"""In Dagster's format: with any other, the whole location would not load."""


_HOSTED = re.compile(
    r"^(?:https://|ssh://)?(?:[^@/\s]+@)?(?P<host>github\.com|gitlab\.com|codeberg\.org)[:/](?P<path>[\w./-]+?)(?:\.git)?/?$"
)


class ProjectSource(Strict):
    """A watched project."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]{0,62}$", description="As in its llmops.yaml; prefix of its assets.")
    repository: Address = Field(
        description="URL or local path of the Git repository, or {env: NAME}. A URL in the settings has no password or "
        "token: Git's credential helper or a deploy key has it, or the variable's value."
    )
    branch: str = Field(default="main", description="The branch that is watched.")
    folder: ProjectPath | None = Field(
        default=None,
        description="The project's folder within the repository, such as models/support. All paths in its llmops.yaml "
        "are relative to it, and a change outside of it runs nothing. None: the repository's root.",
    )
    release_tags: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="Pattern of tags, such as v*: then only commits of the branch with such a tag are deployed, the "
        "one that was tagged last. None: every commit of the branch.",
    )
    branches: tuple[BranchRule, ...] = Field(
        default=(),
        description="Which other branches run, and how far. None of them is deployed. Those that no rule matches are "
        "left alone.",
    )
    pull_requests: PullRequests | None = Field(
        default=None,
        description="Whether pull requests of GitHub and merge requests of GitLab run. None of them is deployed. None: "
        "they do not.",
    )
    owners: tuple[Owner, ...] = Field(default=(), description="E-mail addresses or team:names, shown in Dagster.")
    web: str | None = Field(
        default=None,
        pattern=r"^https?://\S+$",
        description="Address of the repository's page, for links to WEB/commit/SHA. None: derived from `repository` on "
        "github.com, gitlab.com and codeberg.org, else no links.",
    )

    policy: PolicyFloor = Field(
        default=PolicyFloor(), description="Policy that this project's llmops.yaml can tighten, but not drop or loosen."
    )
    notifications: tuple[NotificationTarget, ...] = Field(
        default=(),
        description="Who is told about this project, in addition to the targets of all projects; one with the name of "
        "such a target replaces it.",
    )

    schedules: tuple[Schedule, ...] = Field(
        default=(),
        description="Times at which a stage of the newest released commit is made again, and judged again, without a "
        "push. Empty: none.",
    )
    data_max_age: Duration | None = Field(
        default=None,
        gt=0,
        description="Age at which the data counts as old: 30d. Then the sensor's ticks and one notification say so. "
        "None: never.",
    )
    drift: Drift | None = Field(
        default=None,
        description="When users' requests to production count as drifted. None: they are not compared.",
    )
    webhook_secrets: Secrets = Field(
        default=(),
        description="Secrets of this project's webhooks, each {env: NAME}, instead of those of all projects "
        "(`webhooks.secrets`): a delivery signed with one of them can wake this project only.",
    )
    code_host: CodeHostSettings | None = Field(
        default=None,
        description="Where this project's commits and pull requests are answered. None: nowhere.",
    )
    proposals: ProposalSettings | None = Field(
        default=None,
        description="What a bot proposes as commits: imported data whose upstream has moved, prompts of MLflow's "
        "registry whose alias has. None: nothing.",
    )

    @field_validator("notifications")
    @classmethod
    def _targets_differ(cls, value: tuple[NotificationTarget, ...]) -> tuple[NotificationTarget, ...]:
        return refuse_same_names(value)

    @model_validator(mode="after")
    def _can_be_answered(self) -> Self:
        if self.code_host is not None and isinstance(self.repository, str):
            try:
                repository_on_host(self.code_host, self.repository)
            except ConfigError as error:
                raise WrongAt(str(error), "code_host") from None
        return self

    @field_validator("repository", "web")
    @classmethod
    def _holds_no_credentials(cls, value: FromEnvironment | str | None) -> FromEnvironment | str | None:
        if isinstance(value, str):
            refuse_credentials(
                value,
                "leave it out and let Git's credential helper supply it, use a deploy key (git@host:path), or put the "
                "whole URL into the environment and name the variable: {env: NAME}",
            )
        return value

    @property
    def has_triggers(self) -> bool:
        """Whether anything other than a commit can lead to a run or a notice."""
        return bool(self.schedules or self.data_max_age or self.drift)

    @property
    def watches_more(self) -> bool:
        """Whether commits outside of the watched branch run."""
        pulls = self.pull_requests is not None and self.pull_requests.run != "nothing"
        return pulls or any(rule.run != "nothing" for rule in self.branches)

    @property
    def address(self) -> str:
        """The repository's URL or path, with its credentials if it comes from the environment: never show or store it.

        Raises:
            ConfigError: the variable is not set.
        """
        return self.repository.read() if isinstance(self.repository, FromEnvironment) else self.repository

    @property
    def shown(self) -> str:
        """The repository for messages and pages."""
        try:
            return redacted(self.address)
        except ConfigError:
            return f"{{env: {self.repository.env}}}" if isinstance(self.repository, FromEnvironment) else ""

    @property
    def group(self) -> str:
        """The name as Dagster allows it in groups, pools and job names."""
        return self.name.replace("-", "_")

    def commit_page(self, revision: str) -> str | None:
        """The web page of a commit, if it is known."""
        web = self.web
        if web is None and (found := _HOSTED.match(self.shown)):
            web = f"https://{found['host']}/{found['path']}"
        return f"{web.rstrip('/')}/commit/{revision}" if web else None
