"""Training: its results, its errors, and resuming after a kill."""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from llmops_assets.programs.runtime.entry import MESSAGES
from resources.compute.pipes import forward_progress
from tests.programs.conftest import FORKS, Ended, Make, become, command, run_program

ADAPTER = "adapter_model.safetensors"


def _train_until_a_checkpoint_is_complete(words: list[str], log: Path) -> None:
    complete: list[str] = []

    def listen(event: str, args: tuple[Any, ...]) -> None:
        if event == "os.rename" and str(args[1]).endswith("COMPLETE.json"):
            complete.append(str(args[1]))
        elif complete and event == "open" and str(args[0]).endswith(MESSAGES):
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(listen)
    become(words, log)


def kill_after_a_checkpoint(spec: dict[str, Any], output: Path) -> None:
    """Kills the training (-9) right after a checkpoint is complete, however busy the machine is."""
    words = command("train", spec, output)[2:]
    process = FORKS.Process(target=_train_until_a_checkpoint_is_complete, args=(words, output / "killed.log"))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def steps_said(output: Path) -> list[int]:
    lines: list[dict[str, Any]] = []
    forward_progress(output, 0, lines.append)
    return [line["step"] for line in lines if line["phase"] == "train"]


def test_a_lora_training_leaves_an_adapter_and_a_tokenizer_in_safe_files(trained: Ended) -> None:
    result = trained.result
    assert result["steps"] == 24 and result["resumed_from_step"] == 0
    assert 0 < result["trained_parameters"] < result["parameters"]
    assert result["train_loss"] > result["validation_loss"] > 0
    assert result["tokens"] > 0 and result["tokens_per_s"] > 0
    names = {p.name for p in trained.artifact.iterdir()}
    assert {ADAPTER, "adapter_config.json", "tokenizer.json", "chat_template.jinja"} <= names
    assert json.loads((trained.artifact / "generation_config.json").read_text())["eos_token_id"] == [2]
    assert not [n for n in names if n.endswith((".bin", ".pt", ".pth", ".md"))]
    assert not (trained.output / "resume").exists()


def test_the_adapter_does_not_say_where_it_was_made(trained: Ended, tiny: Path) -> None:
    """The adapter's digest identifies the checkpoint: a path in it would make equal trainings differ."""
    assert str(tiny) not in (trained.artifact / "adapter_config.json").read_text()


def test_a_killed_training_resumes_and_ends_with_the_same_weights(
    training: dict[str, Any], trained: Ended, tmp_path: Path
) -> None:
    """A killed Trainer leaves partial checkpoints (transformers#35782)."""
    spec = {**training, "checkpoint_every_s": 0.2}
    kill_after_a_checkpoint(spec, tmp_path)
    complete = max(int(p.parent.name.split("-")[1]) for p in tmp_path.glob("resume/checkpoint-*/COMPLETE.json"))
    half = tmp_path / "resume" / "checkpoint-23"
    half.mkdir()
    (half / "trainer_state.json").write_text("{")
    (tmp_path / MESSAGES).unlink()

    again = run_program("train", spec, tmp_path)

    assert again.result["resumed_from_step"] == complete > 0
    assert again.result["steps"] == 24
    assert min(steps_said(tmp_path)) > complete
    files = [{p.name: p.read_bytes() for p in made.artifact.iterdir()} for made in (again, trained)]
    assert files[0] == files[1], "a checkpoint that is made again is the same one to all that stands on it"
    assert again.result["train_loss"] == trained.result["train_loss"]
    assert again.result["tokens"] == trained.result["tokens"]


def test_a_finished_training_is_not_done_again(training: dict[str, Any], trained: Ended) -> None:
    written = (trained.output / "result.json").stat().st_mtime_ns
    again = run_program("train", training, trained.output)
    assert again.result == trained.result
    assert (trained.output / "result.json").stat().st_mtime_ns == written


def test_a_training_that_diverges_still_has_a_result(training: dict[str, Any], tmp_path: Path) -> None:
    spec = {**training, "method": "full", "learning_rate": 1e30, "max_steps": 4}
    result = run_program("train", spec, tmp_path).result
    assert result["train_loss"] is None and result["validation_loss"] is None
    assert (tmp_path / "artifact" / "model.safetensors").exists()


def test_without_training_the_base_model_is_the_checkpoint(training: dict[str, Any], tmp_path: Path) -> None:
    done = run_program("train", {**training, "method": "none"}, tmp_path)
    assert done.result["steps"] == 0 and done.result["train_loss"] is None
    assert done.result["validation_loss"] > 0
    assert not list(done.artifact.glob("*.safetensors"))


def test_a_missing_base_model_is_reported_with_the_remedy(training: dict[str, Any], tmp_path: Path) -> None:
    error = run_program("train", {**training, "base": str(tmp_path / "nowhere")}, tmp_path / "out").error
    assert "does not exist" in error["message"] and "dvc" in error["message"].lower()
    assert error["where"].endswith("nowhere")


def test_pickled_weights_are_refused(training: dict[str, Any], base_without: Make, tmp_path: Path) -> None:
    base = base_without("model.safetensors")
    (base / "pytorch_model.bin").write_bytes(b"cos\nsystem\n")
    error = run_program("train", {**training, "base": str(base)}, tmp_path / "out").error
    assert "pytorch_model.bin" in error["message"] and "save_pretrained" in error["message"]


def test_cut_off_weights_are_refused(training: dict[str, Any], base_without: Make, tiny: Path, tmp_path: Path) -> None:
    base = base_without("model.safetensors")
    (base / "model.safetensors").write_bytes((tiny / "model.safetensors").read_bytes()[:100_000])
    error = run_program("train", {**training, "base": str(base)}, tmp_path / "out").error
    assert "not a whole safetensors file" in error["message"]


def test_a_tokenizer_without_chat_template_is_refused(
    training: dict[str, Any], base_without: Make, tmp_path: Path
) -> None:
    base = base_without("chat_template.jinja")
    error = run_program("train", {**training, "base": str(base)}, tmp_path / "out").error
    assert "no chat template" in error["message"] and "instruction-tuned" in error["message"]


def test_a_chat_template_that_never_ends_an_answer_is_refused(
    training: dict[str, Any], base_without: Make, tmp_path: Path
) -> None:
    base = base_without("chat_template.jinja")
    (base / "chat_template.jinja").write_text(
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    )
    error = run_program("train", {**training, "base": str(base)}, tmp_path / "out").error
    assert "ends the assistant's turn with no stop token" in error["message"]
    assert "end-of-turn token" in error["message"]


def test_stop_tokens_that_are_no_numbers_are_reported_with_their_file(
    training: dict[str, Any], base_without: Make, tmp_path: Path
) -> None:
    base = base_without("generation_config.json")
    (base / "generation_config.json").write_text('{"eos_token_id": ["<|im_end|>"]}')
    error = run_program("train", {**training, "base": str(base)}, tmp_path / "out").error
    assert error["where"].endswith("generation_config.json") and "eos_token_id" in error["message"]


def test_code_that_comes_with_a_model_is_never_run(
    training: dict[str, Any], base_without: Make, tiny: Path, tmp_path: Path
) -> None:
    base = base_without("config.json")
    config = json.loads((tiny / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}}
    (base / "config.json").write_text(json.dumps(config))
    (base / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    assert run_program("train", {**training, "base": str(base)}, tmp_path / "out").error
    assert not (tmp_path / "ran").exists()


def test_a_broken_spec_is_reported(tmp_path: Path) -> None:
    error = run_program("train", {"base": "x", "surprise": 1}, tmp_path).error
    assert "surprise" in error["message"] and "data" in error["message"]
