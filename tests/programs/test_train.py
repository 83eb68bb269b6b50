"""Training: its results, its errors, and resuming after a kill."""

import json
import os
import re
import runpy
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from llmops_assets.programs.data.encoding import Encoder
from llmops_assets.programs.data.rows import load_split
from llmops_assets.programs.evaluation.inference import likelihoods
from llmops_assets.programs.models.loading import load_tokenizer, load_weights
from llmops_assets.programs.runtime.entry import MESSAGES, ProgramRun
from resources.compute.pipes import forward_progress
from tests.programs.conftest import PROMPT, Ended, Make, command, run_once, run_program, some_rows, write_jsonl
from tests.support.forking import call, called

ADAPTER = "adapter_model.safetensors"


def _train_until_a_checkpoint_is_complete(words: list[str]) -> None:
    complete: list[str] = []

    def listen(event: str, args: tuple[Any, ...]) -> None:
        if event == "os.rename" and str(args[1]).endswith("COMPLETE.json"):
            complete.append(str(args[1]))
        elif complete and event == "open" and str(args[0]).endswith(MESSAGES):
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(listen)
    sys.argv = words
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)


def kill_after_a_checkpoint(spec: dict[str, Any], output: Path) -> None:
    """Kills the training (-9) right after a checkpoint is complete, however busy the machine is."""
    words = command("train", spec, output)[2:]
    killed = call(_train_until_a_checkpoint_is_complete, words, log=output / "killed.log")
    assert killed.wait() == -signal.SIGKILL


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


@pytest.fixture(scope="session")
def small(training: dict[str, Any], base: Path) -> dict[str, Any]:
    """The same of a model with 464 tokens instead of 49,152: a second of CPU time instead of nine."""
    return {**training, "base": str(base)}


def test_a_killed_training_resumes_and_ends_with_the_same_weights(
    small: dict[str, Any], programs: Path, tmp_path: Path
) -> None:
    """A killed Trainer leaves partial checkpoints (transformers#35782)."""
    whole = run_once("train", small, programs / "trained-small")
    spec = {**small, "checkpoint_every_s": 0.05}
    kill_after_a_checkpoint(spec, tmp_path)
    complete = max(int(p.parent.name.split("-")[1]) for p in tmp_path.glob("resume/checkpoint-*/COMPLETE.json"))
    half = tmp_path / "resume" / "checkpoint-23"
    half.mkdir()
    (half / "trainer_state.json").write_text("{")
    (tmp_path / MESSAGES).unlink()

    again = run_program("train", spec, tmp_path)

    assert again.result["resumed_from_step"] == complete > 0
    assert again.result["steps"] == 24
    assert steps_said(tmp_path)[0] == complete == min(steps_said(tmp_path))
    files = [{p.name: p.read_bytes() for p in made.artifact.iterdir()} for made in (again, whole)]
    assert files[0] == files[1], "a checkpoint that is made again is the same one to all that stands on it"
    assert again.result["train_loss"] == whole.result["train_loss"]
    assert again.result["tokens"] == whole.result["tokens"]


def test_a_finished_training_is_not_done_again(training: dict[str, Any], trained: Ended) -> None:
    written = (trained.output / "result.json").stat().st_mtime_ns
    again = run_program("train", training, trained.output)
    assert again.result == trained.result
    assert (trained.output / "result.json").stat().st_mtime_ns == written


def test_a_training_that_diverges_ends_early_with_its_own_name(small: dict[str, Any], tmp_path: Path) -> None:
    """It trained to its end, 102 s in the demo, and left a checkpoint that could only fail later."""
    far = {**small, "method": "full", "learning_rate": 30.0, "max_steps": 100, "batch_size": 2}
    ended = run_program("train", far, tmp_path / "far")
    assert ended.error["error"] == "TrainingDiverged"
    told = re.fullmatch(
        r"the training diverged at step (\d+) of 100: the loss is [\d.e+]+, and its median over 5 steps [\d.e+]+; the "
        r"best was [\d.]+; lower training.learning_rate .*",
        ended.error["message"],
    )
    assert told is not None and int(told[1]) < 40, ended.error
    assert not (ended.output / "artifact").exists() and not (ended.output / "resume").exists()
    nan = {**small, "method": "full", "learning_rate": 1e30, "max_steps": 4}
    error = run_program("train", nan, tmp_path / "nan").error
    assert error["error"] == "TrainingDiverged" and " of 4: the loss is not a finite number" in error["message"], error


def test_a_noisy_training_is_not_taken_for_a_diverging_one(small: dict[str, Any], tmp_path: Path) -> None:
    result = run_program("train", {**small, "batch_size": 1, "learning_rate": 3e-2}, tmp_path).result
    assert result["steps"] == 24 and 0 < result["train_loss"] < 11


