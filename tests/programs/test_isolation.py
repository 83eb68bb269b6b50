"""What a project's own code cannot reach: secrets, our state, the network, the work tree, and life after its end."""

import http.server
import json
import os
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest

from llmops_assets.machine import isolation
from llmops_assets.programs.evaluation.metrics.base import Answer
from llmops_assets.programs.evaluation.scoring import score
from llmops_assets.programs.runtime.errors import BadInput
from llmops_assets.programs.runtime.specs import CodeRules, MetricSpec
from tests.programs.conftest import ENVIRONMENT, command, run_program
from tests.support.projects import PYTEST_INI

needs_walls = pytest.mark.skipif(isolation.problem() is not None, reason=str(isolation.problem()))

HOSTILE = """\
import glob, json, os, pathlib, socket, subprocess, sys, time
import pytest

HOME, TREE, PORT = {home!r}, {tree!r}, {port}

def denied(what):
    with pytest.raises((OSError, AssertionError)):
        what()

def test_no_environment_of_another_process():
    seen = b"".join(pathlib.Path(p).read_bytes() for p in glob.glob("/proc/[0-9]*/environ"))
    assert b"s3cret" not in seen and b"s3cret" not in json.dumps(dict(os.environ)).encode()
    assert os.getppid() < 10 and len(glob.glob("/proc/[0-9]*")) < 10

def test_no_file_of_the_home_or_the_machine():
    denied(lambda: pathlib.Path(HOME, "ledger.sqlite").read_bytes())
    denied(lambda: pathlib.Path(HOME, "ledger.sqlite").write_bytes(b"mine"))
    assert not pathlib.Path("/root/.ssh").exists() and not pathlib.Path("/etc/shadow").exists()
    assert os.listdir("/home") == [] if os.path.exists("/home") else True

def test_no_network_but_its_own():
    denied(lambda: socket.create_connection(("127.0.0.1", PORT), 2))
    with socket.create_server(("127.0.0.1", 0)) as own:
        socket.create_connection(own.getsockname(), 2).close()

def test_nothing_but_its_copy_can_be_written():
    for place in (TREE, sys.prefix, "/usr", "/etc", "/dev", "/"):
        denied(lambda: pathlib.Path(place, "mark").write_text("x"))
    pathlib.Path("committed.txt").write_text("mine")

def test_no_signal_to_another_process():
    denied(lambda: os.kill({pid}, 0))

def test_it_leaves_a_daemon():
    code = "import time\\nwhile True: time.sleep(1)  # outlives-" + str(PORT)
    subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
"""


@needs_walls
def test_a_hostile_test_reaches_nothing(tmp_path: Path) -> None:
    """A project's test read our secrets from /proc/PPID/environ, changed another project's record in the ledger,
    rewrote a committed file in the shared work tree, and outlived CI."""
    home, tree = tmp_path / "home", tmp_path / "tree"
    home.mkdir()
    tree.mkdir()
    (home / "ledger.sqlite").write_bytes(b"ours")
    (tree / "committed.txt").write_text("ours")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = server.server_address[1]
    (tree / "pytest.ini").write_text(PYTEST_INI)
    (tree / "test_hostile.py").write_text(HOSTILE.format(home=str(home), tree=str(tree), port=port, pid=os.getpid()))
    spec = {"work_tree": str(tree), "ruff": False, "code": {"isolation": "required"}}
    subprocess.run(command("ci", spec, tmp_path / "out"), env={**ENVIRONMENT, "PASSWORD": "s3cret"}, check=True)
    server.shutdown()
    found = {c["name"]: c for c in json.loads((tmp_path / "out/result.json").read_text())["checks"]}
    assert found["tests"]["passed"], found["tests"]["detail"]
    assert found["isolation"]["passed"] and "namespaces" in found["isolation"]["summary"]
    assert (home / "ledger.sqlite").read_bytes() == b"ours" and (tree / "committed.txt").read_text() == "ours"
    left = [p for p in psutil.process_iter() if f"outlives-{port}" in " ".join(_words(p))]
    assert left == []
    assert not (tmp_path / "out/project").exists()


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@pytest.mark.parametrize("isolation_is", ["auto", "off"])
@pytest.mark.parametrize(
    ("code", "limits", "says"),
    [
        (
            "held = []\nwhile True: held.append(bytearray(2**20))",
            {"memory": 400 * 2**20},
            ("MemoryError", "GiB of memory"),
        ),
        (
            "import os, time\nwhile True:\n    if os.fork() == 0:\n        time.sleep(600)",
            {"processes": 40},
            ("more than 40 processes",),
        ),
    ],
)
def test_a_bomb_in_a_test_is_ended_and_named(
    tmp_path: Path, isolation_is: str, code: str, limits: dict[str, Any], says: tuple[str, ...]
) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/pytest.ini").write_text(PYTEST_INI)
    body = "\n".join(f"    {line}" for line in code.splitlines())
    (tmp_path / "tree/test_it.py").write_text(f"def test_a():\n{body}\n")
    spec = {"work_tree": str(tmp_path / "tree"), "ruff": False, "code": {"isolation": isolation_is, **limits}}
    (*_, tests) = run_program("ci", spec, tmp_path / "out").result["checks"]
    assert not tests["passed"] and any(s in tests["summary"] + tests["detail"] for s in says), tests


