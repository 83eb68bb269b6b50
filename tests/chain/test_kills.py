"""Processes are killed under the real daemon, and the chain recovers: each test continues from the one before.

First a run, at every step between its program's end and the ledger; then programs, runs and daemons. After every kill
the work resumes automatically under the next generation, from the last complete point; nothing is computed twice, no
orphan process remains, and production answers throughout.
"""

import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import dagster as dg
import psutil
import pytest

from resources.artifact_store.store import MANIFEST
from resources.local_services import services
from tests.support.commands import llmops
from tests.support.killer import Killer
from tests.support.live import Live, Users
from tests.support.waiting import wait_for

STEPS = 200


@pytest.fixture(scope="module")
def killer(tmp_path_factory: pytest.TempPathFactory) -> Killer:
    return Killer(tmp_path_factory.mktemp("audit"))


@pytest.fixture(scope="module")
def live(start_live: Callable[..., Live], killer: Killer) -> Live:
    return start_live({"training": {"max_steps": STEPS}}, **killer.environment)


def assert_nothing_half_stored_is_known(live: Live, sha: str) -> None:
    for record in live.ledger.records_of("zoo", sha).values():
        for uri in record.artifacts:
            live.clients.store.fetch(uri)


def deliver(live: Live, killer: Killer, sha: str, *orders: tuple[str, str, int]) -> None:
    """Kills the run of one generation after the other, and waits for the release that must follow nevertheless."""
    for generation, order in enumerate(orders, start=1):
        killer.kill(*order)
        wait_for(f"the end of generation {generation}: {order}", lambda: not killer.order.exists())
        wait_for("the next generation", lambda n=generation: len(live.requests(sha)) > n)
        assert_nothing_half_stored_is_known(live, sha)
    request = wait_for("the release", lambda: live.ended(sha), every_s=0.5)
    live.assert_released(request, len(orders) + 1)
    assert_nothing_half_stored_is_known(live, sha)
    assert live.ask().ok


def assert_nothing_is_left(live: Live) -> None:
    assert [p.name for p in (live.settings.home / "jobs").iterdir() if p.is_dir()] == []
    artifacts = live.settings.home / "store" / "artifacts"
    assert list(artifacts.rglob("*.part")) == []
    assert [p.name for p in artifacts.iterdir() if not (p / MANIFEST).exists()] == []


def test_a_run_killed_around_its_record_computes_nothing_twice_and_leaves_nothing(live: Live, killer: Killer) -> None:
    """Killed during an upload; between upload and record; after the record, while the job folder is deleted."""
    deliver(
        live,
        killer,
        live.project.push(),
        ("os.rename", r"/artifacts/\w+/train\.jsonl\.\w+\.part$", 0),
        ("os.rename", rf"/artifacts/\w+/{MANIFEST}\.\w+\.part$", 1),
        ("shutil.rmtree", r"/jobs/quantize-\w+$", 5),
    )
    assert {name.split("-")[0] for name in killer.started()} >= {"dataset", "train", "evaluate", "quantize"}
    assert set(killer.started().values()) == {1}, killer.started()
    assert_nothing_is_left(live)


def test_a_run_killed_before_the_manifest_resumes_with_the_output_of_its_program(live: Live, killer: Killer) -> None:
    """Killed just after a file was opened; and with all files in place except the manifest."""
    live.project.write("prompts/ask.jinja", "Tell me: {{ input }}\n")
    deliver(
        live,
        killer,
        live.project.ship("Another prompt"),
        ("open", r"/artifacts/\w+/report\.html\.\w+\.part$", 1),
        ("os.rename", rf"/artifacts/\w+/{MANIFEST}\.\w+\.part$", 0),
    )
    assert set(killer.started().values()) == {1}, killer.started()
    assert_nothing_is_left(live)


def test_a_killed_training_program_resumes_from_its_last_complete_checkpoint(live: Live) -> None:
    sha = live.project.ship("A smaller rate", {"training": {"learning_rate": 0.0003}})
    process, _ = wait_for("training", lambda: live.training(at_least=30))
    process.send_signal(signal.SIGKILL)
    request = wait_for("the release", lambda: live.ended(sha), every_s=0.5)
    live.assert_released(request, 2)
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
    live.assert_released(request, 2)
    checkpoint = live.checkpoint(sha)
    assert checkpoint.resumed_from_step == 0, "the same process went on: nothing was trained twice"
    assert not process.is_running()
    assert [r.status for r in live.runs(live.requests(sha)[0])] == [dg.DagsterRunStatus.FAILURE]
    users.assert_all_answered()


def test_a_run_killed_in_mid_rollout_ends_in_one_state(live: Live) -> None:
    before = live.ledger.serving("zoo", "production")
    assert before is not None
    live.project.write("prompts/ask.jinja", "Reply: {{ input }}\n")
    steps = [{"weight": "20%", "hold": "3s"}, {"weight": "60%", "hold": "3s"}]
    live.project.configure({"deployment": {"rollout": {"steps": steps}}})
    live.project.commit("A third prompt, released in two steps")
    with Users(live) as users:
        sha = live.project.push()
        wait_for("the second step", lambda: live.at_the_second_step(sha))
        worker = live.worker(sha)
        assert worker is not None
        worker.send_signal(signal.SIGKILL)
        request = wait_for("the release", lambda: live.ended(sha), every_s=0.5)
    live.assert_released(request, 2)
    assert live.assert_production_serves_only(request).replaces == before.release
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
