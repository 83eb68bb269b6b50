"""A CI job starts or joins the run of its commit on another machine, and its exit code is the gates' answer.

Dagster's own webserver answers; the proxy in front of it loses connections.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from llmops_assets.cli.remote import RemoteWait, full_sha, remote_job
from llmops_assets.config.yaml_validation import ConfigError
from llmops_assets.delivery.run_tags import PROJECT_TAG, REVISION_TAG
from llmops_assets.domain.remote import Answered, RemoteRun, StartOne, WaitOn, at_first, decide
from resources.dagster_remote.client import RemoteDagster, RemoteError
from tests.support import ci_templates
from tests.support.ports import free_port
from tests.support.waiting import CEILING_S, wait_for

LOCATION = """
import dagster as dg

class Config(dg.Config):
    revision: str = ""

def project(name):
    @dg.asset(name="ci_report", key_prefix=[name])
    def ci_report(context: dg.AssetExecutionContext, config: Config) -> None:
        context.log.info("checking " + config.revision[:4])
        outcome = {"a": "released", "b": "rejected"}.get(config.revision[0])
        if outcome == "rejected":
            context.log.warning("evaluation_report refuses: perplexity 9 above 5")
        if outcome is None:
            raise ValueError("it broke")
        context.instance.add_run_tags(context.run_id, {"llmops/outcome": outcome})
    job = dg.define_asset_job(name.replace("-", "_") + "_deliver", [ci_report], tags={"llmops/project": name})
    return ci_report, job