def test_where_it_cannot_be_had_the_report_says_so_and_required_refuses(tmp_path: Path) -> None:
    """Before anything of the project has run. The PATH has no bubblewrap."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/pytest.ini").write_text(PYTEST_INI)
    (tmp_path / "tree/test_it.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n\ndef test_a():\n    pass\n")
    (tmp_path / "bin").mkdir()
    environment = {**ENVIRONMENT, "PATH": str(tmp_path / "bin")}

    def run(rule: str) -> tuple[int, Path]:
        spec = {"work_tree": str(tmp_path / "tree"), "ruff": False, "code": {"isolation": rule}}
        out = tmp_path / rule
        return subprocess.run(command("ci", spec, out), env=environment).returncode, out

    code, out = run("required")
    assert code == 2 and not (tmp_path / "ran").exists()
    assert "apt-get install bubblewrap" in json.loads((out / "error.json").read_text())["message"]
    code, out = run("auto")
    first, tests = json.loads((out / "result.json").read_text())["checks"]
    assert code == 0 and tests["passed"] and (tmp_path / "ran").exists()
    assert (
        not first["passed"] and first["severity"] == "warn" and first["summary"].startswith("not isolated: bubblewrap")
    )


def test_where_a_containers_kernel_refuses_it_the_report_says_that_the_container_is_the_only_isolation(
    tmp_path: Path,
) -> None:
    """In a pod bubblewrap is installed, and fails: what stands around the code then is the pod, and nothing else."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/pytest.ini").write_text(PYTEST_INI)
    (tmp_path / "tree/test_it.py").write_text("def test_a():\n    pass\n")
    refused = tmp_path / "bin/bwrap"
    refused.parent.mkdir()
    refused.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    refused.chmod(0o755)
    environment = {**ENVIRONMENT, "PATH": f"{refused.parent}:{os.environ['PATH']}"}
    for rule, code in (("auto", 0), ("required", 2)):
        spec = {"work_tree": str(tmp_path / "tree"), "ruff": False, "code": {"isolation": rule}}
        assert subprocess.run(command("ci", spec, tmp_path / rule), env=environment).returncode == code
    [first, *_] = json.loads((tmp_path / "auto/result.json").read_text())["checks"]
    error = json.loads((tmp_path / "required/error.json").read_text())
    for said in (first["summary"], error["message"]):
        assert "the container is the only isolation of the code): bwrap: No permissions" in said
    assert first["summary"].startswith("not isolated: ") and error["where"] == "compute.isolation: required"


def test_ci_tests_only_what_git_holds(tmp_path: Path) -> None:
    """Data that another stage had pulled into the work tree is in no key, and tests depended on it."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "kept.txt").write_text("in Git")
    (tree / "test_it.py").write_text(
        "import os\n\ndef test_a():\n    assert sorted(os.listdir('.')) == ['kept.txt', 'test_it.py']\n"
    )
    for words in (("init", "-q"), ("add", "."), ("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x")):
        subprocess.run(["git", *words], cwd=tree, check=True)
    (tree / "pulled.jsonl").write_text("{}")
    spec = {"work_tree": str(tree), "ruff": False}
    (*_, tests) = run_program("ci", spec, tmp_path / "out").result["checks"]
    assert tests["passed"], tests


# -- metrics --------------------------------------------------------------------------------------------------------


def metric(folder: Path, code: str, **files: str) -> MetricSpec:
    shutil.rmtree(folder, ignore_errors=True)
    for name, text in {"metrics.py": code, **files}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return MetricSpec(name="mine", file="metrics.py", function="metric", tree=str(folder), files=("metrics.py",))


def scored(spec: MetricSpec, **rules: Any) -> float:
    (found,) = score([spec], [Answer(prediction="ab", reference="abcd")], CodeRules(**rules)).metrics
    return found.value


@needs_walls
def test_a_metric_runs_outside_the_evaluation_without_its_secrets_or_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ran in the evaluation's own process, with its memory, its files and the network."""
    monkeypatch.setenv("PASSWORD", "s3cret")
    code = (
        "import glob, os, socket, sys\n\ndef metric(p, r):\n"
        "    assert 'torch' not in sys.modules and 'evaluate' not in sys.modules\n"
        "    assert 's3cret' not in str(os.environ)\n"
        f"    assert not os.path.exists({str(tmp_path / 'beside')!r})\n"
        "    assert [i for _, i in socket.if_nameindex()] == ['lo']\n"
        "    return len(p) / len(r)\n"
    )
    (tmp_path / "beside").touch()
    assert scored(metric(tmp_path / "p", code), isolation="required") == 0.5


def test_a_metric_sees_only_the_files_that_its_key_covers(tmp_path: Path) -> None:
    """A file that is in no key could change, and the stale report would be used again."""
    code = "def metric(p, r):\n    return float(open('words.txt').read())\n"
    spec = metric(tmp_path / "p", code, **{"words.txt": "3"})
    with pytest.raises(BadInput, match=r"No such file or directory: 'words.txt'"):
        scored(spec)
    assert scored(spec.model_copy(update={"files": ("metrics.py", "words.txt")})) == 3.0


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import os\n\ndef metric(p, r):\n    os._exit(0)\n", "ended its process with exit code 0 before it returned"),
        ("def metric(p, r):\n    while True: pass\n", "did not end within 2 s"),
    ],
)
def test_a_metric_that_does_not_return_is_named(tmp_path: Path, code: str, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        scored(metric(tmp_path / "p", code), metric_timeout_s=2.0)


def test_a_metric_of_a_package_uses_relative_imports(tmp_path: Path) -> None:
    files = {
        "pkg/__init__.py": "",
        "pkg/one/__init__.py": "",
        "pkg/one/m.py": "from ..two import HALF\n\ndef metric(p, r):\n    return HALF\n",
        "pkg/two.py": "HALF = 0.5\n",
    }
    spec = metric(tmp_path / "p", "", **files)
    assert scored(spec.model_copy(update={"file": "pkg/one/m.py", "files": tuple(files)})) == 0.5