def changed_weights_and_loss(base: Path, made: Path, data: Path, told: Path) -> None:
    """Whether a checkpoint's weights differ from the base model's, and its loss on the validation rows."""
    import torch
    from safetensors.torch import load_file

    before, after = (load_file(folder / "model.safetensors") for folder in (base, made))
    model = load_weights(made, "the checkpoint", torch.float32)
    encoder = Encoder(load_tokenizer(made), PROMPT)
    rows = [encoder.row(row) for row in load_split(data, "validation")]
    scored = likelihoods(model, rows, encoder.tokenizer.pad_token_id, ProgramRun(told.parent), "validate")
    loss = sum(nll for nll, _ in scored) / sum(n for _, n in scored)
    told.write_text(json.dumps([any((before[name] != after[name]).any().item() for name in before), loss]))


def test_a_full_training_of_one_step_learns_and_validates_what_it_saves(
    small: dict[str, Any], base: Path, data: Path, tmp_path: Path
) -> None:
    """The learning rate of the first step was 0, so that this training saved its base model. And the loss was that of
    weights in float32, of which the checkpoint keeps 8 bits."""
    done = run_program("train", {**small, "method": "full", "max_steps": 1, "learning_rate": 1e-2}, tmp_path / "out")
    called(changed_weights_and_loss, base, done.artifact, data, tmp_path / "told.json", log=tmp_path / "log.txt")
    changed, loss = json.loads((tmp_path / "told.json").read_text())
    assert changed and done.result["validation_loss"] == pytest.approx(loss, rel=1e-6)


def test_cut_rows_are_counted_and_refused_above_a_share_with_file_and_line(
    training: dict[str, Any], programs: Path, tmp_path: Path
) -> None:
    """Rows beyond max_length were cut without a word; their answers were learned without an end, or not at all."""
    rows = some_rows(0, 40)
    for n in (10, 20):
        rows[n]["input"] += "\n    # long" * 40
    lines = write_jsonl(tmp_path / "train.jsonl", rows)
    lines.write_text("\n" + lines.read_text())  # an empty line, so that lines and rows are counted differently
    test = write_jsonl(tmp_path / "test.jsonl", some_rows(50, 54))
    names = {"train": "data/train.jsonl", "test": "data/test.jsonl"}
    spec = {"train": str(lines), "test": str(test), "names": names, "tokenizer": None}
    made = run_program("dataset", spec, tmp_path / "data")
    spec = {**training, "data": str(made.artifact), "max_length": 64, "max_steps": 1}
    result = run_program("train", {**spec, "max_truncated": 0.05}, tmp_path / "allowed").result
    assert result["truncated_rows"] == 2
    message = run_program("train", {**spec, "max_truncated": 0.04}, tmp_path / "refused").error["message"]
    places = r"data/train.jsonl, line 12 \(\d+ tokens\), data/train.jsonl, line 22 \(\d+ tokens\)"
    assert re.match(rf"2 of 40 rows .* than training.max_length, 64 tokens: {places}\. That is 5.0%", message), message
    assert "training.max_truncated allows 4.0%" in message and "raise training.max_length" in message


def test_without_training_the_base_model_is_the_checkpoint(small: dict[str, Any], tmp_path: Path) -> None:
    done = run_program("train", {**small, "method": "none"}, tmp_path)
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


def _has_bf16_instructions() -> bool:
    flags = set(Path("/proc/cpuinfo").read_text().split()) if Path("/proc/cpuinfo").exists() else set()
    return bool({"avx512_bf16", "amx_bf16", "bf16"} & flags)


def test_a_cpu_trains_in_bf16_only_where_it_has_instructions_for_it(trained: Ended) -> None:
    """On a CPU with AVX2 only, bf16 is emulated: two steps of the demo's model took over 200 s instead of 19."""
    import torch

    if torch.cuda.is_available():
        pytest.skip("a GPU decides by its compute capability")
    assert trained.result["precision"] == ("bf16" if _has_bf16_instructions() else "fp32")


def test_the_configured_precision_counts_on_every_device(small: dict[str, Any], tmp_path: Path) -> None:
    losses = {}
    for precision in ("bf16", "fp32"):
        ended = run_program("train", small | {"max_steps": 1, "precision": precision}, tmp_path / precision)
        assert ended.result["precision"] == precision
        losses[precision] = ended.result["train_loss"]
    assert losses["bf16"] != losses["fp32"] and losses["bf16"] == pytest.approx(losses["fp32"], rel=0.02)


def test_the_first_step_is_announced_before_it_is_done(trained: Ended) -> None:
    """It can take minutes; until then people saw "prepare"."""
    assert steps_said(trained.output)[0] == 0
