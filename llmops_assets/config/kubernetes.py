"""The settings of profile cluster: the pod of each stage.

Translating them for dagster-k8s belongs in `resources.run_launching.kubernetes_pods`, the pods of runs in `deploy/`.
"""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, create_model, field_validator, model_validator

from llmops_assets.domain.chain import CHAIN
from llmops_assets.domain.models import Strict
from llmops_assets.domain.rollout import Duration


def _text(value: object) -> object:
    """`cpu: 4` is a number to YAML and text to Kubernetes."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


Cpu = Annotated[str, BeforeValidator(_text), Field(pattern=r"^(\d+(\.\d+)?|\d+m)$")]
Bytes = Annotated[str, Field(pattern=r"^\d+(\.\d+)?(Mi|Gi|Ti|M|G|T)$")]
"""With its unit: `memory: 64` would be 64 bytes, and the pod would be killed at once."""
Name = Annotated[str, Field(pattern=r"^([a-z0-9]|[a-z0-9][-a-z0-9.]{0,251}[a-z0-9])$")]
Selector = dict[str, Annotated[str, Field(pattern=r"^(|[A-Za-z0-9]|[A-Za-z0-9][-A-Za-z0-9_.]{0,61}[A-Za-z0-9])$")]]


class Toleration(Strict):
    """A taint that the pod tolerates."""

    key: str | None = Field(default=None, description="The taint's key. None, with Exists: every taint.")
    operator: Literal["Exists", "Equal"] = Field(default="Exists", description="Equal also compares the value.")
    value: str | None = Field(default=None, description="The taint's value, with Equal.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="None: every effect."
    )

    @model_validator(mode="after")
    def _compares_what_it_has(self) -> Self:
        if self.operator == "Equal" and (self.key is None or self.value is None):
            raise ValueError("operator Equal needs a key and a value")
        if self.operator == "Exists" and self.value is not None:
            raise ValueError("operator Exists compares no value; write operator: Equal, or leave the value out")
        return self


class Pod(Strict):
    """The pod of a stage. The cluster decides what is not set."""

    gpus: int = Field(default=0, ge=0, le=64, description="Number of GPUs; the scheduler finds a node that has them.")
    gpu_resource: str = Field(
        default="nvidia.com/gpu",
        pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$",
        description="The device plugin's resource name: nvidia.com/gpu, nvidia.com/mig-3g.40gb, amd.com/gpu.",
    )
    cpu: Cpu | None = Field(default=None, description="CPU request, without a limit: 4, 0.5 or 500m.")
    memory: Bytes | None = Field(default=None, description="Memory request and limit: 64Gi.")
    disk: Bytes | None = Field(default=None, description="Request for scratch space on the node: 100Gi.")
    shm: Bytes | None = Field(
        default=None, description="Size of /dev/shm, which counts as memory. Kubernetes gives 64 MB, torch wants more."
    )
    node_selector: Selector = Field(default={}, description="Labels that the node must have.")
    tolerations: tuple[Toleration, ...] = Field(default=(), description="Taints that the pod tolerates.")
    runtime_class: Name | None = Field(default=None, description="RuntimeClass, for example nvidia.")
    priority_class: Name | None = Field(default=None, description="PriorityClass: which pods go first.")
    image: str | None = Field(default=None, description="Image for this stage only, for example one with CUDA.")
    service_account: Name | None = Field(default=None, description="Service account for this stage only.")
    env_secrets: tuple[Name, ...] = Field(default=(), description="Further secrets that become environment variables.")
    timeout: Duration | None = Field(
        default=None, description="Time limit of the pod, for example 12h. None: no limit."
    )


StagePods = create_model(
    "StagePods",
    __base__=Strict,
    __doc__="Pods of the heavy stages; a stage without an entry gets the default pod.",
    **{s.name: (Pod | None, Field(default=None, description=s.heavy)) for s in CHAIN if s.heavy},  # type: ignore[call-overload]
)


class KubernetesSettings(Strict):
    """Pods of steps; used by `profile: cluster` only."""

    image: str | None = Field(default=None, description="Image of step pods. None: that of the code location.")
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = Field(
        default=None, description="None: the default of Kubernetes."
    )
    namespace: Name | None = Field(default=None, description="Namespace of step pods. None: that of the run launcher.")
    service_account: Name | None = Field(default=None, description="Service account. None: that of the run launcher.")
    env_secrets: tuple[Name, ...] = Field(
        default=(), description="Kubernetes secrets that become environment variables: ledger, store, MLflow."
    )
    env_config_maps: tuple[Name, ...] = Field(default=(), description="ConfigMaps that become environment variables.")
    labels: Selector = Field(default={}, description="Labels of step pods and their jobs.")
    home_claim: Name | None = Field(
        default=None,
        description="A ReadWriteMany PersistentVolumeClaim mounted as home, so that a training resumes in another pod. "
        "Its file system must support flock. None: each pod has its own home, and a lost pod starts over.",
    )
    default: Pod = Field(default=Pod(), description="Pods of all stages that `stages` does not name.")
    stages: StagePods = Field(default=StagePods(), description="Pods of heavy stages, by the stage's name.")

    @field_validator("default")
    @classmethod
    def _default_is_light(cls, pod: Pod) -> Pod:
        if pod.gpus:
            raise ValueError("light stages need no GPU; set gpus of a heavy stage, under `stages`")
        return pod

    def pod(self, stage: str) -> Pod:
        """The pod of a stage. Nothing is inherited from the default: a GPU node's selector is not a CPU node's."""
        return getattr(self.stages, stage, None) or self.default
