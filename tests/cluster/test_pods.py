"""Profile cluster gives each stage the pod in its settings.

Unmodified dagster-k8s makes the Jobs from the real location; they are validated strictly against Kubernetes' own
schemas. There is no cluster: nothing is scheduled.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import create_execution_plan
from dagster._core.execution.context.system import PlanData, PlanOrchestrationContext
from dagster._core.execution.context_creation_job import create_context_free_log_manager
from dagster._core.executor.init import InitExecutorContext
from dagster._core.executor.step_delegating import StepDelegatingExecutor, StepHandlerContext
from dagster._core.launcher import LaunchRunContext
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.system_config.objects import ResolvedRunConfig
from dagster._grpc.types import ExecuteStepArgs

from llmops_assets.config.kubernetes import StagePods
from llmops_assets.config.settings import Settings
from llmops_assets.config.yaml_validation import validate_yaml
from llmops_assets.domain.chain import CHAIN, HEAVY
from llmops_assets.location import build_definitions, job_name
from resources.assembly import build_clients
from resources.serving.interface import ServingError
from tests.support.extras import needs

pytestmark = [needs("dagster_k8s", "kubernetes"), needs("kubernetes_validate", "dev")]

VERSIONS = ("1.28", "1.31", "1.34", "1.37")
ROOT = Path(__file__).parents[2]
SETTINGS = ROOT / "deploy" / "settings.yaml"
LIGHT = sorted({s.name for s in CHAIN} - HEAVY)


def validate(job: dict[str, Any], version: str, strict: bool) -> None:
    import kubernetes_validate

    kubernetes_validate.validate(job, version, strict=strict)


def client_of(cluster: "Cluster") -> Any:
    """dagster-k8s's own client, whose batch API is this cluster."""
    from dagster_k8s.client import DagsterKubernetesClient

    return DagsterKubernetesClient.production_client(batch_api_override=cluster)


class Cluster:
    """Accepts Jobs as Kubernetes' batch API does, and stores them."""

    def __init__(self) -> None:
        self.jobs: list[dict[str, Any]] = []
        self.namespaces: list[str] = []

    def create_namespaced_job(self, body: Any, namespace: str, **_: Any) -> None:
        from kubernetes.client import ApiClient

        self.jobs.append(ApiClient().sanitize_for_serialization(body))
        self.namespaces.append(namespace)


@pytest.fixture(scope="module")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kubeconfig for a cluster that is never called."""
    file = tmp_path_factory.mktemp("kube") / "config"
    none = {"cluster": "none", "user": "none"}
    value = {
        "apiVersion": "v1", "kind": "Config", "current-context": "none",
        "clusters": [{"name": "none", "cluster": {"server": "http://127.0.0.1:9"}}],
        "users": [{"name": "none", "user": {}}],
        "contexts": [{"name": "none", "context": none}],
    }  # fmt: skip
    file.write_text(yaml.safe_dump(value))
    return file


@pytest.fixture(scope="module")
def instance(kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.DagsterInstance]:
    """An instance with the run launcher of deploy/dagster.yaml."""
    launcher = yaml.safe_load((ROOT / "deploy" / "dagster.yaml").read_text())["run_launcher"]
    launcher["config"] |= {"load_incluster_config": False, "kubeconfig_file": str(kubeconfig)}
    folder = str(tmp_path_factory.mktemp("dagster"))
    with dg.instance_for_test(temp_dir=folder, overrides={"run_launcher": launcher}) as instance:
        yield instance


@pytest.fixture(scope="module")
def settings() -> Settings:
    """The settings in deploy/."""
    return validate_yaml(Settings, SETTINGS.read_text(), SETTINGS.name)


IMAGE = "registry.example.com/llmops-assets:0.1.0"


@pytest.fixture
def jobs_of(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> Callable[[Settings], dict[str, Any]]:
    """The Jobs of all steps, created as the location's executor does: stage → Job."""
    monkeypatch.setenv("LLMOPS_LEDGER_URL", "postgresql+psycopg2://nobody@127.0.0.1:9/none")

    def make(settings: Settings) -> dict[str, Any]:
        project = settings.projects[0]
        job = build_definitions(settings).resolve_job_def(job_name(project))
        config = ResolvedRunConfig.build(job, {}).execution.execution_engine_config
        create = job.executor_def.executor_creation_fn
        assert create is not None
        executor = create(InitExecutorContext(InMemoryJob(job), job.executor_def, config, instance))
        assert isinstance(executor, StepDelegatingExecutor)
        cluster = Cluster()
        handler: Any = executor._step_handler
        handler._api_client = client_of(cluster)
        plan = create_execution_plan(job)
        run = instance.create_run_for_job(job, execution_plan=plan)
        logs = create_context_free_log_manager(instance, run)
        context = PlanOrchestrationContext(PlanData(InMemoryJob(job), run, instance, plan), logs, executor, None)
        origin = code_of(job.name)
        found = {}
        for step in plan.get_all_steps_in_topo_order():
            args = ExecuteStepArgs(origin, run.run_id, [step.key], print_serialized_events=False)
            list(handler.launch_step(StepHandlerContext(instance, context, plan.steps, args)))
            found[step.key.removeprefix(f"{project.group}__")] = cluster.jobs[-1]
        assert set(cluster.namespaces) == {settings.kubernetes.namespace}
        return found

    return make


