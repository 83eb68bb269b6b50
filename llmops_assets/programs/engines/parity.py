"""Token parity: whether a serving engine reads the tokens that training and evaluation read.

Starting the engine belongs in `programs.engines.running`, the verdict in `domain.gate`.
"""

from collections.abc import Sequence

from llmops_assets.programs.data.encoding import Encoder
from llmops_assets.programs.data.rows import Row, messages_of
from llmops_assets.programs.engines.interface import EngineClient


def compare_tokens(engine: EngineClient, encoder: Encoder, rows: Sequence[Row]) -> list[str]:
    """Compares the engine's tokens with those of training and evaluation; returns a line for each row that differs.

    Compares the ids of the rendered prompt, and their number in a real request, where the engine may add a
    beginning-of-text token.
    """
    mismatches = []
    for number, row in enumerate(rows, start=1):
        messages = messages_of(row)[:-1]
        expected = encoder.prompt_ids(row)
        got = engine.tokens(engine.rendered(messages))
        if got != expected:
            pairs = enumerate(zip(got, expected, strict=False))
            at = next((i for i, (a, b) in pairs if a != b), min(len(got), len(expected)))
            mismatches.append(
                f"row {number}: from token {at + 1} on the engine reads {got[at : at + 5]}, training read "
                f"{expected[at : at + 5]} ({len(got)} and {len(expected)} tokens)"
            )
            continue
        _, asked, _ = engine.answer(messages, 1)
        if asked != len(expected):
            mismatches.append(f"row {number}: the engine reads {asked} tokens, training read {len(expected)}")
    return mismatches
