"""A language model for lm-evaluation-harness that is a running serving engine.

Imports lm-eval at the top: `lm_task` imports this module when a task runs.
"""

from collections.abc import Sequence
from typing import Any

from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import (
    handle_stop_sequences,
    has_bos_prefix,
    normalize_gen_kwargs,
    postprocess_generated_text,
)

from llmops_assets.programs.engines.interface import EngineClient
from llmops_assets.programs.runtime.errors import BadInput

MAX_GEN_TOKS = 256
"""As HFLM's, where a task says nothing."""


class EngineLM(TemplateLM):
    """Texts become tokens as in lm-eval's HFLM, so that a task asks a model the same before and after quantization.

    One request at a time, and no row's answer depends on another row.

    Args:
        tokenizer: the one of training.
        engine: None: nothing is asked, and only `longest` is of use.
    """

    def __init__(self, tokenizer: Any, engine: EngineClient | None):
        super().__init__()
        self.tokenizer, self.engine = tokenizer, engine
        self.longest = 0
        """Tokens of the longest request so far, with its answer."""

    @property
    def eot_token_id(self) -> int:
        return int(self.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int:
        bos = self.tokenizer.bos_token_id
        return self.eot_token_id if bos is None else int(bos)

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        if add_special_tokens is None and has_bos_prefix(string, self.tokenizer.decode(self.prefix_token_id)):
            add_special_tokens = False
        given = {} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}
        ids: list[int] = self.tokenizer.encode(string, **given)
        return ids

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[tuple[str, str], list[int], list[int]]], **_: Any
    ) -> list[tuple[float, bool]]:
        found = []
        for _texts, context, continuation in requests:
            self.longest = max(self.longest, len(context) + len(continuation))
            if self.engine is None:
                found.append((0.0, False))
                continue
            told = self.engine.likelihood(context, continuation)
            found.append((-told.nll, told.greedy))
        return found

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        eos = self.tokenizer.decode(self.eot_token_id)
        found = []
        for request in requests:
            text, asked = request.args
            kwargs = normalize_gen_kwargs(asked, MAX_GEN_TOKS)
            until = handle_stop_sequences(kwargs.pop("until", None), eos=eos)
            ids, most = self.tok_encode(text), int(kwargs["max_gen_toks"])
            self.longest = max(self.longest, len(ids) + most)
            said = "" if self.engine is None else self.engine.continuation(ids, most, list(until))
            found.append(postprocess_generated_text(generation=said, stop=until, think_end_token=None))
        return found

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        raise BadInput("tasks that ask for loglikelihood_rolling are not supported")
