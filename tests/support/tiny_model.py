"""A random Llama with about 2 million parameters and SmolLM2's tokenizer, made once in a given folder.

Only for tests: its answers are noise, but all code handles it like a real model. The GGUF converter recognizes
tokenizers by their hash and rejects a newly trained one, so the tokenizer is SmolLM2's, downloaded and corrected by the
example's own script.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

REPOSITORY = Path(__file__).parents[2]
MAKE_BASE_MODEL = REPOSITORY / "examples" / "docstring-summarizer" / "make_base_model.py"
CACHE = Path(os.environ.get("LLMOPS_TEST_CACHE", Path.home() / ".cache" / "llmops"))


def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_base_model", MAKE_BASE_MODEL)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make_tiny_model(target: Path, cache: Path = CACHE, hidden: int = 32, layers: int = 2, seed: int = 0) -> Path:
    """Writes the model to `target` unless it exists already, and returns `target`."""
    if (target / "model.safetensors").exists():
        return target
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    target.parent.mkdir(parents=True, exist_ok=True)
    _script().make_tokenizer(target, cache)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(target)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=hidden * 2,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(target)
    return target


def make_tiny_gguf(folder: Path) -> Path:
    """Writes the model as GGUF to `folder`/artifact, by our quantization program."""
    from llmops_assets.programs.runtime.specs import QuantizeSpec

    model = make_tiny_model(folder / "tiny")
    spec = QuantizeSpec(method="none", base=str(model), checkpoint=str(model))
    (folder / "spec.json").write_text(spec.model_dump_json())
    program = [sys.executable, "-m", "llmops_assets.programs.quantize"]
    subprocess.run([*program, "--spec", folder / "spec.json", "--output", folder], check=True, capture_output=True)
    return folder / "artifact"
