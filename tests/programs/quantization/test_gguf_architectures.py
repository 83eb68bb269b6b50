"""Whether the GGUF converter supports a model is known before training."""

import importlib
from pathlib import Path

import pytest

from llmops_assets.programs.quantization.gguf_architectures import convertible


def test_a_llama_is_convertible() -> None:
    assert convertible({"architectures": ["LlamaForCausalLM"]}) is None


def test_an_unknown_architecture_is_refused_with_the_remedy() -> None:
    reason = convertible({"architectures": ["NobodyForCausalLM"]})
    assert reason is not None and "NobodyForCausalLM" in reason and "compute.llama_cpp" in reason


def test_a_model_without_architecture_is_refused() -> None:
    assert "architectures" in (convertible({}) or "")


def test_what_is_said_is_what_the_converter_does() -> None:
    """Some converter modules use names that the newest published gguf does not have yet, and fail at import."""
    conversion = importlib.import_module("conversion")
    wrong = []
    for module in sorted(set(conversion.TEXT_MODEL_MAP.values())):
        architecture = next(a for a, m in conversion.TEXT_MODEL_MAP.items() if m == module)
        try:
            importlib.import_module(f"conversion.{module}")
            imports = True
        except AttributeError:
            imports = False
        if imports != (convertible({"architectures": [architecture]}) is None):
            wrong.append(module)
    assert not wrong


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A llama.cpp checkout with only the files that `convertible` reads."""
    gguf = tmp_path / "gguf-py" / "gguf"
    gguf.mkdir(parents=True)
    (gguf / "constants.py").write_text("class MODEL_ARCH:\n    QWEN9 = 1\n\n\nclass MODEL_TENSOR:\n    X = 1\n")
    (tmp_path / "convert_hf_to_gguf.py").write_text("")
    package = tmp_path / "conversion"
    package.mkdir()
    (package / "__init__.py").write_text(
        'TEXT_MODEL_MAP: dict[str, str] = {"Qwen9ForCausalLM": "qwen", "FarForCausalLM": "far"}\n'
    )
    (package / "qwen.py").write_text("import gguf\n\n\nclass A:\n    arch = gguf.MODEL_ARCH.QWEN9\n")
    (package / "far.py").write_text("import gguf\nfrom .qwen import A\n\n\nclass B(A):\n    x = gguf.MODEL_ARCH.FAR\n")
    return tmp_path


def test_a_configured_checkout_decides_for_itself(checkout: Path) -> None:
    assert convertible({"architectures": ["Qwen9ForCausalLM"]}, str(checkout)) is None
    assert "MODEL_ARCH.FAR" in (convertible({"architectures": ["FarForCausalLM"]}, str(checkout)) or "")
    assert "does not know" in (convertible({"architectures": ["LlamaForCausalLM"]}, str(checkout)) or "")


def test_an_old_checkout_of_one_file_is_read_too(checkout: Path) -> None:
    (checkout / "conversion" / "__init__.py").unlink()
    (checkout / "convert_hf_to_gguf.py").write_text(
        'import gguf\n\n\n@ModelBase.register("OldForCausalLM", "OlderForCausalLM")\n'
        "class A:\n    x = gguf.MODEL_TENSOR.X\n"
    )
    assert convertible({"architectures": ["OlderForCausalLM"]}, str(checkout)) is None


def test_a_folder_that_is_no_checkout_is_reported(tmp_path: Path) -> None:
    assert "not a llama.cpp checkout" in (convertible({"architectures": ["LlamaForCausalLM"]}, str(tmp_path)) or "")
