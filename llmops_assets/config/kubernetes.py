"""Where stages run on Kubernetes: what each pod asks for, and that in the form which dagster-k8s takes.

Pure: models of the settings and their rendering, no client and no Dagster. Which stages are heavy stands in
`domain.chain`; the run pods' own shape in `deploy/`.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from llmops_assets.domain.models import Strict
from llmops_assets.domain.rollout import Duration


def _text(value: object) -> object:
    """`cpu: 4` is a number to YAML and text to Kubernetes."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


Cpu = Annotated[str, BeforeValidator(_text), Field(pattern=r"^(\d+(\.\d+)?|\d+m)$")]
Bytes = Annotated[str, Field(pattern=r"^\d+(\.\d+)?(Mi|Gi|Ti|M|G|T)$")]
"""With its unit: `memory: 64` would be 64 bytes, and the pod would die at once."""
Name = Annotated[str, Field(pattern=r"^([a-z0-9]|[a-z0-9][-a-z0-9.]{0,251}[a-z0-9])$")]
Selector = dict[str, Annotated[str, Field(pattern=r"^(|[A-Za-z0-9]|[A-Za-z0-9][-A-Za-z0-9_.]{0,61}[A-Za-z0-9])$")]]


class Toleration(Strict):
    """A taint that the pod may run in spite of."""

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
    """What the pod of a stage asks of the cluster. What is left out is left to the cluster."""

    gpus: int = Field(default=0, ge=0, le=64, description="GPUs of the pod; the scheduler finds a node that has them.")
    gpu_resource: str = Field(
        default="nvidia.com/gpu",
        pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$",
        description="The kind, as its device plugin calls it: nvidia.com/gpu, nvidia.com/mig-3g.40gb, amd.com/gpu.",
    )
    cpu: Cpu | None = Field(default=None, description="CPUs that are reserved: 4, 0.5 or 500m. Idle ones may be used.")
    memory: Bytes | None = Field(default=None, description="Reserved, and the most that it may take: 64Gi.")
    disk: Bytes | None = Field(default=None, description="Scratch space on the node that is reserved: 100Gi.")
    shm: Bytes | None = Field(
        default=None, description="Size of /dev/shm, which counts as memory. Kubernetes gives 64 MB, torch wants more."
    )
    node_selector: Selector = Field(default={}, description="Labels of the nodes that may be taken.")
    tolerations: tuple[Toleration, ...] = Field(default=(), description="Taints of nodes that may be taken.")
    runtime_class: Name | None = Field(default=None, description="RuntimeClass, for example nvidia.")
    priority_class: Name | None = Field(default=None, description="PriorityClass: who waits for whom.")
    image: str | None = Field(default=None, description="Another image for this stage, for example one with CUDA.")
    service_account: Name | None = Field(default=None, description="Another service account for this stage.")
    env_secrets: tuple[Name, ...] = Field(default=(), description="Further secrets that become environment variables.")
    timeout: Duration | None = Field(
        default=None, description="The pod is ended after this long, for example 12h. None: never."
    )


class StagePods(Strict):
    """Pods of the heavy stages; one that is left out gets the default pod."""

    fine_tuned_checkpoint: Pod | None = Field(default=None, description="Training.")
    evaluation_report: Pod | None = Field(default=None, description="Evaluation of the checkpoint.")
    quantized_artifact: Pod | None = Field(default=None, description="Merge and quantization.")
    served_evaluation_report: Pod | None = Field(default=None, description="Evaluation on the serving engine.")


class KubernetesSettings(Strict):
    """Pods of steps; read by `profile: cluster` only."""

    image: str | None = Field(default=None, description="Image of step pods. None: that of the code location.")
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = Field(
        default=None, description="None: as Kubernetes does."
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
        "Its file system must honour flock. None: each pod has a home of its own, and a lost pod begins again.",
    )
    default: Pod = Field(default=Pod(), description="Pods of all stages that `stages` does not name.")
    stages: StagePods = Field(default=StagePods(), description="Pods of heavy stages, by the stage's name.")

    @field_validator("default")
    @classmethod
    def _default_is_light(cls, pod: Pod) -> Pod:
        if pod.gpus:
            raise ValueError("light stages need no GPU; ask for GPUs under `stages`, by the heavy stage's name")
        return pod

    def pod(self, stage: str) -> Pod:
        """The pod of a stage. Nothing is inherited from the default: a GPU node's selector is not a CPU node's."""
        return getattr(self.stages, stage, None) or self.default


HOME_GROUP = 10001
"""The group of the image's user, who must be able to write to the claim."""


def step_config(kubernetes: KubernetesSettings, stage: str) -> dict[str, Any]:
    """The value of `dagster-k8s/config` in the stage's op tags."""
    pod = kubernetes.pod(stage)
    requests = {"cpu": pod.cpu, "memory": pod.memory, "ephemeral-storage": pod.disk}
    limits = {"memory": pod.memory, pod.gpu_resource: str(pod.gpus) if pod.gpus else None}
    container: dict[str, Any] = {
        "resources": _given({"requests": _given(requests), "limits": _given(limits)}),
        "image": pod.image,
        "env_from": [{"secret_ref": {"name": name}} for name in pod.env_secrets],
    }
    spec: dict[str, Any] = {
        "node_selector": dict(pod.node_selector),
        "tolerations": [_given(t.model_dump()) for t in pod.tolerations],
        "runtime_class_name": pod.runtime_class,
        "priority_class_name": pod.priority_class,
        "service_account_name": pod.service_account,
    }
    if pod.shm:
        spec["volumes"] = [{"name": "shm", "empty_dir": {"medium": "Memory", "size_limit": pod.shm}}]
        container["volume_mounts"] = [{"name": "shm", "mount_path": "/dev/shm"}]
    job = {"active_deadline_seconds": int(pod.timeout) if pod.timeout else None}
    return _given(
        {"container_config": _given(container), "pod_spec_config": _given(spec), "job_spec_config": _given(job)}
    )


def step_tags(kubernetes: KubernetesSettings | None, stage: str) -> dict[str, Any]:
    """Op tags of a stage; none where steps have no pods."""
    config = step_config(kubernetes, stage) if kubernetes else {}
    return {"dagster-k8s/config": config} if config else {}


def executor_config(kubernetes: KubernetesSettings, home: str) -> dict[str, Any]:
    """What all step pods have in common, as `k8s_job_executor` takes it."""
    config: dict[str, Any] = {
        "job_image": kubernetes.image,
        "image_pull_policy": kubernetes.image_pull_policy,
        "job_namespace": kubernetes.namespace,
        "service_account_name": kubernetes.service_account,
        "env_secrets": list(kubernetes.env_secrets),
        "env_config_maps": list(kubernetes.env_config_maps),
        "labels": dict(kubernetes.labels),
    }
    if kubernetes.home_claim:
        config["volumes"] = [{"name": "home", "persistent_volume_claim": {"claim_name": kubernetes.home_claim}}]
        config["volume_mounts"] = [{"name": "home", "mount_path": home}]
        config["step_k8s_config"] = {"pod_spec_config": {"security_context": {"fs_group": HOME_GROUP}}}
    return _given(config)


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value not in (None, {}, [], ())}
