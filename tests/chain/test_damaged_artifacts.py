"""A damaged artifact in the store is reported, not used, and made again automatically.

All tests share one world: a release in production, and one artifact after the other altered, truncated or deleted.
"""

from collections.abc import Callable
from pathlib import Path

import dagster as dg
import psutil
import pytest

from llmops_assets.cli.execution import open_by_person
from llmops_assets.delivery.planning import plan_revision
from llmops_assets.delivery.request_runs import run_request
from llmops_assets.domain.chain import WORK
from llmops_assets.domain.plan import Plan
from llmops_assets.domain.records import AnyRecord, Checkpoint
from resources.artifact_store.store import MANIFEST, sha256_file
from resources.serving.client import Answer, ask
from tests.support.projects import Outcome, Project, World
from tests.support.waiting import wait_for

WORKS = {s.name for s in WORK}
EVALUATIONS = {"evaluation_report", "served_evaluation_report"}


class Bench:
    """A project, the world that released it, and the actions of a user."""

    def __init__(self, project: Project, world: World):
        self.project, self.world = project, world

    @property
    def records(self) -> dict[str, AnyRecord]:
        return self.world.ledger.records_of("zoo", self.project.head)

    def folder(self, stage: str) -> Path:
        """The folder in the store that holds a stage's artifact."""
        made = self.records[stage].made
        assert made is not None
        return self.world.clients.store.fetch(made, verify=False)

    def again(self) -> tuple[Plan, Outcome]:
        """Requests the commit again, as `llmops run` does; returns the plan and the outcome."""
        world, sha = self.world, self.project.head
        source, ledger, store = world.source(), world.ledger, world.clients.store
        plan = plan_revision(source, ledger, store, sha, sha)
        outcome = Outcome()
        if not plan.nothing_to_do:
            request = open_by_person(source, ledger, sha, plan, "asked once more")
            asked = run_request(source, request, plan.to_materialize)
            outcome.runs.append(world.execute("zoo", asked))
            world.tick("zoo_recovery")
        return plan, outcome

    def said(self, outcome: Outcome) -> str:
        """The log messages of the outcome's runs."""
        return "\n".join(e.message for r in outcome.runs for e in self.world.instance.all_logs(r.run_id))

    def assert_whole(self) -> None:
        for record in self.records.values():
            for uri in record.artifacts:
                self.world.clients.store.fetch(uri)

    def ask(self) -> Answer:
        return ask(self.world.clients.serving.base_url("zoo", "production"), "zoo", "cat number 3 says")


def flip(file: Path) -> tuple[str, str]:
    """Flips one bit; returns the digests before and after."""
    before, data = sha256_file(file), bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    part = file.with_suffix(".altered")
    part.write_bytes(data)
    part.replace(file)  # an engine that has the file open keeps the old content
    return before, sha256_file(file)


@pytest.fixture(scope="module")
def bench(make_project: Callable[[], Project], make_world: Callable[..., World], computed: Path) -> Bench:
    project = make_project()
    project.push()
    bench = Bench(project, make_world(project, computed=computed))
    assert bench.world.settle().failures == ""
    assert bench.ask().ok
    return bench


