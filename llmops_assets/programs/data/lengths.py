"""Counts the tokens of rows with the base model's tokenizer, without loading anything heavier.

Only the texts are counted, without chat template and prompt: rows that are too long with these are refused where the
prompt is known, by `programs.training.truncation` and `programs.evaluate`.
"""

from pathlib import Path

from llmops_assets.programs.data.rows import Row, messages_of
from llmops_assets.programs.models.loading import context_length, read_config
from llmops_assets.programs.runtime.errors import BadInput

AT_ONCE = 1000


def measure_lengths(rows: list[Row], base: Path) -> tuple[list[int], int]:
    """Tokens of each row, and the model's context length.

    Raises:
        BadInput: the base model has no usable tokenizer.
    """
    texts = ["\n".join(m["content"] for m in messages_of(row)) for row in rows]
    return _count(texts, base), context_length(read_config(base))


def _count(texts: list[str], base: Path) -> list[int]:
    file = base / "tokenizer.json"
    if not file.is_file():
        from llmops_assets.programs.models.loading import load_tokenizer

        tokenizer = load_tokenizer(base)
        return [len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]
    from tokenizers import Tokenizer

    try:
        exact = Tokenizer.from_file(str(file))
    except Exception as error:  # the Rust library raises nothing more specific
        raise BadInput(f"the tokenizer cannot be read: {error}", str(file)) from error
    exact.no_truncation()
    exact.no_padding()
    batches = (texts[i : i + AT_ONCE] for i in range(0, len(texts), AT_ONCE))
    return [len(e.ids) for batch in batches for e in exact.encode_batch(batch, add_special_tokens=False)]
