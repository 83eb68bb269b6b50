"""A Docker daemon and a registry of their own for tests: Debian's dockerd and docker-registry, without any network.

Nothing can be pulled here, so base images are made from what the machine has: Debian's static busybox, and this Python.
"""

import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmops_assets.config.images import ImageSettings
from llmops_assets.machine.locks import alone
from tests.support.ports import free_port
from tests.support.waiting import CEILING_S, wait_for

CLIENT = "/usr/bin/docker"
"""Debian's. Another client on the PATH may lack BuildKit."""
NEEDED = {CLIENT: "docker.io", "/usr/bin/docker-registry": "docker-registry", "/bin/busybox": "busybox-static"}
BASE, PYTHON_BASE = "tests/base:1", "tests/python:1"
DPKG = """Package: openssl
Status: install ok installed
Priority: optional
Section: utils
Maintainer: Nobody <nobody@example.com>
Architecture: amd64
Version: 3.0.1-1
Description: for tests
"""


def why_not() -> str | None:
    """Why no daemon can be started here; installs Debian's packages if they are missing and can be had."""
    missing = [package for path, package in NEEDED.items() if not Path(path).exists()]
    if os.getuid() != 0:
        return "dockerd needs root"
    if missing and shutil.which("apt-get"):
        with alone(Path(tempfile.gettempdir()) / "llmops-tests-apt.lock"):  # each test process may come here
            for words in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *missing]):
                subprocess.run(["apt-get", *words], capture_output=True, timeout=600)
        missing = [package for path, package in NEEDED.items() if not Path(path).exists()]
    return f"{', '.join(missing)} cannot be installed" if missing else None


