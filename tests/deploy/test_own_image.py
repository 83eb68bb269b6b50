"""The project's own Dockerfile: built, started and health-checked for real.

Takes minutes, and needs root, Docker, Debian's archive and a package index, so the ordinary suite skips it:

    make image-test
"""

import functools
import http.server
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmops_assets.programs.images.lint import lint_dockerfile
from tests.support.docker import Docker
from tests.support.waiting import wait_for

REPOSITORY = Path(__file__).parents[2]
SWITCH = "LLMOPS_TEST_OWN_IMAGE"
IMAGE, BASE = "llmops-assets:test", "tests/site-base:3.11"
pytestmark = [
    pytest.mark.own_image,
    pytest.mark.skipif(not os.environ.get(SWITCH), reason="it takes minutes and a package index: make image-test"),
]


def pip_says(key: str) -> str:
    """A setting of this machine's pip; empty if there is none."""
    for section in (":env:", "global"):
        done = subprocess.run(["pip", "config", "get", f"{section}.{key}"], capture_output=True, text=True)
        if done.returncode == 0:
            return done.stdout.strip()
    return ""


@pytest.fixture(scope="module")
def base(docker: Docker, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What python:3.11-slim is: Debian with Python 3.11, and this machine's certificates."""
    if not Path("/usr/bin/mmdebstrap").exists():
        words = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "mmdebstrap"]
        if subprocess.run(words, capture_output=True).returncode:
            pytest.skip("mmdebstrap cannot be installed")
    folder = tmp_path_factory.mktemp("base")
    packages = "ca-certificates,python3,python3-venv,python3-pip"
    words = ["mmdebstrap", "--variant=minbase", f"--include={packages}", "bookworm", str(folder / "base.tar")]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    docker.run("import", str(folder / "base.tar"), "tests/debian:12")
    certificates = Path(pip_says("cert") or "/etc/ssl/certs/ca-certificates.crt")
    (folder / "site").mkdir()
    (folder / "site" / "ca.crt").write_bytes(certificates.read_bytes())
    lines = [
        "FROM tests/debian:12",
        "COPY ca.crt /etc/ssl/certs/ca-certificates.crt",
        "RUN ln -s python3 /usr/bin/python",
    ]
    (folder / "site" / "Dockerfile").write_text("\n".join(lines) + "\n")
    docker.run("build", "--network", "none", "--tag", BASE, str(folder / "site"))
    return BASE


@pytest.fixture(scope="module")
def pip_conf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """This machine's settings of pip for the build, with its folder of local wheels, if there is one, over HTTP."""
    lines = ["[global]", "cert = /etc/ssl/certs/ca-certificates.crt"]
    lines += [f"index-url = {index}"] if (index := pip_says("index-url")) else []
    server = None
    links = pip_says("find-links")
    if links and Path(links).is_dir():
        handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=links)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        lines.append(f"find-links = http://127.0.0.1:{server.server_port}/")
    file = tmp_path_factory.mktemp("pip") / "pip.conf"
    file.write_text("\n".join(lines) + "\n")
    yield file
    if server is not None:
        server.shutdown()


@pytest.fixture(scope="module")
def image(docker: Docker, base: str, pip_conf: Path) -> str:
    arguments = {"PYTHON_IMAGE": base, "TORCH_INDEX": "", "REVISION": "a" * 40}
    words = [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]
    secret = ("--secret", f"id=pip-conf,src={pip_conf}")
    docker.run("build", "--network", "host", *words, *secret, "--tag", IMAGE, str(REPOSITORY))
    size = int(docker.said("image", "inspect", "--format", "{{.Size}}", IMAGE))
    print(f"{IMAGE}: {size / 1e9:.2f} GB")
    return IMAGE


def test_it_starts_and_becomes_healthy_as_nobody_special(docker: Docker, image: str) -> None:
    """As in a cluster: no root, a read-only root file system, and no network but its own."""
    words = (
        "run",
        "--detach",
        "--init",
        "--network",
        "none",
        "--read-only",
        "--tmpfs",
        "/tmp",
        "--health-interval",
        "5s",
    )
    container = docker.said(*words, "--tmpfs", "/var/lib/llmops:mode=0700,uid=10001,gid=10001", image)
    try:

        def healthy() -> bool:
            state = json.loads(docker.said("inspect", "--format", "{{json .State}}", container))
            assert state["Running"], docker.run("logs", container).stderr.decode()[-2000:]
            return state["Health"]["Status"] == "healthy"

        wait_for("a healthy code server", healthy)
        assert docker.said("exec", container, "id", "-u") == "10001"
        loaded = docker.said(
            "exec", container, "python", "-c", "import llmops_assets.definitions as d; print(d.defs is not None)"
        )
        assert loaded.splitlines()[-1] == "True"
        labels = json.loads(docker.said("image", "inspect", "--format", "{{json .Config.Labels}}", image))
        assert labels["org.opencontainers.image.revision"] == "a" * 40
    finally:
        docker.run("rm", "--force", container, check=False)


@pytest.mark.parametrize("program", ["ci", "image", "train", "evaluate", "quantize", "served_evaluate"])
def test_its_programs_load_without_a_network(docker: Docker, image: str, program: str) -> None:
    words = ("run", "--rm", "--network", "none", "--read-only", "--tmpfs", "/tmp", image)
    said = docker.said(*words, "python", "-m", f"llmops_assets.programs.{program}", "--help")
    assert "JSON file with the specification" in said


def test_it_keeps_no_secret_and_has_no_lint_error(docker: Docker, image: str, tmp_path: Path) -> None:
    history = docker.said("history", "--no-trunc", image)
    assert "127.0.0.1" not in history and "find-links" not in history
    found = docker.run("run", "--rm", "--network", "none", image, "ls", "/etc/pip.conf", check=False)
    assert found.returncode != 0 or docker.said("run", "--rm", "--network", "none", image, "cat", "/etc/pip.conf") == ""
    text = (REPOSITORY / "Dockerfile").read_text()
    check = lint_dockerfile(text, "Dockerfile", tmp_path, tmp_path / "lint.json")
    assert check.passed, check.detail