def code_of(job: str) -> JobPythonOrigin:
    """The code location, in its image, from which pods load the code."""
    code = ModuleCodePointer("llmops_assets.definitions", "defs")
    return JobPythonOrigin(job, RepositoryPythonOrigin(sys.executable, code, container_image=IMAGE))


def pod_of(job: dict[str, Any]) -> dict[str, Any]:
    return job["spec"]["template"]["spec"]


def container_of(job: dict[str, Any]) -> dict[str, Any]:
    (container,) = pod_of(job)["containers"]
    return container


# -- Jobs for Kubernetes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_every_job_is_one_that_kubernetes_takes(jobs_of: Any, settings: Settings, version: str) -> None:
    jobs = jobs_of(settings)
    assert set(jobs) == {s.name for s in CHAIN}
    for job in jobs.values():
        validate(job, version, strict=True)


def test_a_misspelt_field_is_noticed(jobs_of: Any, settings: Settings) -> None:
    """Otherwise the previous test proves nothing: Kubernetes itself silently drops unknown fields."""
    job = jobs_of(settings)["fine_tuned_checkpoint"]
    pod_of(job)["nodeSelecter"] = pod_of(job).pop("nodeSelector")
    from kubernetes_validate import ValidationError

    with pytest.raises(ValidationError, match="nodeSelecter"):
        validate(job, VERSIONS[0], strict=True)


