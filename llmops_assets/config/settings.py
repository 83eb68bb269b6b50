"""The settings of this code location: projects, stores, compute, serving. Read once, when the location loads.

`LLMOPS_SETTINGS` names a YAML file; `LLMOPS_HOME` the folder that holds all state of the local profile. A project's own
configuration belongs in its `llmops.yaml` (`llmops_assets.config.project`).
"""

import math
import os
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self

from platformdirs import user_data_path
from pydantic import Field, ValidationInfo, field_validator, model_validator

from llmops_assets import catalog
from llmops_assets.config.compute import ComputeSettings
from llmops_assets.config.garbage import GarbageSettings
from llmops_assets.config.images import ImageSettings
from llmops_assets.config.judges import Judge
from llmops_assets.config.kubernetes import KubernetesSettings
from llmops_assets.config.notifications import NotificationTarget, effective, refuse_same_names
from llmops_assets.config.part_names import NameOf
from llmops_assets.config.secrets import Address, FromEnvironment, read_address, refuse_credentials
from llmops_assets.config.serving import ServingSettings
from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.config.webhooks import WebhookSettings
from llmops_assets.config.yaml_validation import ConfigError
from llmops_assets.domain.models import Strict, WrongAt
from llmops_assets.domain.policy_floor import PolicyFloor
from llmops_assets.domain.recovery import PAUSES_S
from llmops_assets.domain.rollout import Duration


def default_home() -> Path:
    """`LLMOPS_HOME`, or a folder in the user's data directory."""
    if home := os.environ.get("LLMOPS_HOME"):
        return Path(home).expanduser().resolve()
    return user_data_path("llmops", appauthor=False)


PER_PROJECT_S = 0.5
"""Three ticks of a project take 0.18 s CPU time in the daemon and as much in the code server, each of which uses one
core. At shorter intervals, a hundred projects would keep two cores from everything else."""

_SHARED = {
    "ledger": "a PostgreSQL address or {env: NAME}",
    "store": "object storage, such as s3://bucket/prefix,",
    "mlflow": "the address of an MLflow server",
}

_NAME_IT = "put it into the environment and name the variable: {env: NAME}"
_WITHOUT_PASSWORD = {
    "ledger": _NAME_IT,
    "mlflow": _NAME_IT,
    "store": "leave it out: the storage's client reads its credentials from the environment, such as AWS_ACCESS_KEY_ID",
    "mlflow_ui": "leave it out: this address is shown in links",
    "dagster_ui": "leave it out: this address is shown in links",
}


