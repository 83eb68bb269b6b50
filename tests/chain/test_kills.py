"""Processes are killed under the real daemon, and the chain recovers: each test continues from the one before.

After every kill the work resumes automatically under the next generation, from the last complete point; nothing is
trained twice, no orphan process remains, and production answers throughout.
"""

import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import dagster as dg
import psutil
import pytest

from resources.local_services import services
from tests.support.commands import llmops
from tests.support.live import Live, Users
from tests.support.waiting import wait_for

STEPS = 200


@pytest.fixture(scope="module")
def live(start_live: Callable[..., Live]) -> Live:
    return start_live({"training": {"max_steps": STEPS}})


def test_a_killed_training_program_resumes_from_its_last_complete_checkpoint(live: Live) -> None:
    sha = live.project.push()
    process, _ = wait_for("training", lambda: live.training(at_least=30))
    process.send_signal(signal.SIGKILL)
    request = wait_for("the release", lambda: live.ended(sha), every_s=0.5)
    assert (request.status, request.generation) == ("released", 2), request
    checkpoint = live.checkpoint(sha)
    assert checkpoint.steps == STEPS
    assert 0 < checkpoint.resumed_from_step < STEPS
    assert live.ask().ok


def test_a_killed_run_leaves_its_training_to_be_adopted(live: Live) -> None:
    with Users(live) as users:
        sha = live.project.ship("Another rate", {"training": {"learning_rate": 0.0005}})
        process, _ = wait_for("training", lambda: live.training(at_least=5))
        worker = wait_for("the run", lambda: live.worker(sha))
        worker.send_signal(signal.SIGKILL)
        assert process.is_running(), "the program outlives the run that began it"
        request = wait_for("the release", lambda: live.ended(sha), every_s=0.5)
    assert (request.status, request.generation) == ("released", 2), request
    checkpoint = live.checkpoint(sha)
    assert checkpoint.resumed_from_step == 0, "the same process went on: nothing was trained twice"
    assert not process.is_running()
    assert [r.status for r in live.runs(live.requests(sha)[0])] == [dg.DagsterRunStatus.FAILURE]
    users.assert_all_answered()


def test_a_run_killed_in_mid_rollout_ends_in_one_state(live: Live) -> None:
    before = live.ledger.serving("zoo", "production")
    assert before is not None
    live.project.write("prompts/ask.jinja", "Tell me: {{ input }}\n")
    steps = [{"weight": "20%", "hold": "3s"}, {"weight": "60%", "hold": "3s"}]
    live.project.configure({"deployment": {"rollout": {"steps": steps}}})
    live.project.commit("Another prompt, released in two steps")
    with Users(live) as users:
        sha = live.project.push()

        def second_step() -> bool:
            found = live.ledger.rollout("zoo")
            return found is not None and found[2] == sha and found[3].step == 1

        wait_for("the second step", second_step)
        worker = live.worker(sha)
        assert worker is not None
        worker.send_signal(signal.SIGKILL)
        request = wait_for("the release", lambda: live.ended(sha), every_s=0.5)
    assert (request.status, request.generation) == ("released", 2), request
    found = live.ledger.rollout("zoo")
    assert found is not None and found[2] == sha
    assert (found[3].status, found[3].replaces) == ("promoted", before.release)
    assert live.clients.serving.weights("zoo", "production") == {found[3].release: 1.0}
    assert live.clients.serving.deployed("zoo", "production") == (found[3].release,)
    users.assert_all_answered()


def test_two_daemons_and_a_person_beside_them_start_one_run_for_one_request(live: Live) -> None:
    second = subprocess.Popen(
        [sys.executable, "-m", "dagster._daemon", "run", "-m", "llmops_assets.definitions"],
        env=live.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        for number in range(2):
            live.project.write("tests/test_nothing_is_broken.py", f"def test_{number}():\n    assert str({number})\n")
            live.project.commit(f"Test {number}")
            sha = live.project.push()
            with ThreadPoolExecutor(2) as people:
                ran = [people.submit(llmops, "run", "--revision", sha, env=live.env) for _ in range(2)]
            assert all(run.result().returncode in (0, 1) for run in ran), [run.result() for run in ran]
            request = wait_for("the end", lambda sha=sha: live.ended(sha), every_s=0.5)
            assert request.status == "done", request
            # A command that comes a moment too late gets a request with nothing left to do, and no run.
            assert sum(len(live.runs(r)) for r in live.requests(sha)) == 1
            assert {r.status for r in live.requests(sha)} == {"done"}
    finally:
        for child in [*psutil.Process(second.pid).children(recursive=True), psutil.Process(second.pid)]:
            child.kill()
        second.wait()


def test_when_all_is_ended_no_process_stays(live: Live) -> None:
    services.stop(live.settings)
    live.clients.compute.cancel_all()
    live.clients.serving.down()
    wait_for("the end of every process", lambda: not live.processes())
