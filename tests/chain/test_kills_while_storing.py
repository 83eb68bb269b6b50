"""A run is killed while it stores a program's output: at every step between the program's end and the ledger.

The moment is exact and none of our code is replaced: a `sitecustomize` on the run's path listens to Python's own audit
events, which announce what the process is about to do, and kills the process there with SIGKILL.
"""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from resources.artifact_store.store import MANIFEST
from tests.support.live import Live
from tests.support.waiting import wait_for

LISTENER = """
import json, os, re, signal, sys, threading

FOLDER = os.environ["TEST_AUDIT"]
HEARD = ("open", "os.rename", "shutil.rmtree")
left = []  # events until the end, once the moment has come
here = threading.local()  # several threads upload at once; what one hears is no excuse for another


def listen(event, args):
    if left:
        left[0] -= 1
        if left[0] <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
    if getattr(here, "busy", False) or event not in HEARD:
        return
    here.busy = True
    try:
        path = str(args[0])
        if "/artifacts/" not in path and "/jobs/" not in path:
            return
        if event == "open" and path.endswith("/pid") and args[1] == "w":  # a program has been started
            with open(FOLDER + "/programs", "a") as file:
                file.write(os.path.basename(os.path.dirname(path)) + "\\n")
        try:
            with open(FOLDER + "/order") as file:
                order = json.load(file)
        except (OSError, ValueError):
            return
        if order["event"] == event and re.search(order["path"], path):
            os.remove(FOLDER + "/order")
            if not order["then"]:
                os.kill(os.getpid(), signal.SIGKILL)
            left.append(order["then"])
    finally:
        here.busy = False


sys.addaudithook(listen)
"""


class Killer:
    """Kills the current run at a chosen moment, and counts the programs that were started."""

    def __init__(self, folder: Path):
        self.folder, self.order = folder, folder / "order"

    def kill(self, event: str, path: str, then: int = 0) -> None:
        """Orders a kill at this audit event on this path, or `then` events later."""
        part = self.folder / "order.part"
        part.write_text(json.dumps({"event": event, "path": path, "then": then}))
        part.replace(self.order)

    def started(self) -> Counter[str]:
        return Counter((self.folder / "programs").read_text().split())


@pytest.fixture(scope="module")
def killer(tmp_path_factory: pytest.TempPathFactory) -> Killer:
    folder = tmp_path_factory.mktemp("audit")
    (folder / "sitecustomize.py").write_text(LISTENER)
    return Killer(folder)


@pytest.fixture(scope="module")
def live(start_live: Callable[..., Live], killer: Killer) -> Live:
    return start_live(PYTHONPATH=str(killer.folder), TEST_AUDIT=str(killer.folder))


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
    assert (request.status, request.generation) == ("released", len(orders) + 1), request
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
