"""Builds a stage's pod configuration for dagster-k8s. Pure: no client and no Dagster."""

from collections.abc import Mapping
from typing import Any

from llmops_assets.config.kubernetes import KubernetesSettings

HOME_GROUP = 10001
"""The group of the image's user, which needs write access to the claim."""


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
    """Op tags of a stage; empty if steps have no pods."""
    config = step_config(kubernetes, stage) if kubernetes else {}
    return {"dagster-k8s/config": config} if config else {}


def executor_config(kubernetes: KubernetesSettings, home: str) -> dict[str, Any]:
    """The configuration of `k8s_job_executor`, shared by all step pods."""
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