zoo, model = project("zoo"), project("my-model")
defs = dg.Definitions(assets=[zoo[0], model[0]], jobs=[zoo[1], model[1]], executor=dg.in_process_executor)
"""

INSTANCE = """
telemetry: {enabled: false}
run_coordinator: {module: dagster.core.run_coordinator, class: DefaultRunCoordinator}  # needs no daemon
"""


class Proxy:
    """In front of the webserver. `faults`: for each request one of before (it never arrives), after (its answer gets
    lost) and 503; then none. `token`: what a request must bear, if anything."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.token = ""
        self.url = ""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    home = tmp_path_factory.mktemp("remote")
    (home / "location.py").write_text(LOCATION)
    (home / "dagster.yaml").write_text(INSTANCE)
    port, proxy = free_port(), Proxy()
    command = [str(Path(sys.executable).with_name("dagster-webserver")), "-f", "location.py", "-p", str(port)]
    process = subprocess.Popen(
        command, cwd=home, env={**os.environ, "DAGSTER_HOME": str(home)},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            fault = proxy.faults.pop(0) if proxy.faults else ""
            if proxy.token and self.headers["Authorization"] != f"Bearer {proxy.token}":
                self.send_response(401)
                self.end_headers()
                return
            if fault == "503" or self.path != "/graphql":
                self.send_response(503 if fault else 404)
                self.end_headers()
            if fault in ("before", "503") or self.path != "/graphql":
                return
            headers = {"content-type": "application/json"}
            answer = httpx.post(f"http://127.0.0.1:{port}/graphql", content=body, headers=headers, timeout=60)
            if fault == "after":
                return
            self.send_response(answer.status_code)
            self.end_headers()
            self.wfile.write(answer.content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:

        def up() -> bool:
            try:
                return httpx.get(f"http://127.0.0.1:{port}/server_info", timeout=5).status_code == 200
            except httpx.HTTPError:
                return False

        wait_for("Dagster's webserver", up)
        proxy.url = f"http://127.0.0.1:{server.server_port}"
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        process.terminate()
        process.wait(CEILING_S)


def wait_for_answer(proxy: Proxy, revision: str, project: str = "zoo") -> tuple[Answered, str, list[str]]:
    said: list[str] = []
    remote = RemoteDagster(proxy.url, 60.0, said.append, lambda seconds: time.sleep(0.05))
    job = remote_job(remote, project)
    wait = RemoteWait(remote, job, revision, said.append, grace_s=0.0, sleep=lambda seconds: time.sleep(0.2))
    found, why = wait.answer()
    return found, why, said


def test_a_commit_is_run_once_and_its_answer_is_read_again(served: Proxy) -> None:
    first, _, said = wait_for_answer(served, "a" * 40, "my-model")
    assert (first.good, first.outcome) == (True, "released")
    assert "ci_report started" in said and "ci_report: checking aaaa" in said
    again, _, said = wait_for_answer(served, "a" * 40, "my-model")
    assert again == first and said[0].endswith(f"/runs/{first.run_id}"), "it is answered already"


def test_a_rejection_is_a_negative_answer_with_its_reason(served: Proxy) -> None:
    found, why, _ = wait_for_answer(served, "b" * 40, "my-model")
    assert (found.good, found.outcome) == (False, "rejected")
    assert why == "evaluation_report refuses: perplexity 9 above 5"


def test_a_run_that_breaks_is_no_success_and_is_started_again_when_asked_again(served: Proxy) -> None:
    found, _, said = wait_for_answer(served, "c" * 40)
    assert (found.good, found.outcome) == (False, "failed")
    assert any("it broke" in line for line in said)
    assert wait_for_answer(served, "c" * 40)[0].run_id != found.run_id


def test_a_lost_connection_loses_no_run_and_starts_none_twice(served: Proxy) -> None:
    """The answer to the start got lost: started again, the commit would have run twice."""
    served.faults = ["", "", "after", "before", "503", "", "after", "before"]
    found, _, said = wait_for_answer(served, "a" * 39 + "1")
    assert found.good and not served.faults
    runs = RemoteDagster(served.url).runs({PROJECT_TAG: "zoo", REVISION_TAG: "a" * 39 + "1"})
    assert [r.run_id for r in runs] == [found.run_id]
    assert any("cannot be reached" in line for line in said) and any("answers again" in line for line in said)
    assert said.count("ci_report: checking aaaa") == 1, "the log goes on where it stopped"


def test_misuse_is_one_clear_error(served: Proxy) -> None:
    remote = RemoteDagster(served.url)
    with pytest.raises(ConfigError, match=r"no such project: 'zo' \(known at http.*: my-model, zoo\)"):
        remote_job(remote, "zo")
    with pytest.raises(ConfigError, match="name a project"):
        remote_job(remote, None)
    with pytest.raises(ConfigError, match="full SHA of 40 characters, not 'main'"):
        full_sha("main")
    bad = (("ftp://x", "is not an http"), ("nonsense", "is not an http"), (f"{served.url}/x", "is not Dagster's"))
    for url, expected in bad:
        with pytest.raises(RemoteError, match=expected):
            RemoteDagster(url, patience_s=0.0).jobs()
    with pytest.raises(RemoteError, match=r"cannot be reached: ConnectError"):
        RemoteDagster("http://127.0.0.1:9", patience_s=0.0).jobs()


@pytest.fixture
def token(served: Proxy) -> Iterator[str]:
    served.token = "a-secret"
    yield served.token
    served.token = ""


def test_the_templates_for_ci_systems_end_with_the_gates_answer(
    served: Proxy, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their own shell and the real command; tests/deploy shows that all of them run this same command."""
    monkeypatch.setenv("LLMOPS_REMOTE_TOKEN", token)
    for revision in ("a" * 40, "b" * 40):
        wait_for_answer(served, revision, "my-model")
    monkeypatch.delenv("LLMOPS_REMOTE_TOKEN")
    released = ci_templates.run("gitlab-ci.yml", "a" * 40, token, served.url)
    assert released.returncode == 0 and released.stdout.endswith("aaaaaaaa is released\n"), released
    rejected = ci_templates.run("github-actions.yml", "b" * 40, token, served.url)
    assert rejected.returncode == 1 and "is rejected: evaluation_report refuses: perplexity" in rejected.stderr
    locked_out = ci_templates.run("circleci.yml", "a" * 40, None, served.url)
    assert locked_out.returncode == 2 and not locked_out.stdout
    assert locked_out.stderr == f"error: {served.url} answers 401: set LLMOPS_REMOTE_TOKEN to a valid token\n"


def run(status: str, outcome: str | None = None, requested: bool = True, run_id: str = "r") -> RemoteRun:
    return RemoteRun(run_id=run_id, status=status, outcome=outcome, requested=requested)


def test_who_asks_for_a_commit_joins_its_run_unless_it_failed() -> None:
    assert at_first([], 5.0, 20.0) == WaitOn(run_id=None) and at_first([], 20.0, 20.0) == StartOne()
    joined = [run("STARTED"), run("SUCCESS", "rejected"), run("SUCCESS", "waiting"), run("FAILURE"), run("SUCCESS")]
    assert all(at_first([r], 0.0, 20.0) == WaitOn(run_id="r") for r in joined)
    assert at_first([run("SUCCESS", requested=False)], 0.0, 20.0) == WaitOn(run_id="r")
    again = [run("FAILURE", "failed"), run("CANCELED", "cancelled"), run("FAILURE", requested=False)]
    assert all(at_first([r], 0.0, 20.0) == StartOne() for r in again)


def test_a_run_that_died_is_not_the_answer_while_the_recovery_sensor_may_start_another() -> None:
    assert decide([run("FAILURE")], 10.0) == WaitOn(run_id="r")
    assert decide([run("STARTED", run_id="s"), run("FAILURE")], 0.0) == WaitOn(run_id="s")
    assert decide([run("FAILURE")], 1000.0) == Answered(run_id="r", good=False, outcome="failed")
    assert decide([run("FAILURE", requested=False)], 0.0) == Answered(run_id="r", good=False, outcome="failed")
    assert decide([run("SUCCESS")], 1.0) == WaitOn(run_id="r")
    assert decide([run("SUCCESS")], 100.0) == Answered(run_id="r", good=True, outcome="done")
    assert decide([run("SUCCESS", "waiting")], 0.0) == Answered(run_id="r", good=False, outcome="waiting")
    assert decide([run("STARTED", "released")], 0.0) == WaitOn(run_id="r"), "its health check still runs"
