"""The digest of a tokenizer: equal if two tokenizers split every text into the same tokens."""

import json
from typing import Any

from llmops_assets.domain.keys import digest

NOT_SPLITTING = ("truncation", "padding", "version")
"""Parts of tokenizer.json that say nothing about how text is split; a use of the tokenizer changes the first two."""


def tokenizer_digest(tokenizer: Any) -> str:
    """Of a transformers tokenizer: its vocabulary, and how it normalizes, splits and merges."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:  # a tokenizer in Python: its vocabulary and class are all that can be read
        return digest([type(tokenizer).__name__, sorted(tokenizer.get_vocab().items())])
    whole = json.loads(backend.to_str())
    return digest({name: value for name, value in whole.items() if name not in NOT_SPLITTING})
