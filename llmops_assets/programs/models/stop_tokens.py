"""The tokens that end an answer: of the model's configuration, its tokenizer and its chat template.

The tokenizer's EOS alone is not enough: Gemma, Llama 3 and Phi end a turn with another token (<end_of_turn>,
<|eot_id|>, <|end|>). Where text is cut at them belongs in `programs.data.encoding`, what the engine knows in
`programs.quantization.gguf`.
"""

import json
from pathlib import Path
from typing import Any

from llmops_assets.config.documents import DocumentError
from llmops_assets.programs.models.config_files import read_generation_config, read_model_config
from llmops_assets.programs.runtime.errors import BadInput

GENERATION_CONFIG = "generation_config.json"
_ANSWER = "Zq"
_TALK = [{"role": "user", "content": "x"}, {"role": "assistant", "content": _ANSWER}]


def configured_stops(folder: Path) -> tuple[int, ...]:
    """The stop tokens of a model folder's generation_config.json, or else of its config.json.

    Raises:
        BadInput: a file is broken.
    """
    for name, read in ((GENERATION_CONFIG, read_generation_config), ("config.json", read_model_config)):
        if not (folder / name).is_file():
            continue
        try:
            found = read(folder).get("eos_token_id")
        except DocumentError as error:
            raise BadInput(str(error), str(folder / name)) from error
        if found is not None:
            return tuple(found) if isinstance(found, list) else (found,)
    return ()


def end_of_turn(tokenizer: Any, chat_template: str) -> int | None:
    """The token with which a chat template ends the assistant's turn; None if it ends with ordinary text or nothing."""
    import jinja2

    try:
        text = tokenizer.apply_chat_template(_TALK, chat_template=chat_template, tokenize=False)
    except jinja2.TemplateError:
        return None
    _, found, rest = text.rpartition(_ANSWER)
    added = {token.content: i for i, token in tokenizer.added_tokens_decoder.items() if token.content.strip()}
    after = rest.lstrip()
    return max(((t, i) for t, i in added.items() if found and after.startswith(t)), default=(None, None))[1]


def stops_of(tokenizer: Any, chat_template: str, configured: tuple[int, ...] = ()) -> tuple[int, ...]:
    """Every token that ends an answer, in ascending order."""
    found = {tokenizer.eos_token_id, end_of_turn(tokenizer, chat_template), *configured}
    return tuple(sorted(i for i in found if i is not None and 0 <= i < len(tokenizer)))


def text_of(token: int, tokenizer: Any) -> str:
    """The text of a stop token in a rendered conversation."""
    added = tokenizer.added_tokens_decoder.get(token)
    return str(added.content if added is not None else tokenizer.decode([token], skip_special_tokens=False))


def save_stops(stops: tuple[int, ...], base: Path, folder: Path) -> None:
    """Writes the base model's generation_config.json with all stop tokens: engines and transformers read it."""
    found = read_generation_config(base) if (base / GENERATION_CONFIG).is_file() else {}
    text = json.dumps({**found, "eos_token_id": list(stops)}, indent=2, sort_keys=True)
    (folder / GENERATION_CONFIG).write_text(text + "\n", encoding="utf-8")
