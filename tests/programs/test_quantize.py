"""Quantization: one GGUF file that opens, or an error that names the remedy."""

import json
from pathlib import Path
from typing import Any

import pytest

from llmops_assets.programs.models.loading import merge_dtype
from llmops_assets.programs.quantization.gguf_header import read_header
from llmops_assets.programs.runtime.errors import BadInput
from tests.programs.conftest import Ended, Make, run_program


def test_the_artifact_is_one_gguf_file_that_engines_know(quantized: Ended, gguf: Path) -> None:
    assert [p.name for p in quantized.artifact.iterdir()] == ["model-q8_0.gguf"]
    assert gguf.stat().st_size == quantized.result["size_bytes"]
    header = read_header(gguf)
    assert header["general.architecture"] == "llama" and header["llama.context_length"] == 512
    assert not (quantized.output / "merged").exists()


def test_nothing_in_the_file_says_where_it_was_made(quantized: Ended, gguf: Path, tiny: Path) -> None:
    head = gguf.read_bytes()[:4096]
    assert str(tiny).encode() not in head and b"merged" not in head


def test_an_architecture_that_the_converter_lacks_is_refused_at_once(
    base_without: Make, tiny: Path, tmp_path: Path
) -> None:
    base = base_without("config.json")
    config = json.loads((tiny / "config.json").read_text()) | {"architectures": ["DeepseekV3ForCausalLM"]}
    (base / "config.json").write_text(json.dumps(config))
    spec: dict[str, Any] = {"method": "none", "base": str(base), "checkpoint": str(base)}
    error = run_program("quantize", spec, tmp_path / "out").error
    assert "DeepseekV3ForCausalLM" in error["message"] and "compute.llama_cpp" in error["message"]


@pytest.mark.parametrize("content", [b"", b"GGUF", b"GGUF\x03\x00\x00\x00" + b"\xff" * 40, b"PK\x03\x04 not a model"])
def test_a_file_that_is_no_gguf_is_reported(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(content)
    with pytest.raises(BadInput, match="not a GGUF file"):
        read_header(file)


def test_a_missing_gguf_is_reported(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        read_header(tmp_path / "absent.gguf")


def test_a_checkpoint_is_evaluated_in_the_precision_of_its_release(tiny: Path, tmp_path: Path) -> None:
    """On a GPU it was merged in bfloat16 and released in float32: perplexity 18.5 was reported of a model with 18.0."""
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(8 << 30)  # a sparse file
    assert merge_dtype(tiny) == "float32" and merge_dtype(tmp_path) == "auto"
