"""A project's own metric runs in the project's image: with what is in it, and apart from everything else."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmops_assets.delivery.code_rules import builder_spec
from llmops_assets.programs.evaluation.metrics.custom import call_function
from llmops_assets.programs.images.docker_run import UNTIL
from llmops_assets.programs.images.interface import BuilderFault
from llmops_assets.programs.runtime.errors import BadInput
from llmops_assets.programs.runtime.specs import CodeRules, MetricSpec, RunInImage
from tests.support.docker import PYTHON_BASE, Docker, python_archive

PAIRS = [("a b", "a"), ("c", "c")]


@pytest.fixture(scope="module")
def reference(docker: Docker) -> str:
    """An image with a Python and a module of its own, by digest."""
    docker.add_base(PYTHON_BASE, python_archive())
    dockerfile = f"FROM {PYTHON_BASE}\nENV PYTHONPATH=/own\nCOPY <own> /own/\n".replace("<own>", "only_here.py")
    folder = docker.folder / "context"
    folder.mkdir()
    (folder / "only_here.py").write_text("def length(text):\n    return len(text.split())\n")
    (folder / "only_here.py").chmod(0o644)
    (folder / "Dockerfile").write_text(dockerfile)
    tag = f"{docker.registry.address}/team/metrics:1"
    docker.run("build", "--network", "none", "--tag", tag, str(folder))
    docker.run("push", tag)
    return docker.said("image", "inspect", "--format", "{{index .RepoDigests 0}}", tag)


@pytest.fixture
def rules(docker: Docker, reference: str) -> Callable[..., CodeRules]:
    def make(**more: Any) -> CodeRules:
        given = {"metric_timeout_s": 60.0, "processes": 64, "memory": 256 * 2**20, "isolation": "required", **more}
        return CodeRules(image=RunInImage(reference=reference, builder=builder_spec(docker.settings())), **given)

    return make


def metric(folder: Path, code: str) -> MetricSpec:
    (folder / "metrics").mkdir(exist_ok=True)
    (folder / "metrics" / "own.py").write_text(code)
    (folder / "metrics" / "helper.py").write_text("SCALE = 2\n")
    (folder / "metrics" / "own.py").chmod(0o600)
    files = ("metrics/own.py", "metrics/helper.py")
    return MetricSpec(name="own", file="metrics/own.py", function="score", tree=str(folder), files=files)


def test_a_metric_uses_what_is_in_the_image_and_the_files_that_its_key_covers(
    rules: Callable[..., CodeRules], tmp_path: Path, docker: Docker
) -> None:
    code = "import only_here\nfrom helper import SCALE\n\n\ndef score(a, b):\n    return SCALE * only_here.length(a)\n"
    assert call_function(metric(tmp_path, code), rules(), PAIRS) == [4.0, 2.0]
    assert docker.said("ps", "--all", "--quiet") == "", "no container is left"


def test_a_metric_reaches_nothing_but_its_copy(rules: Callable[..., CodeRules], tmp_path: Path) -> None:
    """It tells what it could do in its own message."""
    code = f"""\
import os, socket
def refused(what):
    try:
        what()
    except OSError:
        return True
    return False
def score(a, b):
    found = dict(
        network=refused(lambda: socket.create_connection(("127.0.0.1", 22), 1)),
        devices=sorted(os.listdir("/sys/class/net")) == ["lo"],
        root=refused(lambda: open("/x", "w")),
        copy=refused(lambda: open("/project/tree/metrics/own.py", "w")),
        home=not os.path.exists({str(tmp_path)!r}),
        user=os.getuid() == 65534,
        secrets=not [name for name in os.environ if "TOKEN" in name],
    )
    raise ValueError(",".join(name for name, held in found.items() if not held) or "held")
"""
    with pytest.raises(BadInput, match="raised ValueError on row 1: held"):
        call_function(metric(tmp_path, code), rules(), PAIRS)


@pytest.mark.parametrize(
    ("code", "limits", "told"),
    [
        ("import time\ndef score(a, b):\n    time.sleep(600)\n", {"metric_timeout_s": 3.0}, "did not end within 3 s"),
        ("def score(a, b):\n    return len(b'x' * 2**30)\n", {}, "used more than 0.25 GiB of memory"),
        ("def score(a, b):\n    import os\n    os._exit(3)\n", {}, "ended its process with exit code 3"),
        ("import missing\n", {}, "cannot be imported: ModuleNotFoundError: No module named 'missing'"),
    ],
)
def test_a_limit_or_a_mistake_is_named(
    rules: Callable[..., CodeRules], tmp_path: Path, docker: Docker, code: str, limits: dict[str, Any], told: str
) -> None:
    with pytest.raises(BadInput, match=told):
        call_function(metric(tmp_path, code), rules(**limits), PAIRS)
    assert docker.said("ps", "--all", "--quiet") == ""


def test_an_image_that_cannot_be_had_is_no_fault_of_the_metric(
    rules: Callable[..., CodeRules], tmp_path: Path, docker: Docker
) -> None:
    there = rules()
    assert there.image is not None
    other = there.image.model_copy(update={"reference": f"{docker.registry.address}/team/metrics@sha256:{'0' * 64}"})
    with pytest.raises(BuilderFault, match="docker create failed"):
        call_function(
            metric(tmp_path, "def score(a, b):\n    return 1\n"), there.model_copy(update={"image": other}), PAIRS
        )


def test_an_image_without_python_says_so(rules: Callable[..., CodeRules], tmp_path: Path, docker: Docker) -> None:
    there = rules()
    assert there.image is not None
    from tests.support.docker import BASE

    other = there.model_copy(update={"image": there.image.model_copy(update={"reference": BASE})})
    with pytest.raises((BadInput, BuilderFault), match="python3"):
        call_function(metric(tmp_path, "def score(a, b):\n    return 1\n"), other, PAIRS)


def test_a_container_that_a_killed_process_has_left_is_removed_by_the_next_run(
    rules: Callable[..., CodeRules], tmp_path: Path, docker: Docker, reference: str
) -> None:
    docker.run("create", "--label", f"{UNTIL}=1000", "--network", "none", reference, "python3")
    assert docker.said("ps", "--all", "--quiet") != ""
    assert call_function(metric(tmp_path, "def score(a, b):\n    return 1\n"), rules(), PAIRS) == [1.0, 1.0]
    assert docker.said("ps", "--all", "--quiet") == ""
