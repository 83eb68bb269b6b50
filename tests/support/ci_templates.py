"""What the templates in deploy/ci run: each file's command line, run in the shell of its system."""

import ast
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import yaml

CI = Path(__file__).parents[2] / "deploy" / "ci"
URL = "https://dagster.example.com"
SHELLS = {
    "github-actions.yml": ["sh", "-e", "-c"],
    "gitlab-ci.yml": ["sh", "-c"],
    "circleci.yml": ["bash", "-eo", "pipefail", "-c"],
    "Jenkinsfile": ["sh", "-xe", "-c"],
    "argo-workflow.yaml": ["sh", "-c"],  # Argo needs none; its words are quoted
    "airflow_dag.py": ["bash", "-c"],
}


class Step(NamedTuple):
    """`secrets` and `revision`: environment variables that the template, or its system, sets for the command."""

    command: str
    secrets: dict[str, str]
    revision: str | None


def step(name: str, revision: str) -> Step:
    """The only command of a template; `revision` stands where the system would put it."""
    text = (CI / name).read_text()
    if name == "Jenkinsfile":
        (command,) = re.findall(r"^ *sh '([^']*)'$", text, re.M)
        (secret,) = re.findall(r"environment \{ (\w+) = credentials\('([\w-]+)'\) \}", text)
        return Step(command, dict([secret]), "GIT_COMMIT")
    if name == "airflow_dag.py":
        (call,) = (n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Call) and _called(n) == "BashOperator")
        given = {k.arg: k.value for k in call.keywords}
        environment = ast.literal_eval(given["env"])
        (variable,) = (k for k, v in environment.items() if v == "{{ params.revision }}")
        del environment[variable]
        return Step(ast.literal_eval(given["bash_command"]), environment, variable)
    read: Any = yaml.safe_load(text)
    if name == "github-actions.yml":
        (job,) = read["jobs"].values()
        (only,) = job["steps"]
        return Step(only["run"], job["env"], "GITHUB_SHA")
    if name == "gitlab-ci.yml":
        (command,) = read["llmops-gates"]["script"]
        return Step(command, {"LLMOPS_REMOTE_TOKEN": "a masked variable"}, "CI_COMMIT_SHA")
    if name == "circleci.yml":
        (only,) = read["jobs"]["gates"]["steps"]
        return Step(only["run"]["command"], {"LLMOPS_REMOTE_TOKEN": "of the context"}, "CIRCLE_SHA1")
    (template,) = read["spec"]["templates"]
    container = template["container"]
    words = [w.replace("{{workflow.parameters.revision}}", revision) for w in container["command"] + container["args"]]
    return Step(shlex.join(words), {e["name"]: str(e["valueFrom"]) for e in container["env"]}, None)


def run(
    name: str, revision: str, token: str | None, url: str = URL, first: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs a template's command as its system does. `first`: a folder to look for programs in before the others."""
    found = step(name, revision)
    programs = [str(first)] if first else []
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([*programs, str(Path(sys.executable).parent), os.environ["PATH"]]),
        **({found.revision: revision} if found.revision else {}),
        **(dict.fromkeys(found.secrets, token) if token else {}),
    }
    command = [*SHELLS[name], found.command.replace(URL, url)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def _called(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else ""
