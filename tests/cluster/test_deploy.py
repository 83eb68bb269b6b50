"""The files under deploy/ are copied by users: each is valid for its reader, and they agree with each other."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._config import process_config, resolve_to_config_type
from dagster._core.instance.config import dagster_instance_config
from dagster._core.instance.ref import InstanceRef
from dagster._serdes import ConfigurableClassData

from llmops_assets.config.settings import Settings
from llmops_assets.config.webhooks import WebhookSettings
from llmops_assets.config.yaml_validation import validate_yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
SET = {
    "DAGSTER_PG_HOST": "postgres.example.com",
    "DAGSTER_PG_USERNAME": "dagster",
    "DAGSTER_PG_PASSWORD": "not-shown",
    "DAGSTER_PG_DB": "dagster",
    "DAGSTER_LOGS_BUCKET": "llmops-artifacts",
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SET.items():
        monkeypatch.setenv(name, value)


def read(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text())


def problems(folder: Path, text: str) -> list[str]:
    """Errors in an instance's configuration, by Dagster's schema and that of every class that it names."""
    (folder / "dagster.yaml").write_text(text)
    dagster_instance_config(str(folder))
    ref = InstanceRef.from_dir(str(folder))
    found = []
    for name, part in ref._asdict().items():
        if not isinstance(part, ConfigurableClassData):
            continue
        module = __import__(part.module_name, fromlist=[part.class_name])
        result = process_config(
            resolve_to_config_type(getattr(module, part.class_name).config_type()), part.config_dict
        )
        found += [f"{name}: {error.message}" for error in result.errors or ()]
    return found


@pytest.mark.usefixtures("environment")
def test_dagster_takes_the_instance(tmp_path: Path) -> None:
    for library in ("dagster_k8s", "dagster_aws", "dagster_postgres"):
        pytest.importorskip(library)
    assert problems(tmp_path, (DEPLOY / "dagster.yaml").read_text()) == []


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(("right", "wrong"), [("job_namespace:", "job_namespce:"), ("    bucket:", "    buckt:")])
def test_a_misspelt_key_of_the_instance_is_noticed(tmp_path: Path, right: str, wrong: str) -> None:
    """Shows that the previous test can fail."""
    text = (DEPLOY / "dagster.yaml").read_text()
    assert right in text
    assert wrong.strip(" :") in "".join(problems(tmp_path, text.replace(right, wrong, 1)))


def test_a_key_that_dagster_does_not_know_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(dg.DagsterInvalidConfigError, match="run_lancher"):
        problems(tmp_path, "run_lancher: {module: dagster_k8s, class: K8sRunLauncher}\n")


def test_dagster_keeps_its_runs_on_a_real_postgresql(
    tmp_path: Path, postgres: str, new_ledger_url: Callable[[str, Path], str]
) -> None:
    """The storage that deploy/ configures; this server listens only on a socket, so the test sets the complete URL."""
    pytest.importorskip("dagster_postgres")
    url = new_ledger_url("postgres", tmp_path).replace("postgresql+psycopg2", "postgresql")
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump({"storage": {"postgres": {"postgres_url": url}}}))

    @dg.asset
    def kept() -> int:
        return 1

    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert dg.materialize([kept], instance=instance).success
    with dg.DagsterInstance.from_config(str(tmp_path)) as again:
        assert again.get_latest_materialization_event(dg.AssetKey("kept")) is not None
        assert type(again.run_storage).__name__ == "PostgresRunStorage"


def test_the_three_files_agree() -> None:
    settings = validate_yaml(Settings, (DEPLOY / "settings.yaml").read_text(), "settings.yaml")
    values, launcher = read("values.yaml"), read("dagster.yaml")["run_launcher"]["config"]
    (location,) = values["dagster-user-deployments"]["deployments"]
    assert settings.profile == "cluster"
    assert {e["name"]: e["value"] for e in location["env"]}["LLMOPS_SETTINGS"] == "/etc/llmops/settings.yaml"
    assert launcher["env_vars"] == ["LLMOPS_SETTINGS=/etc/llmops/settings.yaml"]
    assert location["volumes"] == launcher["volumes"] and location["volumeMounts"] == launcher["volume_mounts"]
    secrets = {s["name"] for s in location["envSecrets"]}
    assert secrets == set(launcher["env_secrets"]) == set(settings.kubernetes.env_secrets)
    assert values["serviceAccount"]["name"] == launcher["service_account_name"] == settings.kubernetes.service_account
    assert launcher["job_namespace"] == settings.kubernetes.namespace
    assert values["runLauncher"]["type"] == read("dagster.yaml")["run_launcher"]["class"]


def test_the_receiver_of_webhooks_is_valid_and_agrees_with_the_others() -> None:
    validation = pytest.importorskip("kubernetes_validate")
    objects = {o["kind"]: o for o in yaml.safe_load_all((DEPLOY / "webhooks.yaml").read_text())}
    for version in ("1.28", "1.37"):
        for one in objects.values():
            validation.validate(one, version, strict=True)
    pod = objects["Deployment"]["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    (location,) = read("values.yaml")["dagster-user-deployments"]["deployments"]
    assert container["image"] == f"{location['image']['repository']}:{location['image']['tag']}"
    assert {s["name"] for s in location["envSecrets"]} == {s["secretRef"]["name"] for s in container["envFrom"]}
    assert {"name": "LLMOPS_SETTINGS", "value": "/etc/llmops/settings.yaml"} in container["env"]
    assert set(objects["Service"]["spec"]["selector"].items()) <= set(pod["metadata"]["labels"].items())
    assert container["ports"][0]["containerPort"] == WebhookSettings().port
    command = [sys.executable, *container["command"][1:3], "--help"]
    assert "--workspace" in subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_the_location_is_started_as_its_image_starts_it() -> None:
    (location,) = read("values.yaml")["dagster-user-deployments"]["deployments"]
    image = (DEPLOY.parent / "Dockerfile").read_text()
    assert all(f'"{word}"' in image for word in (*location["codeServerArgs"], str(location["port"])))
    assert location["image"]["tag"] != "latest" and "resources" not in location


def test_pools_are_as_the_local_profile_has_them() -> None:
    """One run at a time per project: otherwise two manual runs deploy at once."""
    local = yaml.safe_load((DEPLOY.parent / "resources" / "local_services" / "dagster.yaml").read_text())["concurrency"]
    assert read("dagster.yaml")["concurrency"] == local
    assert read("values.yaml")["concurrency"] == {"enabled": True, "pools": {"defaultLimit": 1, "granularity": "run"}}