class Registry:
    """Debian's docker-registry on a folder. It can be stopped, and started again at the same port."""

    def __init__(self, folder: Path, login: tuple[str, str] | None = None):
        self.folder, self.port, self.login = folder, free_port(), login
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "config.yml"
        storage = f"storage: {{filesystem: {{rootdirectory: {self.folder}/data}}}}"
        access = ""
        if self.login is not None:
            import crypt

            (self.folder / "users").write_text(f"{self.login[0]}:{crypt.crypt(self.login[1], '$2y$05$' + 'a' * 22)}\n")
            access = f"auth: {{htpasswd: {{realm: tests, path: {self.folder}/users}}}}\n"
        config.write_text(f"{access}version: 0.1\n{storage}\nhttp: {{addr: {self.address}}}\nlog: {{level: error}}\n")
        with (self.folder / "log").open("ab") as log:
            words = ["/usr/bin/docker-registry", "serve", str(config)]
            self.process = subprocess.Popen(words, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        import httpx

        def answers() -> bool:
            try:
                return httpx.get(f"http://{self.address}/v2/").status_code in (200, 401)
            except httpx.HTTPError:
                return False

        wait_for("the registry", answers)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
            self.process = None


class Docker:
    """A daemon with its own folders and socket."""

    def __init__(self, folder: Path):
        self.folder, self.host = folder, f"unix://{folder}/sock"
        self.registry = Registry(folder / "registry")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> str | None:
        """Why it does not start; None if it runs."""
        there = {name: str(self.folder / name) for name in ("data", "exec", "pid")}
        words = [
            *("dockerd", "--data-root", there["data"], "--exec-root", there["exec"], "--pidfile", there["pid"]),
            *("--host", self.host, "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false"),
            *("--bridge=none", "--log-level=error"),
        ]
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(words, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        until = time.monotonic() + CEILING_S
        while time.monotonic() < until:
            if self.process.poll() is not None:
                return f"dockerd ended: {(self.folder / 'log').read_text().strip()[-300:]}"
            if self.run("info", check=False).returncode == 0:
                return None
            time.sleep(0.2)
        return "dockerd does not answer"

    def run(self, *words: str, check: bool = True, given: bytes | None = None) -> "subprocess.CompletedProcess[bytes]":
        env = {**os.environ, "DOCKER_HOST": self.host, "DOCKER_BUILDKIT": "1"}
        done = subprocess.run([CLIENT, *words], env=env, input=given, capture_output=True)
        assert not check or done.returncode == 0, done.stderr.decode()
        return done

    def said(self, *words: str) -> str:
        return self.run(*words).stdout.decode().strip()

    def add_base(self, name: str, archive: bytes) -> None:
        self.run("import", "-", name, given=archive)

    def settings(self, **more: Any) -> ImageSettings:
        scan = {"update": False, "not_scanned": "accept"}
        given = {"host": self.host, "client": CLIENT, "registry": f"{self.registry.address}/team", "scan": scan}
        return ImageSettings.model_validate({**given, **more})

    def stop(self) -> None:
        self.registry.stop()
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
        for namespace in (self.folder / "exec" / "netns").glob("*"):
            subprocess.run(["umount", str(namespace)], capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)


def busybox_archive() -> bytes:
    """A root file system: a shell, and the files by which a scanner knows Debian 12 with one package."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.add("/bin/busybox", "bin/busybox")
        for name in ("sh", "echo", "cat", "sleep", "dd", "id", "wget", "ls", "head"):
            _link(tar, f"bin/{name}", "busybox")
        _add_debian(tar)
        for folder in ("tmp", "proc", "sys", "dev"):
            _folder(tar, folder)
    return out.getvalue()


def python_archive() -> bytes:
    """A root file system with this Python and its standard library, as far as a metric needs it."""
    program = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"
    library = Path(sys.base_prefix) / "lib" / f"python3.{sys.version_info.minor}"
    said = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=True).stdout
    needed = {word for line in said.splitlines() for word in line.split() if word.startswith("/")}
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", dereference=True) as tar:
        tar.add("/bin/busybox", "bin/busybox")
        tar.add(program, str(program)[1:])
        for path in needed:
            tar.add(path, path[1:])
        _add_debian(tar)

        def keep(found: tarfile.TarInfo) -> tarfile.TarInfo | None:
            left = (
                "site-packages",
                "test",
                "__pycache__",
                "idlelib",
                "ensurepip",
                "tkinter",
                "config-3",
            )
            return None if any(part.startswith(left) for part in Path(found.name).parts) else found

        tar.add(library, str(library)[1:], filter=keep)
        for folder in ("tmp", "proc", "sys", "dev"):
            _folder(tar, folder)
        _link(tar, "usr/bin/python3", str(program)) if str(program) != "/usr/bin/python3" else None
    return out.getvalue()


def _add_debian(tar: tarfile.TarFile) -> None:
    """The files by which a scanner knows Debian 12, with one package."""
    _add(tar, "etc/os-release", 'PRETTY_NAME="Debian"\nID=debian\nVERSION_ID="12"\n')
    _add(tar, "etc/debian_version", "12.5\n")
    _add(tar, "var/lib/dpkg/status", DPKG)


def _add(tar: tarfile.TarFile, name: str, text: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(text.encode())
    tar.addfile(entry, io.BytesIO(text.encode()))


def _link(tar: tarfile.TarFile, name: str, to: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = tarfile.SYMTYPE, to
    tar.addfile(entry)


def _folder(tar: tarfile.TarFile, name: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
    tar.addfile(entry)


@pytest.fixture(scope="session")
def docker() -> Iterator[Docker]:
    """A daemon and a registry, with the base image `tests/base:1`."""
    if why := why_not():
        pytest.skip(why)
    # The path of a socket has at most 108 bytes, and pytest's own folders are long.
    made = Docker(Path(tempfile.mkdtemp(prefix="llmops-docker-")))
    try:
        if why := made.start():
            pytest.skip(why)
        made.registry.start()
        made.add_base(BASE, busybox_archive())
        yield made
    finally:
        made.stop()