@pytest.mark.parametrize(
    ("stage", "name", "how"),
    [
        ("dataset_version", "train.jsonl", "altered"),
        ("fine_tuned_checkpoint", "adapter_model.safetensors", "truncated"),
        ("evaluation_report", "predictions.jsonl", "removed"),
        ("registered_model", "MLmodel", "altered"),
        ("quantized_artifact", "*.gguf", "altered"),
        ("served_evaluation_report", MANIFEST, "removed"),
    ],
)
def test_a_damaged_artifact_is_named_and_made_again_in_the_same_run(
    bench: Bench, stage: str, name: str, how: str
) -> None:
    folder, before = bench.folder(stage), bench.records[stage]
    (file,) = folder.glob(name)
    if how == "altered":
        told = "{} was altered (sha256 {} was stored, {} is there)".format(file.name, *flip(file))
    elif how == "truncated":
        size = file.stat().st_size
        with file.open("r+b") as opened:
            opened.truncate(size // 2)
        told = f"{file.name} has {size // 2} bytes, {size} were stored"
    else:
        file.unlink()
        told = f"{file.name} is missing" if name != MANIFEST else "is not in the store"
    plan, outcome = bench.again()
    assert outcome.failures == ""
    assert f"artifact {folder.name[:12]}" in plan[stage].reasons[0] and told in plan[stage].reasons[0]
    assert f"{stage}: artifact {folder.name[:12]}" in bench.said(outcome) and told in bench.said(outcome)
    assert outcome.computed & WORKS == {stage}, "what stands on it found it as it was"
    assert bench.records[stage].made_by.run_id == outcome.runs[0].run_id != before.made_by.run_id
    assert bench.world.ledger.requests("zoo")[-1].status in ("released", "done")
    bench.assert_whole()
    assert bench.again()[0].nothing_to_do
    assert bench.ask().ok


def test_a_damaged_copy_of_the_base_model_is_replaced_and_nothing_is_trained_for_it(bench: Bench) -> None:
    checkpoint = bench.records["fine_tuned_checkpoint"]
    assert isinstance(checkpoint, Checkpoint)
    before, after = flip(bench.world.clients.store.fetch(checkpoint.base_uri) / "model.safetensors")
    (bench.folder("quantized_artifact") / MANIFEST).unlink()
    _, outcome = bench.again()
    assert outcome.failures == ""
    assert f"model.safetensors was altered (sha256 {before} was stored, {after} is there)" in bench.said(outcome)
    assert outcome.computed & WORKS == {"quantized_artifact"}
    bench.assert_whole()


def test_what_was_altered_after_the_run_was_planned_is_not_read_and_the_request_continues(bench: Bench) -> None:
    bench.project.write("prompts/ask.jinja", "Tell me: {{ input }}\n")
    file = bench.folder("dataset_version") / "test.jsonl"
    digests: list[str] = []
    bench.project.ship("Another prompt")

    def alter(request: dg.RunRequest) -> None:
        if not digests:
            digests.extend(flip(file))

    outcome = bench.world.settle(on_run=alter)
    first, second = outcome.runs
    told = "{} was altered (sha256 {} was stored, {} is there)".format(file.name, *digests)
    assert told in outcome.failures and file.parent.name[:12] in outcome.failures
    assert "evaluation_report" not in Outcome.of(first).materialized, "nothing was made with it"
    assert Outcome.of(second).computed & WORKS == {"dataset_version", *EVALUATIONS}
    request = bench.world.ledger.requests("zoo")[-1]
    assert (request.status, request.generation) == ("released", 2)
    bench.assert_whole()


def engine_of(home: Path, environment: str) -> psutil.Process:
    for process in psutil.process_iter():
        try:
            if any(f"{home}/serving/replicas/zoo.{environment}." in part for part in process.cmdline()):
                return process
        except psutil.Error:
            continue
    raise AssertionError(f"no engine of {environment} runs")


def test_an_engine_that_starts_again_does_not_load_an_altered_model_and_comes_back_with_the_right_one(
    bench: Bench,
) -> None:
    """llama.cpp itself would load the altered model and answer with it."""
    (file,) = bench.folder("quantized_artifact").glob("*.gguf")
    digests = flip(file)
    engine_of(bench.world.home, "production").kill()
    logs = bench.world.home / "serving" / "logs"
    told = "was altered (sha256 {} was released, {} is there) and is not loaded".format(*digests)
    wait_for("why it does not start", lambda: any(told in f.read_text() for f in logs.glob("zoo.production.*.log")))
    statuses = {e.environment: e.status for e in bench.world.clients.serving.endpoints("zoo")}
    assert statuses["production"] == "down"
    code, said = bench.world.llmops("run", "--rebuild", "quantized_artifact", "--reason", "damaged", "--wait")
    assert code == 0, said
    wait_for("what the remedy that it names brings", lambda: bench.ask().ok)
    bench.assert_whole()


def test_a_store_that_is_not_mounted_is_no_reason_to_forget_or_to_train_again(bench: Bench) -> None:
    """The empty mount point counted as a store that had lost everything: all records were dropped, and everything was
    trained again, onto the root disk."""
    world, store = bench.world, bench.world.home / "store"
    bench.project.write("prompts/ask.jinja", "Please tell: {{ input }}\n")
    before = bench.records
    sha = bench.project.ship("A prompt while the disk is away")
    store.rename(store.with_name("disk"))
    store.mkdir()
    skip, asked = world.tick("zoo_git")
    assert asked == [] and f"the store {store} has no file" in str(skip) and "is it not mounted" in str(skip)
    code, said = world.llmops("run", "--revision", sha)
    assert code == 2 and "is it not mounted" in said and "Traceback" not in said
    failed = world.materialize("zoo", "evaluation_report", tags={"llmops/revision": sha})
    assert "is it not mounted" in Outcome.of(failed).failures
    assert list(store.iterdir()) == []
    assert {k: world.ledger.find(r.key) for k, r in before.items()} == before
    store.rmdir()
    store.with_name("disk").rename(store)
    outcome = world.settle()
    assert outcome.failures == "" and outcome.computed & WORKS == {"ci_report", *EVALUATIONS}
