"""Bad input that only a run can detect ends it with one clear error, and without effects on production."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llmops_assets.config.compute import ComputeSettings, TimeLimits
from tests.support.projects import Outcome, Project, Watched, World, rows, write_rows

NO_CHECKS = {"ci": {"tests": False, "ruff": False, "secrets": False, "types": False}}
"""For what is found after the checks of the project's own files: they cost half a second of CPU time."""


def assert_untouched(watched: Watched) -> None:
    assert watched.world.ledger.serving("zoo", "production") is None
    assert watched.world.clients.serving.endpoints("zoo") == []


def shown(outcome: Outcome) -> tuple[dict[str, str], Any]:
    """What Dagster's page of the only failed step shows: metadata of the failure, and the cause below its message."""
    (event,) = [e for run in outcome.runs for e in run.all_events if e.is_step_failure]
    data = event.step_failure_data
    assert data.user_failure_data is not None and data.error is not None
    return {k: str(v.value) for k, v in data.user_failure_data.metadata.items()}, data.error.cause


def test_a_malformed_llmops_yaml_shows_file_line_and_remedy_in_dagster(watched: Watched) -> None:
    """A click on Materialize ended with a wall of stack trace above one line of text."""
    watched.project.write("llmops.yaml", "name: zoo\nmodel: {base: [}\n")
    watched.project.ship("Broken")
    outcome = Outcome.of(watched.world.materialize("zoo", "ci_report"))
    said, cause = shown(outcome)
    assert said["where"].startswith("llmops.yaml:2") and "not valid YAML" in said["what"]
    assert "commit and push" in said["remedy"] and cause is None
    assert outcome.failures.startswith("llmops.yaml:2: not valid YAML"), "the message begins with what is wrong"


def test_a_malformed_line_is_named_by_file_and_number_and_ends_the_request(watched: Watched) -> None:
    file = watched.project.folder / "data/train.jsonl"
    file.write_text(file.read_text() + '{"input": "no end\n')
    watched.project.dvc_add("data/train.jsonl")
    watched.project.ship("A broken line", NO_CHECKS)
    outcome = watched.world.settle()
    assert "data/train.jsonl" in outcome.failures and "25" in outcome.failures
    said, cause = shown(outcome)
    assert "25" in said["what"] and "data/train.jsonl" in said["where"] and "`dvc add`" in said["remedy"]
    assert cause is None, "the page showed the stack trace of our own program runner under the message"
    assert [r.status for r in watched.world.ledger.requests("zoo")] == ["failed"]
    assert "dataset_version" not in outcome.materialized and "fine_tuned_checkpoint" not in outcome.materialized
    assert_untouched(watched)


def test_an_empty_test_set_is_refused(watched: Watched) -> None:
    (watched.project.folder / "data/test.jsonl").write_text("")
    watched.project.dvc_add("data/test.jsonl")
    watched.project.ship("Nothing to ask", NO_CHECKS)
    outcome = watched.world.settle()
    assert "data/test.jsonl" in outcome.failures and "no rows" in outcome.failures
    assert_untouched(watched)


def test_test_rows_that_were_trained_on_stop_before_training(watched: Watched) -> None:
    write_rows(watched.project.folder / "data/test.jsonl", rows(8))
    watched.project.dvc_add("data/test.jsonl")
    watched.project.ship("Leaked", NO_CHECKS)
    outcome = watched.world.settle()
    assert "leak" in outcome.failures
    assert "fine_tuned_checkpoint" not in outcome.materialized
    assert [r.status for r in watched.world.ledger.requests("zoo")] == ["rejected"]


def test_failing_tests_of_the_project_stop_before_training(watched: Watched) -> None:
    watched.project.write(
        "tests/test_nothing_is_broken.py", "def test_two_and_two_are_five():\n    assert 2 + 2 == 5\n"
    )
    watched.project.ship("Broken")
    outcome = watched.world.settle()
    assert "ci_report" in outcome.materialized, "the report is kept"
    assert "fine_tuned_checkpoint" not in outcome.materialized
    assert "1 failed" in watched.world.ledger.requests("zoo")[-1].detail


def test_a_program_at_its_time_limit_ends_the_request_and_names_the_setting(
    make_project: Callable[[], Project], make_world: Callable[..., World]
) -> None:
    """A program that never ended held the slot for heavy programs, and its project, until a person killed it."""
    project = make_project()
    project.push()
    compute = ComputeSettings(threads=1, time_limits=TimeLimits(dataset_version=0.05))
    watched = Watched(project, make_world(project, compute=compute))
    outcome = watched.world.settle()
    assert "dataset did not end within 50 ms" in outcome.failures
    assert "compute.time_limits.dataset_version" in outcome.failures and "llmops retry" in outcome.failures
    assert [r.status for r in watched.world.ledger.requests("zoo")] == ["failed"], "and it is not tried again"


def _replace_base(watched: Watched, change: Callable[[Path], None]) -> str:
    folder = watched.project.folder / "models/base"
    keep = folder.with_name("fresh")
    shutil.copytree(folder, keep)
    shutil.rmtree(folder)
    keep.rename(folder)
    change(folder)
    watched.project.dvc_add("models/base")
    watched.project.ship("Another base", NO_CHECKS)
    return watched.world.settle().failures


def test_a_base_model_that_is_a_pickle_is_refused_with_the_remedy(watched: Watched) -> None:
    said = _replace_base(watched, lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin") and None)
    assert "pickle" in said and "safe_serialization" in said and "models/base" in said
    assert_untouched(watched)


def test_a_base_model_with_a_pickle_beside_its_safetensors_is_refused_and_not_tried_again(watched: Watched) -> None:
    """`training_args.bin` passed the check of the base model; the store then refused it in each of four generations."""
    said = _replace_base(watched, lambda f: (f / "training_args.bin").write_bytes(b"cos\nsystem\n") and None)
    assert "training_args.bin is a pickle" in said and "delete it" in said and "models/base" in said
    assert [r.status for r in watched.world.ledger.requests("zoo")] == ["failed"]
    assert_untouched(watched)


def test_a_tokenizer_with_a_broken_merge_is_refused_with_its_reason(watched: Watched) -> None:
    """The tokenizer's Rust library raises a bare Exception, which ended four runs with its stack trace."""

    def change(folder: Path) -> None:
        file = folder / "tokenizer.json"
        tokenizer = json.loads(file.read_text())
        tokenizer["model"]["merges"].insert(0, ["no-such-token", "either"])
        file.write_text(json.dumps(tokenizer))

    said = _replace_base(watched, change)
    assert "the tokenizer cannot be read: " in said and "no-such-token" in said and "Traceback" not in said
    assert [r.status for r in watched.world.ledger.requests("zoo")] == ["failed"]


def test_an_architecture_that_cannot_be_converted_is_refused_before_training(watched: Watched) -> None:
    def change(folder: Path) -> None:
        config = folder / "config.json"
        config.write_text(config.read_text().replace("LlamaForCausalLM", "NovelForCausalLM"))

    said = _replace_base(watched, change)
    assert "NovelForCausalLM" in said and "compute.llama_cpp" in said
    assert not list((watched.world.home / "jobs").glob("train-*"))
