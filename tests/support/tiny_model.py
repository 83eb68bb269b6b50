"""Random Llamas of less than two million parameters, made once in a given folder.

Only for tests: their answers are noise, but all code handles them like real models.
"""

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from llmops_assets.programs.runtime.specs import QuantizeSpec
from resources.compute.interface import Job
from resources.compute.local import LocalCompute
from tests.support.forking import Forking, called

REPOSITORY = Path(__file__).parents[2]
MAKE_BASE_MODEL = REPOSITORY / "examples" / "docstring-summarizer" / "make_base_model.py"
CACHE = Path(os.environ.get("LLMOPS_TEST_CACHE", Path.home() / ".cache" / "llmops"))
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
SYLLABLES = [(first, vowel) for first in "bcdfghjklmnpqrstvwxyz▁" for vowel in "aeiou"]
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' "
    "+ '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def small_tokenizer(folder: Path) -> None:
    """Writes a tokenizer of 464 tokens: ChatML's special tokens, bytes, ASCII characters and syllables.

    SmolLM2's vocabulary of 49,152 tokens costs 11 CPU seconds from the training to the served evaluation, this one 4.
    The GGUF converter rejects an unknown tokenizer of GPT-2's kind, but takes one of Llama 2's kind. It gives all
    tokens the same score, so llama.cpp merges from the left, and transformers in the order of the merges: these
    syllables never overlap, so the tokens are the same.
    """
    from tokenizers import Tokenizer, decoders, normalizers
    from tokenizers.models import BPE
    from transformers import PreTrainedTokenizerFast

    characters = [chr(code) for code in range(ord("!"), ord("~") + 1)]
    tokens = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *characters, "▁", *map("".join, SYLLABLES)]
    exact = Tokenizer(BPE({token: i for i, token in enumerate(tokens)}, SYLLABLES, byte_fallback=True))
    exact.normalizer = normalizers.Replace(" ", "▁")
    exact.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    exact.add_special_tokens(list(SPECIAL))
    unknown, begin, end = SPECIAL
    names = {"unk_token": unknown, "bos_token": begin, "eos_token": end, "pad_token": end}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=exact, add_prefix_space=False, **names)
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)


def smollm2_tokenizer(folder: Path) -> None:
    """Writes SmolLM2's tokenizer, downloaded and corrected by the example's own script."""
    _script().make_tokenizer(folder, CACHE)


def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_base_model", MAKE_BASE_MODEL)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make_tiny_model(
    target: Path,
    write_tokenizer: Callable[[Path], None] = small_tokenizer,
    hidden: int = 32,
    layers: int = 2,
    seed: int = 0,
) -> Path:
    """Writes the model to `target` unless it exists already, and returns `target`."""
    if (target / "model.safetensors").exists():
        return target
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    target.mkdir(parents=True, exist_ok=True)
    write_tokenizer(target)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(target)
    small = len(tokenizer) < 10_000
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=hidden * 2,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=512,
        tie_word_embeddings=not small,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    if small:
        _answer_visibly(model, tokenizer)
    model.to(torch.bfloat16).save_pretrained(target)
    return target


def tiny_model(
    target: Path, write_tokenizer: Callable[[Path], None] = small_tokenizer, hidden: int = 32, seed: int = 0
) -> Path:
    """`make_tiny_model` in a fork of the session's server, so that this process imports no torch: 9 CPU seconds."""
    if not (target / "model.safetensors").exists():
        log = target.with_name(f"{target.name}.log")
        called(make_tiny_model, target, write_tokenizer, hidden, 2, seed, log=log)
    return target


def _answer_visibly(model: Any, tokenizer: Any) -> None:
    """Makes the characters and syllables likely, and the other tokens unlikely, also when an answer is sampled.

    More than half of a small vocabulary are bytes and blanks, and the smoke test refuses an empty answer.
    """
    import torch

    texts = [tokenizer.decode([token], skip_special_tokens=True) for token in range(len(tokenizer))]
    visible = torch.tensor([bool(text.strip(" \ufffd")) and text.isprintable() for text in texts])
    with torch.no_grad():
        model.lm_head.weight *= 30.0 * visible[:, None]


def make_tiny_gguf(folder: Path) -> Path:
    """The model as GGUF, written below `folder` by our quantization program."""
    folder.mkdir(parents=True)
    model = tiny_model(folder / "tiny")
    (folder / "preloaded").symlink_to(Forking.folder)
    spec = QuantizeSpec(method="none", base=str(model), checkpoint=str(model))
    job = Job(name="quantize-tiny", program="quantize", spec=spec.model_dump(mode="json"))
    artifact = LocalCompute(folder, threads=1, preload=True).run(job).artifact
    return next(artifact.glob("*.gguf")).rename(folder / "tiny.gguf")
