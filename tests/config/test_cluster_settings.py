"""Settings of profile cluster: an error names its line before any pod starts, and contains no secret."""

import json
import pickle
from pathlib import Path

import pytest

from llmops_assets.config.kubernetes import Pod
from llmops_assets.config.settings import Settings
from llmops_assets.config.settings_file import dump_settings, load_settings
from llmops_assets.config.yaml_validation import ConfigError, validate_yaml
from resources.run_launching.kubernetes_pods import step_config

SECRET = "hunter2-and-more"
URL = f"postgresql+psycopg2://llmops:{SECRET}@postgres.example.com/llmops"
CLUSTER = """\
profile: cluster
ledger: {env: LLMOPS_TEST_LEDGER}
store: s3://bucket/store
mlflow: https://mlflow.example.com
"""


@pytest.fixture
def variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMOPS_TEST_LEDGER", URL)


def told(text: str) -> list[str]:
    with pytest.raises(ConfigError) as error:
        validate_yaml(Settings, text, "settings.yaml")
    return error.value.problems


# -- secrets --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("variable")
def test_a_secret_is_read_when_needed_and_neither_shown_nor_kept_nor_handed_on() -> None:
    settings = validate_yaml(Settings, CLUSTER, "settings.yaml")
    assert settings.ledger_url == URL
    everything = [
        repr(settings),
        str(settings),
        dump_settings(settings),
        settings.model_dump_json(),
        repr(vars(settings)),
    ]
    assert not any(SECRET in text for text in everything)
    assert SECRET.encode() not in pickle.dumps(settings)
    assert json.loads(settings.model_dump_json())["ledger"] == {"env": "LLMOPS_TEST_LEDGER"}


@pytest.mark.usefixtures("variable")
def test_another_process_reads_the_same_settings_from_what_is_handed_on() -> None:
    settings = validate_yaml(Settings, CLUSTER, "settings.yaml")
    assert Settings.model_validate_json(settings.model_dump_json()) == settings
    assert validate_yaml(Settings, dump_settings(settings), "handed on").ledger_url == URL


@pytest.mark.parametrize("key", ["ledger", "store", "mlflow"])
def test_a_password_in_the_file_is_refused_and_not_repeated(key: str) -> None:
    (problem,) = told(f"{key}: {URL}\n")
    assert problem.startswith(f"settings.yaml:1: {key}: it contains a password or token; ")
    assert SECRET not in problem


def test_a_variable_that_is_not_set_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "settings.yaml").write_text(CLUSTER)
    monkeypatch.setenv("LLMOPS_SETTINGS", str(tmp_path / "settings.yaml"))
    monkeypatch.delenv("LLMOPS_TEST_LEDGER", raising=False)
    with pytest.raises(ConfigError, match="LLMOPS_TEST_LEDGER, which the settings name, is not set"):
        load_settings()


# -- mistakes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("kubernetes:\n  namespce: ml\n", ":6: kubernetes.namespce: unknown key; did you mean 'namespace'?"),
        (
            "kubernetes:\n  stages:\n    fine_tuned_checkpiont: {gpus: 1}\n",
            ":7: kubernetes.stages.fine_tuned_checkpiont: unknown key; did you mean 'fine_tuned_checkpoint'?",
        ),
        (
            "kubernetes:\n  stages:\n    evaluation_report:\n      gpu: 1\n",
            ":8: kubernetes.stages.evaluation_report.gpu: unknown key; did you mean 'gpus'?",
        ),
        (
            "kubernetes:\n  default: {memory: 64}\n",
            ":6: kubernetes.default.memory: input should be a valid string, not 64",
        ),
        ("kubernetes:\n  default: {memory: '64'}\n", ":6: kubernetes.default.memory: string should match"),
        ("kubernetes:\n  default: {cpu: many}\n", ":6: kubernetes.default.cpu: string should match"),
        ("kubernetes:\n  default: {gpus: 1}\n", ":6: kubernetes.default: light stages need no GPU"),
        (
            "kubernetes:\n  default:\n    tolerations:\n      - {key: gpu, value: x}\n",
            ":8: kubernetes.default.tolerations.0: operator Exists compares no value",
        ),
        ("kubernetes:\n  default: {timeout: soon}\n", ":6: kubernetes.default.timeout: 'soon' is not a duration"),
        (
            "executor: in_process\nkubernetes: {namespace: ml}\n",
            ":6: kubernetes: it configures the pods of steps, but steps have none",
        ),
    ],
)
def test_a_mistake_is_reported_with_its_line(text: str, problem: str) -> None:
    found = told(CLUSTER + text)
    assert len(found) == 1 and found[0].removeprefix("settings.yaml").startswith(problem), found


def test_what_pods_cannot_share_is_refused() -> None:
    """Each pod would have its own ledger, and each would train."""
    found = told("profile: cluster\nledger: sqlite:////var/lib/llmops/ledger.sqlite\nstore: /var/lib/llmops/store\n")
    assert [p.split(":")[2].strip() for p in found] == ["mlflow", "ledger", "store"]
    assert all("pods share no disk" in p for p in found)


def test_an_unknown_key_beside_env_is_named() -> None:
    (problem,) = told("ledger: {env: A, default: sqlite}\n")
    assert problem.startswith("settings.yaml:1: ledger.default: unknown key")


def test_pods_are_not_for_the_local_profile() -> None:
    assert "executor: k8s_job belongs to profile cluster" in told("executor: k8s_job\n")[0]
    assert "set profile: cluster" in told("kubernetes: {default: {cpu: 1}}\n")[0]


# -- defaults -------------------------------------------------------------------------------------------------------


def test_what_is_not_asked_for_is_left_to_the_cluster() -> None:
    settings = validate_yaml(Settings, CLUSTER, "settings.yaml").kubernetes
    assert step_config(settings, "fine_tuned_checkpoint") == step_config(settings, "ci_report") == {}


def test_numbers_are_written_as_kubernetes_reads_them() -> None:
    assert (Pod(cpu=4).cpu, Pod(cpu="500m").cpu, Pod(cpu=0.5).cpu) == ("4", "500m", "0.5")  # type: ignore[arg-type]


def test_a_named_stage_inherits_nothing_from_the_default() -> None:
    """The merged selectors of a CPU node and a GPU node match no node."""
    text = "kubernetes:\n  default: {node_selector: {pool: cpu}}\n  stages: {quantized_artifact: {memory: 8Gi}}\n"
    settings = validate_yaml(Settings, CLUSTER + text, "settings.yaml").kubernetes
    assert "pod_spec_config" not in step_config(settings, "quantized_artifact")
    assert step_config(settings, "ci_report")["pod_spec_config"] == {"node_selector": {"pool": "cpu"}}