class Settings(Strict):
    projects: tuple[ProjectSource, ...] = Field(default=(), description="The watched projects.")
    profile: Literal["local", "cluster"] = Field(
        default="local", description="Where work runs: on this machine, or on Kubernetes."
    )
    executor: Literal["in_process", "k8s_job"] | None = Field(
        default=None,
        description="in_process: all steps in the run's own process or pod. k8s_job: each step in its own pod, "
        "configured by `kubernetes`. None: in_process in the local profile, k8s_job in the cluster profile.",
    )
    home: Path = Field(default_factory=default_home, description="State of the local profile; scratch space of a pod.")
    ledger: Address | None = Field(
        default=None, validate_default=True, description="SQLAlchemy URL, or {env: NAME}; None: SQLite under home."
    )
    store: str | None = Field(
        default=None,
        validate_default=True,
        description="fsspec URL of the artifact store, for example s3://bucket/prefix; None: a folder under home.",
    )
    mlflow: Address | None = Field(
        default=None,
        validate_default=True,
        description="MLflow tracking URI, or {env: NAME}; None: SQLite under home. With the address of a server, "
        "`llmops up` starts none.",
    )
    registry: Annotated[str, NameOf(catalog.REGISTRIES)] = Field(
        default="mlflow", description="Where models are registered."
    )
    mlflow_ui: str | None = Field(
        default=None, description="Address of MLflow's UI, for links; None: `mlflow`, or where `llmops up` starts it."
    )
    dagster_ui: str | None = Field(
        default=None, description="Address of Dagster's UI, for links; None: where `llmops up` starts it."
    )
    poll: int = Field(
        default=2,
        ge=1,
        description="Seconds between polls of Git and DVC; at least half a second for each project. With `webhooks`, a "
        "push is noticed at once, and an hour is enough for what no webhook says: a delivery that was lost, data that "
        "arrived after its commit.",
    )
    webhooks: WebhookSettings | None = Field(
        default=None,
        description="The receiver of webhooks, which `llmops up` starts: GitHub, GitLab and Gitea tell it of a push. "
        "None: no receiver; pushes are found by polling.",
    )
    fetch_timeout: float = Field(
        default=3600.0,
        gt=0,
        description="Seconds that one `git fetch` may take, the first clone included. A sensor's tick waits at most "
        "15 s for one: a longer one goes on in the background, and the ticks say how far it is.",
    )
    pull_timeout: Duration = Field(
        default=86400.0, gt=0, description="How long one `dvc pull` of a run may take: 24h. The next run continues it."
    )
    retry_pauses: tuple[Duration, ...] = Field(
        default=PAUSES_S,
        min_length=1,
        description="After the end of a request's first, second and third run without an outcome, how long until the "
        "next one starts: 0s, 15s, 60s. The last pause repeats; the request fails after its fourth run.",
    )
    serving: ServingSettings = Field(default=ServingSettings(), description="The gateway of all endpoints.")
    compute: ComputeSettings = Field(default=ComputeSettings(), description="Where programs run, and their limits.")
    images: ImageSettings | None = Field(
        default=None, description="Who builds the container images of projects. None: no image is built."
    )
    judges: tuple[Judge, ...] = Field(
        default=(), description="LLMs that the metric `llm_judge` of a project may ask, by name."
    )
    gc: GarbageSettings = Field(
        default=GarbageSettings(), description="Garbage collection of store, caches, work trees and logs."
    )
    kubernetes: KubernetesSettings = Field(default=KubernetesSettings(), description="Pods; profile cluster only.")
    policy: PolicyFloor = Field(
        default=PolicyFloor(),
        description="Policy that the llmops.yaml of every project can tighten, but not drop or loosen.",
    )
    notifications: tuple[NotificationTarget, ...] = Field(
        default=(), description="Who is told about the events of all projects."
    )
    hint: str | None = Field(default=None, description="Shown when the location is empty.")

    @field_validator("projects")
    @classmethod
    def _names_differ(cls, projects: tuple[ProjectSource, ...]) -> tuple[ProjectSource, ...]:
        names = [p.name for p in projects]
        if twice := sorted({n for n in names if names.count(n) > 1}):
            raise ValueError(f"two projects are called {', '.join(twice)}; names must differ")
        return projects

    @field_validator("judges")
    @classmethod
    def _judges_differ(cls, judges: tuple[Judge, ...]) -> tuple[Judge, ...]:
        names = [judge.name for judge in judges]
        if twice := sorted({n for n in names if names.count(n) > 1}):
            raise ValueError(f"two judges are called {', '.join(twice)}; names must differ")
        return judges

    @field_validator("notifications")
    @classmethod
    def _targets_differ(cls, value: tuple[NotificationTarget, ...]) -> tuple[NotificationTarget, ...]:
        return refuse_same_names(value)

    @field_validator("ledger", "store", "mlflow", "mlflow_ui", "dagster_ui")
    @classmethod
    def _holds_no_password(
        cls, value: FromEnvironment | str | None, info: ValidationInfo
    ) -> FromEnvironment | str | None:
        if isinstance(value, str):
            refuse_credentials(value, _WITHOUT_PASSWORD[info.field_name or ""])
        return value

    @field_validator("store")
    @classmethod
    def _is_in_the_catalog(cls, store: str | None) -> str | None:
        if store is not None and (scheme := catalog.scheme_of(store)) not in catalog.STORES:
            known = ", ".join(f"{name}://" for name in catalog.STORES if name != "file")
            raise ValueError(f"no artifact store supports {scheme}:// (known: a path, {known})")
        return store

    @field_validator("ledger", "store", "mlflow")
    @classmethod
    def _all_pods_reach_it(
        cls, value: FromEnvironment | str | None, info: ValidationInfo
    ) -> FromEnvironment | str | None:
        if info.data.get("profile") != "cluster" or isinstance(value, FromEnvironment):
            return value
        if value is None or "://" not in value or value.startswith(("sqlite:", "file:")):
            raise ValueError(f"pods share no disk: profile cluster needs {_SHARED[info.field_name or '']} here")
        return value

    @model_validator(mode="after")
    def _pods_are_used(self) -> Self:
        if self.profile == "local" and self.executor == "k8s_job":
            raise WrongAt("k8s_job belongs to profile cluster; leave it out, or set profile: cluster", "executor")
        if not self.steps_have_pods and self.kubernetes != KubernetesSettings():
            raise WrongAt(
                "it configures the pods of steps, but steps have none; set profile: cluster, executor: k8s_job",
                "kubernetes",
            )
        return self

    @model_validator(mode="after")
    def _deliveries_are_signed(self) -> Self:
        for number, project in enumerate(self.projects):
            if project.webhook_secrets and self.webhooks is None:
                raise WrongAt(
                    "no receiver is configured that uses them; add `webhooks: {}`",
                    "projects",
                    number,
                    "webhook_secrets",
                )
        if self.webhooks and not self.webhooks.secrets and not any(p.webhook_secrets for p in self.projects):
            raise WrongAt(
                "no delivery can be verified without a secret; add `secrets: [{env: NAME}]`, or `webhook_secrets` to a "
                "project",
                "webhooks",
            )
        return self

    @model_validator(mode="after")
    def _parts_are_installed(self) -> Self:
        used: list[tuple[catalog.Part, tuple[str | int, ...]]] = [
            (catalog.COMPUTE[self.compute.backend], ("compute", "backend")),
            (catalog.REGISTRIES[self.registry], ("registry",)),
        ]
        if self.images:
            used.append((catalog.IMAGE_BUILDERS[self.images.builder], ("images", "builder")))
        if self.store:
            used.append((catalog.STORES[catalog.scheme_of(self.store)], ("store",)))
        for number, target in enumerate(self.notifications):
            used.append((catalog.NOTIFIERS[target.via], ("notifications", number, "via")))
        for place, project in enumerate(self.projects):
            for number, target in enumerate(project.notifications):
                used.append((catalog.NOTIFIERS[target.via], ("projects", place, "notifications", number, "via")))
        for part, at in used:
            if problem := part.missing():
                raise WrongAt(problem, *at)
        return self

    @property
    def steps_have_pods(self) -> bool:
        return self.profile == "cluster" and self.executor != "in_process"

    @property
    def ledger_url(self) -> str:
        """Never cached: it may contain a password.

        Raises:
            ConfigError: the environment variable that holds it is not set.
        """
        return read_address(self.ledger) or f"sqlite:///{self.home}/ledger.sqlite"

    @cached_property
    def store_url(self) -> str:
        return self.store or str(self.home / "store")

    @property
    def mlflow_uri(self) -> str:
        return read_address(self.mlflow) or f"sqlite:///{self.home}/mlflow.sqlite"

    @property
    def needs_mlflow_server(self) -> bool:
        """Whether `mlflow` is a database, and not the address of a server that runs already.

        Raises:
            ConfigError: the environment variable that holds it is not set.
        """
        return not self.mlflow_uri.startswith(("http://", "https://", "databricks"))

    def ui(self, service: Literal["dagster", "mlflow"]) -> str | None:
        """Address of a UI, for links: the one in the settings, else where `llmops up` has started it."""
        server = self.mlflow if isinstance(self.mlflow, str) and self.mlflow.startswith("http") else None
        if said := self.dagster_ui if service == "dagster" else self.mlflow_ui or server:
            return said.rstrip("/")
        try:
            return (self.home / "services" / f"{service}.url").read_text().strip() or None
        except OSError:
            return None

    @property
    def webhook_secrets(self) -> tuple[FromEnvironment, ...]:
        """The secrets of all webhooks; none if there is no receiver."""
        own = [secret for project in self.projects for secret in project.webhook_secrets]
        return (*self.webhooks.secrets, *own) if self.webhooks else ()

    @property
    def look_every(self) -> int:
        """Seconds between looks at Git and DVC: `poll`, or what the number of projects allows."""
        return max(self.poll, self._fair_interval)

    @property
    def upkeep(self) -> int:
        """Seconds between looks at what needs no fetch: the ledger, runs, endpoints, notifications."""
        return max(min(self.poll, 5), self._fair_interval)

    @property
    def _fair_interval(self) -> int:
        return math.ceil(PER_PROJECT_S * len(self.projects))

    def judge(self, name: str | None) -> Judge | None:
        """The judge of that name; None if there is none."""
        return next((judge for judge in self.judges if judge.name == name), None)

    def floors(self, project: str) -> tuple[PolicyFloor, ...]:
        """The policy floors of a project. Where they contradict each other, the last one decides."""
        own = next((p.policy for p in self.projects if p.name == project), PolicyFloor())
        return own, self.policy

    def targets(self, project: ProjectSource) -> tuple[NotificationTarget, ...]:
        """Who is told about a project."""
        return effective(project.notifications, self.notifications)

    def project(self, name: str | None) -> ProjectSource:
        """The project of that name, or the only one.

        Raises:
            ConfigError: there is no such project, or no name was given and there are several.
        """
        known = ", ".join(p.name for p in self.projects) or "none"
        if name is None:
            if len(self.projects) == 1:
                return self.projects[0]
            raise ConfigError([f"name a project (known: {known})"])
        for project in self.projects:
            if project.name == name:
                return project
        raise ConfigError([f"no such project: {name!r} (known: {known}); projects are listed in LLMOPS_SETTINGS"])
