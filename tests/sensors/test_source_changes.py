"""Each kind of bad input gives one clear error with its remedy; nothing is half done, and production is untouched."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.projects import Project, World, rows, write_rows


class Bench:
    """A project that was not pushed yet, and a world that watches it."""

    def __init__(self, project: Project, world: World):
        self.project, self.world = project, world

    def skip(self, kind: str = "git") -> str:
        reason, requests = self.world.tick(f"zoo_{kind}")
        assert requests == []
        return reason or ""

    def untouched(self) -> None:
        assert self.world.ledger.serving("zoo", "production") is None
        assert self.world.clients.serving.endpoints("zoo") == []


@pytest.fixture
def bench(make_project: Callable[[], Project], make_world: Callable[..., World]) -> Bench:
    project = make_project()
    return Bench(project, make_world(project))


def test_an_unknown_key_is_named_with_its_line_and_the_likely_one(bench: Bench) -> None:
    bench.project.ship("A slip", {"training": {"learning_rat": 0.1}})
    said = bench.skip()
    assert "llmops.yaml:" in said and "training.learning_rat" in said and "'learning_rate'" in said
    assert bench.world.ledger.requests("zoo") == []


def test_a_wrong_type_is_named_and_the_mended_commit_goes_on(bench: Bench) -> None:
    bench.project.ship("A word for a number", {"training": {"learning_rate": "fast"}})
    assert "training.learning_rate" in bench.skip() and "'fast'" in bench.skip()
    bench.project.ship("Mended", {"training": {"learning_rate": 0.001}})
    _, requests = bench.world.tick("zoo_git")
    assert [r.tags["llmops/revision"] for r in requests] == [bench.project.head]


def test_git_pushed_before_dvc_waits_with_a_reason_and_then_goes_on(bench: Bench) -> None:
    write_rows(bench.project.folder / "data/train.jsonl", rows(30))
    bench.project.dvc_add("data/train.jsonl", push=False)
    bench.project.ship("Data that is not there yet")
    said = bench.skip()
    assert "data/train.jsonl" in said and "dvc push" in said
    bench.project.dvc_push()
    _, requests = bench.world.tick("zoo_git")
    assert len(requests) == 1


def test_a_malformed_line_is_named_by_file_and_number_and_ends_the_request(bench: Bench) -> None:
    file = bench.project.folder / "data/train.jsonl"
    file.write_text(file.read_text() + '{"input": "no end\n')
    bench.project.dvc_add("data/train.jsonl")
    bench.project.ship("A broken line")
    outcome = bench.world.settle()
    assert "data/train.jsonl" in outcome.failures and "25" in outcome.failures
    assert [r.status for r in bench.world.ledger.requests("zoo")] == ["failed"]
    assert "dataset_version" not in outcome.materialized and "fine_tuned_checkpoint" not in outcome.materialized
    bench.untouched()


def test_an_empty_test_set_is_refused(bench: Bench) -> None:
    (bench.project.folder / "data/test.jsonl").write_text("")
    bench.project.dvc_add("data/test.jsonl")
    bench.project.ship("Nothing to ask")
    outcome = bench.world.settle()
    assert "data/test.jsonl" in outcome.failures and "no rows" in outcome.failures
    bench.untouched()


def test_test_rows_that_were_trained_on_stop_before_training(bench: Bench) -> None:
    write_rows(bench.project.folder / "data/test.jsonl", rows(8))
    bench.project.dvc_add("data/test.jsonl")
    bench.project.ship("Leaked")
    outcome = bench.world.settle()
    assert "leak" in outcome.failures
    assert "fine_tuned_checkpoint" not in outcome.materialized
    assert [r.status for r in bench.world.ledger.requests("zoo")] == ["rejected"]


def test_failing_tests_of_the_project_stop_before_training(bench: Bench) -> None:
    bench.project.write("tests/test_nothing_is_broken.py", "def test_two_and_two_are_five():\n    assert 2 + 2 == 5\n")
    bench.project.ship("Broken")
    outcome = bench.world.settle()
    assert "ci_report" in outcome.materialized, "the report is kept"
    assert "fine_tuned_checkpoint" not in outcome.materialized
    assert "1 failed" in bench.world.ledger.requests("zoo")[-1].detail


def _replace_base(bench: Bench, change: Callable[[Path], None]) -> str:
    folder = bench.project.folder / "models/base"
    keep = folder.with_name("fresh")
    shutil.copytree(folder, keep)
    shutil.rmtree(folder)
    keep.rename(folder)
    change(folder)
    bench.project.dvc_add("models/base")
    bench.project.ship("Another base")
    return bench.world.settle().failures


def test_a_base_model_that_is_a_pickle_is_refused_with_the_remedy(bench: Bench) -> None:
    said = _replace_base(bench, lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin") and None)
    assert "pickle" in said and "safe_serialization" in said and "models/base" in said
    bench.untouched()


def test_a_base_model_with_a_pickle_beside_its_safetensors_is_refused_and_not_tried_again(bench: Bench) -> None:
    """`training_args.bin` passed the check of the base model, and failed in the store four generations long."""
    said = _replace_base(bench, lambda f: (f / "training_args.bin").write_bytes(b"cos\nsystem\n") and None)
    assert "training_args.bin is a pickle" in said and "delete it" in said and "models/base" in said
    assert [r.status for r in bench.world.ledger.requests("zoo")] == ["failed"]
    bench.untouched()


def test_a_base_model_that_is_missing_is_named(bench: Bench) -> None:
    bench.project.ship("No such folder", {"model": {"base": {"path": "models/other"}}})
    said = bench.skip()
    assert "models/other" in said and "dvc add models/other" in said


def test_an_architecture_that_cannot_be_converted_is_refused_before_training(bench: Bench) -> None:
    def change(folder: Path) -> None:
        config = folder / "config.json"
        config.write_text(config.read_text().replace("LlamaForCausalLM", "NovelForCausalLM"))

    said = _replace_base(bench, change)
    assert "NovelForCausalLM" in said and "compute.llama_cpp" in said
    assert not list((bench.world.home / "jobs").glob("train-*"))


def test_a_prompt_with_an_undefined_variable_is_named(bench: Bench) -> None:
    bench.project.write("prompts/ask.jinja", "Question: {{ question }}\n")
    bench.project.ship("A slip in the prompt")
    said = bench.skip()
    assert "prompts/ask.jinja" in said and "'question'" in said and "input" in said


def test_a_gate_on_an_unknown_metric_is_named(bench: Bench) -> None:
    bench.project.ship("A gate on nothing", {"gates": [{"metric": "bleu", "at_least": 1}]})
    said = bench.skip()
    assert "'bleu'" in said and "perplexity, rougeL" in said


def test_a_force_push_is_followed_and_loses_nothing(bench: Bench) -> None:
    first = bench.project.push()
    _, requests = bench.world.tick("zoo_git")
    assert requests[0].tags["llmops/revision"] == first
    bench.project.git("commit", "--amend", "--quiet", "--message", "Rewritten")
    bench.project.configure({"training": {"max_steps": 2}})
    bench.project.git("commit", "--all", "--quiet", "--message", "Fewer steps")
    second = bench.project.push("--force")
    assert "waits for" in bench.skip()
    assert bench.world.source().at(first).revision == first, "the rewritten commit stays readable"
    bench.world.ledger.close(bench.world.ledger.requests("zoo")[-1], "done", "for this test")
    _, requests = bench.world.tick("zoo_git")
    assert requests[0].tags["llmops/revision"] == second


def test_a_deleted_branch_is_a_reason_and_not_an_empty_project(bench: Bench) -> None:
    bench.project.push()
    bench.world.tick("zoo_git")
    bench.project.git("push", "--quiet", "origin", "HEAD:refs/heads/other")
    bench.project.git("--git-dir", str(bench.project.remote), "update-ref", "-d", "refs/heads/main")
    assert "branch 'main' does not exist" in bench.skip()
    assert len(bench.world.ledger.requests("zoo")) == 1


def test_an_unreachable_remote_is_a_reason_and_the_change_is_found_later(bench: Bench) -> None:
    away = bench.project.remote.with_name("away.git")
    bench.project.push()
    bench.project.remote.rename(away)
    assert "unreachable" in bench.skip()
    away.rename(bench.project.remote)
    _, requests = bench.world.tick("zoo_git")
    assert len(requests) == 1
