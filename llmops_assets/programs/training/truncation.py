"""Rows that are longer than a training reads: counted, named with their file and line, refused above a share."""

from collections.abc import Sequence

from llmops_assets.programs.data.encoding import Encoded
from llmops_assets.programs.runtime.errors import BadInput
from llmops_assets.programs.runtime.specs import TrainSpec

NAMED = 5


def cut(rows: Sequence[Encoded], limit: int) -> list[Encoded]:
    """The rows with at most `limit` tokens each."""
    return [Encoded(row.ids[:limit], row.labels[:limit]) for row in rows]


def truncated(rows: Sequence[Encoded], places: Sequence[str], limit: int) -> list[str]:
    """The place and length of each row that is longer than `limit` tokens."""
    return [f"{p} ({len(r.ids)} tokens)" for r, p in zip(rows, places, strict=True) if len(r.ids) > limit]


def refuse_above_share(found: Sequence[str], rows: int, limit: int, context: int, spec: TrainSpec) -> str:
    """A line about the truncated rows; empty if there are none.

    Raises:
        BadInput: they are more than `max_truncated` of all rows.
    """
    if not found:
        return ""
    share = len(found) / rows
    named = ", ".join(found[:NAMED]) + (f" and {len(found) - NAMED} more" if len(found) > NAMED else "")
    which = f"training.max_length, {limit} tokens" if limit < context else f"the model's context, {limit} tokens"
    told = f"{len(found)} of {rows} rows are longer, with prompt and chat template, than {which}: {named}"
    if share <= spec.max_truncated:
        return f"{told}; they are cut"
    longer = f"raise training.max_length (the model's context is {context}), " if limit < context else ""
    raise BadInput(
        f"{told}. That is {share:.1%}, and training.max_truncated allows {spec.max_truncated:.1%}: {longer}shorten or "
        "drop these rows, or raise training.max_truncated"
    )
