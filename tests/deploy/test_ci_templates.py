"""The files under deploy/ci are copied by users: each is valid for its system, and runs one command, the same in all.

The command itself is tested with Dagster's webserver in tests/cli/test_remote.py. No CI system runs here.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from tests.support.ci_templates import CI, SHELLS, URL, run

SCHEMAS = {"github-actions.yml": "github-workflows", "gitlab-ci.yml": "gitlab-ci", "circleci.yml": "circle-ci"}
SHA = "0123456789abcdef0123456789abcdef01234567"


def refused(folder: Path, name: str, text: str) -> str:
    """What the system's published JSON schema says against a file; nothing if it is valid."""
    from check_jsonschema import main

    (folder / name).write_text(text)
    result = CliRunner().invoke(main, ["--builtin-schema", f"vendor.{SCHEMAS[name]}", "-v", str(folder / name)])
    assert result.exit_code in (0, 1), result.output
    return result.output if result.exit_code else ""


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("github-actions.yml", "timeout-minutes:", "timeout-minute:"),
        ("gitlab-ci.yml", "interruptible:", "interruptable:"),
        ("circleci.yml", "no_output_timeout:", "no_output_timeut:"),
    ],
)
def test_the_schema_takes_the_file_and_refuses_a_misspelt_key(
    name: str, right: str, wrong: str, tmp_path: Path
) -> None:
    text = (CI / name).read_text()
    assert right in text and refused(tmp_path, name, text) == ""
    assert wrong.rstrip(":") in refused(tmp_path, name, text.replace(right, wrong))


def test_argo_has_a_field_for_each_key() -> None:
    """Its models ignore unknown keys, so a misspelt one is noticed by what comes back."""
    from hera.workflows.models import WorkflowTemplate

    def understood(written: Any) -> Any:
        return WorkflowTemplate.model_validate(written).model_dump(by_alias=True, exclude_unset=True, mode="json")

    text = (CI / "argo-workflow.yaml").read_text()
    assert understood(yaml.safe_load(text)) == yaml.safe_load(text)
    for right, wrong in (("activeDeadlineSeconds:", "activeDeadlineSecond:"), ("retryPolicy:", "retryPolice:")):
        misspelt = yaml.safe_load(text.replace(right, wrong))
        assert right in text and understood(misspelt) != misspelt


def test_the_jenkinsfile_is_groovy() -> None:
    """Syntax only: no package has the rules for directives, which only a Jenkins server checks."""
    import tree_sitter_groovy
    from tree_sitter import Language, Parser

    parser = Parser(Language(tree_sitter_groovy.language()))
    text = (CI / "Jenkinsfile").read_text()
    assert not parser.parse(text.encode()).root_node.has_error
    for right, wrong in (("'HOURS')", "'HOURS'"), ("stages {", "stages"), ("time: 6,", "time 6,")):
        assert right in text and parser.parse(text.replace(right, wrong).encode()).root_node.has_error


def recorder(folder: Path) -> Path:
    """A folder with an `llmops` that prints its token and its words, and ends with 1, as after a rejection."""
    program = folder / "llmops"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$LLMOPS_REMOTE_TOKEN" "$@"\nexit 1\n')
    program.chmod(0o755)
    return folder


@pytest.mark.parametrize("name", SHELLS)
def test_the_shell_passes_on_words_token_and_exit_code(name: str, tmp_path: Path) -> None:
    ran = run(name, SHA, "a secret", first=recorder(tmp_path))
    words = ["run", "my-model", "--wait", "--remote", URL, "--revision", SHA]
    assert (ran.returncode, ran.stdout.splitlines()) == (1, ["a secret", *words]), ran.stderr


def test_each_template_is_of_the_same_image_and_described() -> None:
    described = (CI / "README.md").read_text()
    found = {p.name for p in CI.iterdir() if p.is_file()} - {"README.md"}
    assert found == set(SHELLS) and all(f"({name})" in described for name in found)
    (location,) = yaml.safe_load((CI.parent / "values.yaml").read_text())["dagster-user-deployments"]["deployments"]
    image = f"{location['image']['repository']}:{location['image']['tag']}"
    assert all(image in (CI / name).read_text() for name in found - {"airflow_dag.py"})


def test_airflow_runs_the_dag(tmp_path: Path) -> None:
    """With AIRFLOW_PYTHON, the interpreter of an environment that has Airflow 3, which is too large for this one."""
    python = os.environ.get("AIRFLOW_PYTHON") or (sys.executable if importlib.util.find_spec("airflow") else "")
    if not python:
        pytest.skip("no Airflow: install apache-airflow into an environment, set AIRFLOW_PYTHON to its interpreter")
    environment = {
        **os.environ,
        "PATH": f"{recorder(tmp_path)}{os.pathsep}{os.environ['PATH']}",
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(CI),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
        "AIRFLOW_CONN_LLMOPS": '{"conn_type": "generic", "password": "a-secret"}',
    }

    def airflow(*words: str) -> subprocess.CompletedProcess[str]:
        command = [python, "-m", "airflow", *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)

    assert airflow("db", "migrate").returncode == 0
    ran = airflow("dags", "test", "llmops_gates", "--conf", f'{{"revision": "{SHA}"}}')
    said = ran.stdout + ran.stderr
    assert all(word in said for word in ("a-secret", SHA, "exit code 1", "state=failed"))
    assert b"a-secret" not in (tmp_path / "airflow" / "airflow.db").read_bytes(), "shown as *** in the task's fields"
    bad = airflow("dags", "test", "llmops_gates", "--conf", '{"revision": "main; reboot"}')
    assert bad.returncode != 0 and "does not match" in bad.stdout + bad.stderr