def test_training_gets_the_gpu_the_node_and_the_time_that_the_settings_ask_for(
    jobs_of: Any, settings: Settings
) -> None:
    job = jobs_of(settings)["fine_tuned_checkpoint"]
    assert container_of(job)["resources"] == {
        "requests": {"cpu": "8", "memory": "64Gi", "ephemeral-storage": "100Gi"},
        "limits": {"memory": "64Gi", "nvidia.com/gpu": "1"},
    }
    assert pod_of(job)["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}
    assert pod_of(job)["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "8Gi"}} in pod_of(job)["volumes"]
    assert {"name": "shm", "mountPath": "/dev/shm"} in container_of(job)["volumeMounts"]
    assert job["spec"]["activeDeadlineSeconds"] == 12 * 3600
    assert job["spec"]["backoffLimit"] == 0, "the ledger's next generation tries again, not Kubernetes"


def test_light_stages_request_no_gpu_and_no_gpu_node(jobs_of: Any, settings: Settings) -> None:
    jobs = jobs_of(settings)
    for stage in (*LIGHT, "quantized_artifact"):
        assert "gpu" not in json.dumps([container_of(jobs[stage])["resources"], pod_of(jobs[stage])["volumes"]])
        assert not pod_of(jobs[stage]).get("nodeSelector") and not pod_of(jobs[stage]).get("tolerations")
    assert container_of(jobs["ci_report"])["resources"]["requests"] == {"cpu": "500m", "memory": "2Gi"}


def test_every_pod_has_the_settings_and_the_secrets_and_shows_none(jobs_of: Any, settings: Settings) -> None:
    for job in jobs_of(settings).values():
        assert {"secretRef": {"name": "llmops-secrets"}} in container_of(job)["envFrom"]
        assert {"name": "LLMOPS_SETTINGS", "value": "/etc/llmops/settings.yaml"} in container_of(job)["env"]
        assert container_of(job)["image"] == IMAGE
        assert pod_of(job)["serviceAccountName"] == "dagster"
        assert job["metadata"]["labels"]["team"] == "llm"
        assert "postgresql+psycopg2" not in json.dumps(job)


def test_every_knob_reaches_the_job(jobs_of: Any) -> None:
    text = """
profile: cluster
projects: [{name: zoo, repository: https://git.example.com/zoo.git}]
ledger: {env: LLMOPS_LEDGER_URL}
store: s3://bucket/store
mlflow: https://mlflow.example.com
home: /var/lib/llmops
kubernetes:
  image: registry.example.com/all:1
  image_pull_policy: Always
  namespace: ml
  service_account: trainer
  env_secrets: [common]
  env_config_maps: [proxy]
  home_claim: home
  default: {tolerations: [{operator: Exists}], node_selector: {pool: cpu}}
  stages:
    evaluation_report:
      gpus: 2
      gpu_resource: amd.com/gpu
      node_selector: {pool: gpu, "zone/kind": a}
      tolerations: [{key: gpu, operator: Equal, value: mi300}]
      runtime_class: rocm
      priority_class: research
      image: registry.example.com/rocm:1
      service_account: evaluator
      env_secrets: [hub]
"""
    jobs = jobs_of(validate_yaml(Settings, text, "settings.yaml"))
    heavy, light = jobs["evaluation_report"], jobs["ci_report"]
    for job in jobs.values():
        validate(job, VERSIONS[-1], strict=True)
        assert {"name": "home", "persistentVolumeClaim": {"claimName": "home"}} in pod_of(job)["volumes"]
        assert {"name": "home", "mountPath": "/var/lib/llmops"} in container_of(job)["volumeMounts"]
        assert pod_of(job)["securityContext"] == {"fsGroup": 10001}
        assert container_of(job)["imagePullPolicy"] == "Always"
        assert {"configMapRef": {"name": "proxy"}} in container_of(job)["envFrom"]
    assert container_of(heavy)["resources"]["limits"]["amd.com/gpu"] == "2"
    assert pod_of(heavy)["nodeSelector"] == {"pool": "gpu", "zone/kind": "a"}
    assert pod_of(heavy)["tolerations"] == [{"key": "gpu", "operator": "Equal", "value": "mi300"}]
    assert (pod_of(heavy)["runtimeClassName"], pod_of(heavy)["priorityClassName"]) == ("rocm", "research")
    assert [container_of(j)["image"].split("/")[1] for j in (heavy, light)] == ["rocm:1", "all:1"]
    assert [pod_of(j)["serviceAccountName"] for j in (heavy, light)] == ["evaluator", "trainer"]
    secrets = [[e["secretRef"]["name"] for e in container_of(j)["envFrom"] if "secretRef" in e] for j in (heavy, light)]
    assert secrets[0] == [*secrets[1], "hub"] and "common" in secrets[1]
    assert pod_of(light)["nodeSelector"] == {"pool": "cpu"} and pod_of(light)["tolerations"] == [{"operator": "Exists"}]


def test_the_pod_of_the_run_itself_is_light_and_has_what_its_steps_have(
    settings: Settings, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It only starts pods and waits; a GPU in it would be idle for the whole run."""
    monkeypatch.setenv("LLMOPS_LEDGER_URL", "postgresql://127.0.0.1:9/x")
    job = build_definitions(settings).resolve_job_def(job_name(settings.projects[0]))
    run = instance.create_run_for_job(job, job_code_origin=code_of(job.name))
    cluster, launcher = Cluster(), instance.run_launcher
    launcher._api_client = client_of(cluster)  # type: ignore[attr-defined]
    launcher.launch_run(LaunchRunContext(run, None))
    (made,) = cluster.jobs
    for version in VERSIONS:
        validate(made, version, strict=True)
    assert container_of(made)["resources"] == {
        "requests": {"cpu": "500m", "memory": "1Gi"},
        "limits": {"memory": "2Gi"},
    }
    assert {"name": "llmops-settings", "mountPath": "/etc/llmops", "readOnly": True} in container_of(made)[
        "volumeMounts"
    ]
    assert container_of(made)["image"] == IMAGE and pod_of(made)["serviceAccountName"] == "dagster"


def test_each_heavy_stage_of_the_chain_has_its_place_in_the_settings() -> None:
    assert set(StagePods.model_fields) == HEAVY


# -- what Dagster loads ---------------------------------------------------------------------------------------------


def test_the_location_loads_under_the_profile_in_a_fresh_interpreter() -> None:
    """There is no cluster, database, bucket or MLflow: loading opens no connection."""
    code = (
        "import sys\nfrom llmops_assets.definitions import defs\n"
        "assert defs.executor.name == 'k8s_job', defs.executor\n"
        "assert not (defs.metadata or {}).get('hint'), defs.metadata\n"
        "keys = {k.path[-1] for k in defs.resolve_asset_graph().get_all_asset_keys()}\n"
        "assert {'fine_tuned_checkpoint', 'production_endpoint'} <= keys\n"
        "print(','.join(m for m in ('torch', 'transformers', 'mlflow', 'boto3', 's3fs') if m in sys.modules))"
    )
    env = {
        "PATH": os.environ["PATH"],
        "LLMOPS_SETTINGS": str(SETTINGS),
        "LLMOPS_LEDGER_URL": "postgresql://127.0.0.1:9/x",
    }
    done = subprocess.run([sys.executable, "-c", code], env=env, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


def test_the_local_profile_pays_for_none_of_it() -> None:
    code = (
        "import sys\nfrom llmops_assets.location import build_definitions\n"
        "from llmops_assets.config.settings import ProjectSource, Settings\n"
        "defs = build_definitions(Settings(projects=(ProjectSource(name='zoo', repository='x'),)))\n"
        "assets = [a for a in defs.resolve_asset_graph().assets_defs if a.is_executable]\n"
        "assert assets and not any('dagster-k8s/config' in a.op.tags for a in assets)\n"
        "print(','.join(m for m in ('dagster_k8s', 'dagster_aws', 'kubernetes', 'boto3') if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


def test_in_process_all_steps_share_the_pod_of_the_run(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMOPS_LEDGER_URL", "postgresql://127.0.0.1:9/x")
    text = SETTINGS.read_text().replace("executor: k8s_job", "executor: in_process").split("kubernetes:")[0]
    assert build_definitions(validate_yaml(Settings, text, "x")).executor is dg.in_process_executor


def test_nothing_is_served_from_a_pod_that_ends(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be recorded as production, and end with its pod a moment later."""
    monkeypatch.setenv("LLMOPS_LEDGER_URL", "postgresql://127.0.0.1:9/x")
    serving = build_clients(settings).serving
    assert serving.endpoints() == [] and serving.deployed("my-model", "production") == ()
    with pytest.raises(ServingError, match="cannot serve yet"):
        serving.deploy("my-model", "staging", None, Path("model.gguf"))
    with pytest.raises(ServingError, match="cannot serve yet"):
        serving.route("my-model", "production", {"release": 1.0})
