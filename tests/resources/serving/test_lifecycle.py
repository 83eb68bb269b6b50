"""Endpoints start, outlive the process that started them, report clearly why they cannot start, and end completely."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from llmops_assets.config.serving import ServingSettings
from llmops_assets.domain.records import Release
from resources.serving.client import ask
from resources.serving.interface import ServingError
from resources.serving.local.serving import LocalServing
from tests.support.ports import free_port

MakeRelease = Callable[[str], Release]
Find = Callable[[Path], list[psutil.Process]]

DEPLOY = """
import sys
from pathlib import Path
from llmops_assets.domain.records import Release
from llmops_assets.config.serving import ServingSettings
from resources.serving.local.serving import LocalServing

home, port, model, release = sys.argv[1:]
release = Release.model_validate_json(release)
serving = LocalServing(Path(home), ServingSettings(port=int(port)), start_timeout_s=600)
serving.deploy("demo", "production", release, Path(model))
serving.route("demo", "production", {release.digest: 1.0})
"""


def deploy_elsewhere(home: Path, port: int, model: Path, release: Release, **options: object) -> subprocess.Popen[str]:
    arguments = [str(home), str(port), str(model), release.model_dump_json()]
    return subprocess.Popen([sys.executable, "-c", DEPLOY, *arguments], text=True, **options)  # type: ignore[call-overload, no-any-return]


def test_endpoints_outlive_the_process_that_started_them(home: Path, model_file: Path, release: MakeRelease) -> None:
    """Even when its whole session is killed, as in a cancelled run."""
    port = free_port()
    starter = deploy_elsewhere(home, port, model_file, release("first"), start_new_session=True)
    assert starter.wait() == 0
    with suppress(ProcessLookupError):
        os.killpg(starter.pid, signal.SIGKILL)
    serving = LocalServing(home, ServingSettings(port=port))
    assert ask(serving.base_url("demo", "production"), "demo", "Hello", max_tokens=4).ok


def test_a_release_that_several_processes_deploy_at_once_runs_once(
    home: Path, model_file: Path, release: MakeRelease, engines: Find
) -> None:
    port = free_port()
    starters = [deploy_elsewhere(home, port, model_file, release("first")) for _ in range(3)]
    assert [s.wait() for s in starters] == [0, 0, 0]
    assert len(engines(home)) == 1


def test_deploying_again_changes_nothing(
    serving: LocalServing, home: Path, model_file: Path, release: MakeRelease, engines: Find
) -> None:
    for _ in range(2):
        serving.deploy("demo", "staging", release("first"), model_file)
        serving.route("demo", "staging", {release("first").digest: 1.0})
    before = {p.pid for p in engines(home)}
    serving.deploy("demo", "staging", release("first"), model_file)
    assert {p.pid for p in engines(home)} == before
    assert len(before) == 1


def test_a_taken_port_is_named_with_its_holder_before_anything_is_changed(
    serving: LocalServing, home: Path, model_file: Path, release: MakeRelease, processes: Find
) -> None:
    port = int(serving.base_url("x", "y").split(":")[2].split("/")[0])
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", port))
        holder.listen()
        with pytest.raises(ServingError, match=rf"port {port} on 127.0.0.1 is in use by pid \d+.*`serving: {{port: "):
            serving.deploy("demo", "production", release("first"), model_file)
    assert processes(home) == []
    assert serving.deployed("demo", "production") == ()
    serving.ensure_running()


def test_two_homes_do_not_share_a_port(serving: LocalServing, home: Path, tmp_path: Path) -> None:
    """By default Envoy lets both listen, and each would get half of the requests."""
    serving.ensure_running()
    port = int(serving.base_url("x", "y").split(":")[2].split("/")[0])
    with pytest.raises(ServingError, match=f"the gateway of another llmops home, {home}"):
        LocalServing(tmp_path / "other", ServingSettings(port=port)).ensure_running()


def test_an_engine_that_cannot_start_says_why_and_leaves_nothing(
    serving: LocalServing, home: Path, model_file: Path, tmp_path: Path, release: MakeRelease, engines: Find
) -> None:
    serving.deploy("demo", "production", release("first"), model_file)
    serving.route("demo", "production", {release("first").digest: 1.0})
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + b"\0" * 64)
    with pytest.raises(ServingError, match=r"broken\.gguf"):
        serving.deploy("demo", "production", release("second"), broken)
    assert serving.deployed("demo", "production") == (release("first").digest,)
    assert len(engines(home)) == 1
    assert ask(serving.base_url("demo", "production"), "demo", "Hello", max_tokens=4).ok, "the others are untouched"
    with pytest.raises(ServingError, match="no such file"):
        serving.deploy("demo", "production", release("third"), tmp_path / "missing.gguf")


def test_an_engine_that_never_becomes_healthy_is_given_up(
    home: Path, model_file: Path, release: MakeRelease, engines: Find
) -> None:
    idle = (sys.executable, "-c", "import time; print('loading', flush=True); time.sleep(600)")
    serving = LocalServing(home, ServingSettings(port=free_port()), start_timeout_s=3, engine=idle)
    said: list[str] = []
    with pytest.raises(ServingError, match=r"not healthy after 3 s(?s:.*)loading"):
        serving.deploy("demo", "production", release("first"), model_file, said.append)
    assert "waiting for demo.production" in said[0]
    assert engines(home) == []


def test_engines_get_none_of_the_secrets_of_the_process_that_starts_them(
    serving: LocalServing,
    home: Path,
    model_file: Path,
    release: MakeRelease,
    processes: Find,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
    serving.deploy("demo", "production", release("first"), model_file)
    assert len(processes(home)) == 3
    assert not [p for p in processes(home) if "AWS_SECRET_ACCESS_KEY" in p.environ()]


def test_down_leaves_no_process_and_what_was_deployed_can_come_back(
    serving: LocalServing, home: Path, model_file: Path, release: MakeRelease, processes: Find
) -> None:
    serving.down()
    serving.deploy("demo", "production", release("first"), model_file)
    serving.route("demo", "production", {release("first").digest: 1.0})
    assert not serving.stopped()
    for _ in range(2):
        serving.down()
        assert processes(home) == []
        assert serving.stopped()
    serving.ensure_running()
    assert ask(serving.base_url("demo", "production"), "demo", "Hello", max_tokens=4).ok
    serving.down(forget=True)
    assert processes(home) == []
    serving.ensure_running()
    assert serving.endpoints() == []


def test_down_also_ends_what_a_killed_supervisor_left_behind(
    serving: LocalServing, home: Path, model_file: Path, release: MakeRelease, processes: Find
) -> None:
    serving.deploy("demo", "production", release("first"), model_file)
    psutil.Process(int((home / "serving" / "supervisord.pid").read_text())).kill()
    serving.down()
    assert processes(home) == []


def test_a_home_with_a_long_and_odd_path_serves_too(
    tmp_path: Path, model_file: Path, release: MakeRelease, processes: Find
) -> None:
    """A Unix socket's path is limited to 107 bytes, and '%', quotes and spaces are special to supervisord."""
    home = tmp_path / ("a long path, 100% 'odd' " + "x" * 90) / "home"
    serving = LocalServing(home, ServingSettings(port=free_port()))
    try:
        serving.deploy("demo", "production", release("first"), model_file)
        serving.route("demo", "production", {release("first").digest: 1.0})
        assert ask(serving.base_url("demo", "production"), "demo", "Hello", max_tokens=4).ok
    finally:
        serving.down()
    assert processes(home) == []


def test_projects_and_environments_change_side_by_side(
    serving: LocalServing, model_file: Path, release: MakeRelease
) -> None:
    digest = release("first").digest
    faults: list[Exception] = []

    def bring_up(project: str, environment: str) -> None:
        try:
            serving.deploy(project, environment, release("first"), model_file)
            serving.route(project, environment, {digest: 1.0})
        except Exception as fault:
            faults.append(fault)

    places = [("demo", "staging"), ("demo", "production"), ("other", "production")]
    threads = [threading.Thread(target=bring_up, args=place) for place in places]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert [(e.project, e.environment, e.status) for e in serving.endpoints()] == [
        ("demo", "production", "serving"),
        ("demo", "staging", "serving"),
        ("other", "production", "serving"),
    ]
    assert [e.project for e in serving.endpoints("other")] == ["other"]
    for project, environment in places:
        assert ask(serving.base_url(project, environment), project, "Hello", max_tokens=4).ok
