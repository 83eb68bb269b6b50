"""The services are killed, one by one and all at once: each test continues from the one before.

Killed services restart automatically; after a reboot `llmops up` is the only command needed. Work resumes from its last
complete point, production serves the same release, and nothing runs twice.
"""

import json
import os
import signal
import urllib.request
from collections.abc import Callable

import dagster as dg
import psutil
import pytest

from llmops_assets.machine.processes import command_line
from resources.local_services import services
from tests.support.live import Live, Users
from tests.support.waiting import wait_for

STEPS = 200


@pytest.fixture(scope="module")
def live(start_live: Callable[..., Live]) -> Live:
    return start_live({"training": {"max_steps": STEPS}})


def pids(live: Live) -> dict[str, int]:
    """The process ids of the running services, by name."""
    return {name: p.pid for name, p in services.processes(live.settings).items() if p.state == "RUNNING"}


def shows_the_project(live: Live) -> bool:
    """Whether Dagster's webserver has loaded the location and its job."""
    location = "locationOrLoadError { ... on RepositoryLocation { repositories { jobs { name } } } }"
    workspace = "workspaceOrError { ... on Workspace { locationEntries { " + location + " } } }"
    question = json.dumps({"query": "{ " + workspace + " }"})
    page = urllib.request.Request(
        f"http://127.0.0.1:{live.ports[0]}/graphql", question.encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(page, timeout=5) as answer:
            return "zoo" in answer.read().decode()
    except OSError:
        return False


def running(live: Live, program: str) -> list[psutil.Process]:
    return [p for p in live.processes() if program in command_line(p)]


def cut_the_power(live: Live) -> None:
    """Kills all processes at once: each gets SIGSTOP first, so that none can react to another's death."""
    while left := live.processes():
        for process in left:
            process.send_signal(signal.SIGSTOP)
        for process in left:
            process.kill()
        psutil.wait_procs(left, timeout=5)


def assert_one_engine_per_release(live: Live) -> None:
    engines = running(live, "llmops_assets.programs.serve")
    deployed = [r for e in ("staging", "production") for r in live.clients.serving.deployed("zoo", e)]
    assert len(engines) == len(deployed) > 0
    assert len([p for p in live.processes() if p.name() == "envoy"]) == 1


def test_killed_services_come_back_by_themselves_and_the_run_in_progress_continues(live: Live) -> None:
    sha = live.project.push()
    wait_for("training", lambda: live.training(at_least=5))
    before = pids(live)
    assert set(before) == {"dagster-code", "dagster-webserver", "dagster-daemon"}
    for pid in before.values():
        os.kill(pid, signal.SIGKILL)
    wait_for("their return", lambda: len(after := pids(live)) == 3 and not set(after.values()) & set(before.values()))
    wait_for("the page", lambda: shows_the_project(live))
    request = wait_for("the release", lambda: live.ended(sha), every_s=0.5)
    live.assert_released(request, 1)  # the run outlives who began it
    assert live.ask().ok


def test_a_code_server_without_its_inner_process_is_restarted(live: Live) -> None:
    """Dagster's outer process survived, and no sensor was evaluated any more."""
    outer = psutil.Process(pids(live)["dagster-code"])
    inner = next(p for p in outer.children() if "grpc" in p.cmdline())
    inner.kill()
    live.project.write("tests/test_nothing_is_broken.py", "def test_two_and_one_are_three():\n    assert 2 + 1 == 3\n")
    live.project.commit("Another test")
    request = wait_for("its end", lambda sha=live.project.push(): live.ended(sha), every_s=0.5)
    assert (request.status, request.generation) == ("done", 1)
    assert pids(live)["dagster-code"] != outer.pid
    assert shows_the_project(live)


def test_after_a_reboot_in_mid_training_llmops_up_is_all_that_is_needed(live: Live) -> None:
    before = live.ledger.serving("zoo", "production")
    assert before is not None
    rollout = {"steps": [{"weight": "20%", "hold": "2s"}, {"weight": "60%", "hold": "8s"}]}
    change = {"training": {"learning_rate": 0.0005}, "deployment": {"rollout": rollout}}
    sha = live.project.ship("Another rate, released in two steps", change)
    wait_for("training", lambda: live.training(at_least=30))
    cut_the_power(live)
    assert live.requests(sha)[-1].active and not live.ask().ok
    live.llmops("up", "--dagster-port", str(live.ports[0]), "--mlflow-port", str(live.ports[1]))
    answer = wait_for("production", lambda: answer if (answer := live.ask()).ok else None)
    assert answer.release == before.release
    with Users(live) as users:
        trainings: list[int] = []

        def trained() -> bool:
            trainings.append(len(running(live, "llmops_assets.programs.train")))
            return "fine_tuned_checkpoint" in live.ledger.records_of("zoo", sha)

        wait_for("the checkpoint", trained, every_s=1)
        wait_for("the second step", lambda: live.at_the_second_step(sha))
    assert max(trainings) <= 1
    checkpoint = live.checkpoint(sha)
    assert checkpoint.steps == STEPS
    assert 0 < checkpoint.resumed_from_step < STEPS
    users.assert_all_answered()
    assert_one_engine_per_release(live)


def test_llmops_down_in_mid_rollout_ends_everything_at_once_and_llmops_up_resumes_it(live: Live) -> None:
    before = live.ledger.serving("zoo", "production")
    assert before is not None
    sha = live.project.head
    live.llmops("down")
    assert live.processes() == []
    assert live.requests(sha)[-1].active and live.at_the_second_step(sha), "it was ended and not waited for"
    live.llmops("up", "--dagster-port", str(live.ports[0]), "--mlflow-port", str(live.ports[1]))
    wait_for("production", lambda: live.ask().ok)
    with Users(live) as users:
        request = wait_for("the release", lambda: live.ended(sha), every_s=0.5)
    live.assert_released(request, 3)
    assert live.assert_production_serves_only(request).replaces == before.release
    users.assert_all_answered()
    assert_one_engine_per_release(live)
    ended = [[r.status for r in live.runs(request)] for request in live.requests(sha)]
    assert ended == [[dg.DagsterRunStatus.FAILURE], [dg.DagsterRunStatus.FAILURE], [dg.DagsterRunStatus.SUCCESS]]


def test_a_killed_mlflow_comes_back_although_its_own_child_held_the_port(live: Live) -> None:
    before = psutil.Process(pids(live)["mlflow"])
    children = before.children(recursive=True)
    before.kill()
    wait_for("its return", lambda: pids(live).get("mlflow") not in (None, before.pid))

    def answers() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{live.ports[1]}/health", timeout=2) as answer:
                return answer.status == 200 and not any(c.is_running() for c in children)
        except OSError:
            return False

    wait_for("its answer", answers)
    assert children


def test_llmops_up_beside_what_runs_starts_nothing_twice(live: Live) -> None:
    before = sorted(p.pid for p in live.processes())
    live.llmops("up", "--dagster-port", str(live.ports[0]), "--mlflow-port", str(live.ports[1]))
    assert set(before) <= {p.pid for p in live.processes()}
    assert len(pids(live)) == 4
