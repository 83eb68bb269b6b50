"""Check, programs and store apply the same rules for allowed weights."""

import pytest

from llmops_assets.domain.weights import PICKLES, pickles, problem_of_weights


def test_safetensors_with_what_belongs_to_them_are_allowed() -> None:
    assert problem_of_weights(["config.json", "model-00001-of-00002.safetensors", "tokenizer.model", "a.txt"]) is None


@pytest.mark.parametrize("suffix", PICKLES)
def test_a_pickle_is_refused_also_beside_safetensors_and_is_to_be_deleted(suffix: str) -> None:
    said = problem_of_weights(["model.safetensors", f"training_args{suffix}"]) or ""
    assert said.startswith(f"training_args{suffix} is a pickle") and "delete it" in said


def test_pickles_below_and_in_capitals_are_found_and_all_are_named() -> None:
    """The store uploads a folder with all its subfolders."""
    names = ["checkpoint-9/optimizer.pt", "model.safetensors", "OLD.BIN", "bin/readme.txt"]
    assert pickles(names) == ["OLD.BIN", "checkpoint-9/optimizer.pt"]
    assert (problem_of_weights(names) or "").startswith("OLD.BIN, checkpoint-9/optimizer.pt are pickles")


def test_weights_that_are_a_pickle_alone_are_to_be_converted() -> None:
    said = problem_of_weights(["config.json", "pytorch_model.bin"]) or ""
    assert "pytorch_model.bin is a pickle" in said and "safe_serialization=True" in said and "delete" not in said


@pytest.mark.parametrize("names", [[], ["config.json"], ["adapter/model.safetensors"], ["model.gguf"]])
def test_a_folder_without_safetensors_of_its_own_has_no_weights(names: list[str]) -> None:
    assert "no *.safetensors" in (problem_of_weights(names) or "")
