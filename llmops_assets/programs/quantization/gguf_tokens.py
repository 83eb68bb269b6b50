"""Makes a GGUF file's special tokens those of training: what ends an answer, and whether a text begins with a token.

llama.cpp ends an answer at the file's EOS, EOT and EOM tokens, and at tokens that it knows by name. The converter only
writes EOS, and lets the engine add a beginning-of-text token whenever the tokenizer does, also where the chat template,
and so training, has none. `programs.engines.parity` checks the result on the engine.
"""

import json
from pathlib import Path
from typing import Any

from llmops_assets.programs.models.stop_tokens import configured_stops, end_of_turn, stops_of, text_of
from llmops_assets.programs.quantization.gguf_check import numbers_in
from llmops_assets.programs.quantization.gguf_header import with_keys

KNOWN = frozenset(["<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|eom_id|>"])
"""Names of stop tokens that every version of llama.cpp in use knows."""
EOS, EOT, EOM = (f"tokenizer.ggml.{name}_token_id" for name in ("eos", "eot", "eom"))


def follow_chat_template(model: Path, tokenizer: Any) -> None:
    """Tells the converter not to add a beginning-of-text token that the chat template does not begin with."""
    import jinja2

    file = model / "tokenizer_config.json"
    if tokenizer.bos_token is None or not file.is_file():
        return
    try:
        text = tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False)
    except jinja2.TemplateError:
        return
    if not text.startswith(tokenizer.bos_token):
        config = json.loads(file.read_text(encoding="utf-8")) | {"add_bos_token": False}
        file.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def name_stops(file: Path, model: Path, tokenizer: Any) -> None:
    """Adds to a GGUF file the stop tokens of its model that llama.cpp would not know. Most models need none."""
    named = numbers_in(file, (EOS, EOT, EOM))
    last = end_of_turn(tokenizer, tokenizer.chat_template)
    stops = stops_of(tokenizer, tokenizer.chat_template, configured_stops(model))
    unknown = [i for i in stops if i not in named.values() and text_of(i, tokenizer) not in KNOWN]
    free = [key for key in (EOT, EOM) if key not in named]
    keys: dict[str, int | bool | str] = dict(zip(free, sorted(unknown, key=lambda i: (i != last, i)), strict=False))
    if keys:
        copy = file.with_suffix(".named")
        with_keys(file, copy, keys)
        copy.replace(file)
