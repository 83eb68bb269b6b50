"""Token parity: whether a serving engine evaluates the tokens that training and evaluation read.

The engine's tokens are those of a real chat request, with the beginning-of-text token that it adds or strips. Starting
the engine belongs in `programs.engines.running`, the verdict in `domain.gate`.
"""

from collections.abc import Collection, Sequence
from difflib import SequenceMatcher
from typing import Any

from llmops_assets.domain.formatting import quoted
from llmops_assets.programs.data.encoding import Encoder
from llmops_assets.programs.data.rows import ROLES, Row, messages_of
from llmops_assets.programs.engines.interface import EngineClient

WINDOW = 48
"""Tokens after the first difference that are compared: enough for a turn's header, and quick for long rows."""
ROLE_NAMES = frozenset({*ROLES, "model", "human", "bot"})


def compare_tokens(engine: EngineClient, encoder: Encoder, rows: Sequence[Row]) -> list[str]:
    """Compares the engine's tokens with those of training and evaluation; returns a line for each row that differs.

    Compares the ids of the rendered prompt as the engine tokenizes it in a request, their number in a real one, and
    the tokens that end an answer.
    """
    mismatches = []
    endless = [stop for stop in encoder.stops if not engine.ends_at(stop)]
    for number, row in enumerate(rows, start=1):
        messages = messages_of(row)[:-1]
        expected = encoder.prompt_ids(row)
        got = engine.tokens(engine.rendered(messages))
        if got != expected:
            mismatches.append(f"row {number}: {difference(got, expected, encoder.tokenizer, encoder.stops)}")
            continue
        asked = engine.answer(messages, 1).prompt_tokens
        if asked != len(expected):
            mismatches.append(f"row {number}: the engine evaluates {asked} tokens, training read {len(expected)}")
        elif endless:
            texts = ", ".join(f"{quoted_tokens([stop], encoder.tokenizer)} [{stop}]" for stop in endless)
            mismatches.append(f"row {number}: the engine does not end an answer at {texts}, training and evaluation do")
    return mismatches


def difference(got: Sequence[int], expected: Sequence[int], tokenizer: Any, stops: Collection[int]) -> str:
    """The first difference between the engine's ids and training's: its place, its kind, and the text of both."""
    at = next((i for i, (a, b) in enumerate(zip(got, expected, strict=False)) if a != b), min(len(got), len(expected)))
    ours, theirs = list(got[at : at + WINDOW]), list(expected[at : at + WINDOW])
    changes = SequenceMatcher(None, ours, theirs, autojunk=False).get_opcodes()
    _, i, i_end, j, j_end = next(c for c in changes if c[0] != "equal")
    engine, training = ours[i:i_end], theirs[j:j_end]
    read = [f"{quoted_tokens(ids, tokenizer)} {ids[:8]}" if ids else "nothing" for ids in (engine, training)]
    kind = kind_of(engine, training, at, tokenizer, stops)
    before = quoted_tokens(got[max(0, at - 4) : at], tokenizer)
    return (
        f"from token {at + 1} on, {kind}: the engine reads {read[0]}, training read {read[1]}, "
        f"{f'after {before}' if at else 'at the beginning'} ({len(got)} and {len(expected)} tokens)"
    )


def quoted_tokens(ids: Sequence[int], tokenizer: Any) -> str:
    return quoted(tokenizer.decode(list(ids), skip_special_tokens=False))


def kind_of(engine: Sequence[int], training: Sequence[int], at: int, tokenizer: Any, stops: Collection[int]) -> str:
    """What differs, for a person who looks for it in a chat template."""
    special = {*tokenizer.all_special_ids, *(i for i, t in tokenizer.added_tokens_decoder.items() if t.special)}
    both = {*engine, *training}
    first, second = (tokenizer.decode(list(ids), skip_special_tokens=False) for ids in (engine, training))
    absent = not (engine and training)
    if (at <= 1 and tokenizer.bos_token_id in both) or (at == 0 and absent and both <= special):  # or it occurs twice
        return "the beginning-of-text token"
    if not both.isdisjoint(stops):
        return "a stop token"
    if both & special:
        return "a special token"
    if "".join(first.split()) == "".join(second.split()):
        return "white space"
    if {first.strip(), second.strip()} & ROLE_NAMES:
        return "the name of a role"
    return "text"
