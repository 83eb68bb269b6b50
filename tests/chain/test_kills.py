"""What must be survived, really killed, under the real daemon: each test stands on the one before.

After every kill the work goes on by itself under the next generation, from the last complete point; nothing is trained
twice, no orphan stays, and production answers throughout.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
import pytest

from llmops_assets import local
from llmops_assets.domain.records import Checkpoint
from llmops_assets.domain.requests import Request
from llmops_assets.settings import ComputeSettings, ProjectSource, ServingSettings, Settings, dump_settings
from llmops_assets.stage import REQUEST_TAG
from resources.assembly import build_resources
from resources.ledger import Ledger
from resources.probe import Answer, ask
from resources.run_launcher import worker_of
from tests.projects import Project, free_port

pytestmark = [pytest.mark.timeout(900), pytest.mark.xdist_group("daemon")]
STEPS = 150


def wait_for(what: str, look: Callable[[], Any], seconds: float = 240.0) -> Any:
    """What `look` yields, as soon as it yields something."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.05)
    raise AssertionError(f"{what} did not happen within {seconds:g} s")


class Live:
    """A home under Dagster's own webserver and daemon."""

    def __init__(self, home: Path, project: Project):
        self.project = project
        self.settings = Settings(
            home=home,
            projects=(ProjectSource(name="zoo", repository=str(project.remote)),),
            serving=ServingSettings(port=free_port(), drain=2.0),
            compute=ComputeSettings(threads=2, checkpoint_every=0.3),
            poll=1,
        )
        (home / "settings.yaml").write_text(dump_settings(self.settings))
        self.env = {**os.environ, "LLMOPS_HOME": str(home), "LLMOPS_SETTINGS": str(home / "settings.yaml"),
                    "DAGSTER_HOME": str(home / "dagster")}  # fmt: skip
        self.resources = build_resources(self.settings)
        self.ledger: Ledger = self.resources["ledger"]

    def start(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("LLMOPS_HOME", "LLMOPS_SETTINGS", "DAGSTER_HOME"):
            monkeypatch.setenv(name, self.env[name])
        local.start(self.settings, free_port(), None, lambda text: None)
        self.instance = dg.DagsterInstance.from_config(self.env["DAGSTER_HOME"])

    def stop(self) -> None:
        local.stop(self.settings)
        self.resources["compute"].cancel_all()
        self.resources["serving"].down(forget=True)

    def requests(self, revision: str) -> list[Request]:
        return [r for r in self.ledger.requests("zoo") if r.revision == revision]

    def ended(self, revision: str) -> Request | None:
        """The newest request of a revision, once it is closed and its run is over."""
        found = self.requests(revision)
        if not found or found[-1].active:
            return None
        runs = self.runs(found[-1])
        return found[-1] if all(r.is_finished for r in runs) else None

    def runs(self, request: Request) -> list[dg.DagsterRun]:
        return list(self.instance.get_runs(filters=dg.RunsFilter(tags={REQUEST_TAG: request.name})))

    def training(self, at_least: int) -> tuple[psutil.Process, Path] | None:
        """The training program and its folder, once it has done so many steps and stored a checkpoint."""
        for folder in (self.settings.home / "jobs").glob("train-*"):
            file = folder / "progress.jsonl"
            steps = [json.loads(line).get("step", 0) for line in file.read_text().splitlines()] if file.exists() else []
            if steps and max(s or 0 for s in steps) >= at_least and (folder / "pid").exists():
                return psutil.Process(int((folder / "pid").read_text())), folder
        return None

    def checkpoint(self, revision: str) -> Checkpoint:
        record = self.ledger.records_of("zoo", revision)["fine_tuned_checkpoint"]
        assert isinstance(record, Checkpoint)
        return record

    def ask(self) -> Answer:
        return ask(self.resources["serving"].base_url("zoo", "production"), "zoo", "cat number 3 says", max_tokens=4)


class Users:
    """Asks production all the time, and remembers what went wrong."""

    def __init__(self, live: Live):
        self.live, self.answers = live, list[Answer]()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._over.wait(0.3):
            self.answers.append(self.live.ask())

    def __enter__(self) -> "Users":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def assert_all_answered(self) -> None:
        wrong = [a for a in self.answers if not a.ok]
        assert len(self.answers) > 10
        assert not wrong, f"{len(wrong)} of {len(self.answers)}: {wrong[0]}"


@pytest.fixture(scope="module")
def live(make_project: Callable[[], Project], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    project = make_project()
    project.configure({"training": {"max_steps": STEPS}})
    project.commit("Train for a while")
    world = Live(tmp_path_factory.mktemp("live"), project)
    with pytest.MonkeyPatch.context() as patch:
        world.start(patch)
        yield world
        world.stop()


def test_a_killed_training_program_resumes_from_its_last_complete_checkpoint(live: Live) -> None:
    sha = live.project.push()
    process, _ = wait_for("training", lambda: live.training(at_least=30))
    process.send_signal(signal.SIGKILL)
    request = wait_for("the release", lambda: live.ended(sha))
    assert (request.status, request.generation) == ("released", 2), request
    checkpoint = live.checkpoint(sha)
    assert checkpoint.steps == STEPS
    assert 0 < checkpoint.resumed_from_step < STEPS
    assert live.ask().ok


def test_a_killed_run_leaves_its_training_to_be_adopted(live: Live) -> None:
    with Users(live) as users:
        sha = live.project.ship("Another rate", {"training": {"learning_rate": 0.0005}})
        process, _ = wait_for("training", lambda: live.training(at_least=5))
        run = wait_for("the run", lambda: next((r for r in live.runs(live.requests(sha)[0]) if worker_of(r)), None))
        worker = worker_of(run)
        assert worker is not None
        worker.send_signal(signal.SIGKILL)
        assert process.is_running(), "the program outlives the run that began it"
        request = wait_for("the release", lambda: live.ended(sha))
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
        run = live.runs(live.requests(sha)[0])[0]
        worker = worker_of(run)
        assert worker is not None
        worker.send_signal(signal.SIGKILL)
        request = wait_for("the release", lambda: live.ended(sha))
    assert (request.status, request.generation) == ("released", 2), request
    found = live.ledger.rollout("zoo")
    assert found is not None and found[2] == sha
    assert (found[3].status, found[3].replaces) == ("promoted", before.release)
    assert live.resources["serving"].weights("zoo", "production") == {found[3].release: 1.0}
    assert live.resources["serving"].deployed("zoo", "production") == (found[3].release,)
    users.assert_all_answered()


def test_two_daemons_and_a_person_beside_them_start_one_run_for_one_request(live: Live) -> None:
    second = subprocess.Popen(
        [sys.executable, "-m", "dagster._daemon", "run", "-m", "llmops_assets.definitions"],
        env=live.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        for number in range(3):
            live.project.write("tests/test_nothing_is_broken.py", f"def test_{number}():\n    assert {number} < 3\n")
            live.project.commit(f"Test {number}")
            sha = live.project.push()
            people = [
                subprocess.Popen(
                    [sys.executable, "-m", "llmops_assets.cli", "run", "--revision", sha], env=live.env,
                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                )
                for _ in range(2)
            ]  # fmt: skip
            said = [p.communicate(timeout=120)[0] for p in people]
            assert all(p.returncode in (0, 1) for p in people), said
            request = wait_for("the end", lambda sha=sha: live.ended(sha))
            assert request.status == "done", request
            # Who asks a moment too late gets a request that finds nothing left, and no run.
            assert sum(len(live.runs(r)) for r in live.requests(sha)) == 1
            assert {r.status for r in live.requests(sha)} == {"done"}
    finally:
        for child in [*psutil.Process(second.pid).children(recursive=True), psutil.Process(second.pid)]:
            child.kill()
        second.wait()


def test_when_all_is_ended_no_process_stays(live: Live) -> None:
    local.stop(live.settings)
    live.resources["compute"].cancel_all()
    live.resources["serving"].down()
    home = str(live.settings.home)
    left = wait_for(
        "the end of every process",
        lambda: [
            [p.info for p in psutil.process_iter(["pid", "cmdline"]) if home in " ".join(p.info["cmdline"] or [])]
        ],
        20,
    )
    assert left[0] == []
