"""When the figures of two reports may be compared: only what was measured in the same way.

Library versions, dtype, device and engine build change figures without changing a model. Rows and metrics are part of a
report's key and are compared by `llmops_assets.domain.gate` too.
"""

from llmops_assets.domain.keys import short
from llmops_assets.domain.records import Measured, Metric

ALIKE = "both were measured with the same libraries, dtype, device and engine"


def differences(one: Measured, other: Measured) -> tuple[str, ...]:
    """What differs between the measurements of two reports, in words; empty if they may be compared."""
    a, b = one.measured_with, other.measured_with
    if a == b:
        return ()
    if not a or not b:
        return ("one of them does not say with which libraries, dtype and device",)
    return tuple(
        f"{name} {b.get(name, 'none')} there, {a.get(name, 'none')} here"
        for name in sorted({*a, *b})
        if a.get(name) != b.get(name)
    )


def other_tokenizer(metric: Metric, one: Measured, other: Measured) -> str | None:
    """Why a metric cannot be compared although both reports measured it; None if it can.

    Perplexity is a mean over tokens: a tokenizer with longer tokens has fewer and harder ones, so the same model of the
    same text has a higher perplexity. Bits per byte have the same unit for all.
    """
    if not metric.per_token or one.tokenizer == other.tokenizer:
        return None
    a, b = (short(report.tokenizer) if report.tokenizer else "unknown" for report in (one, other))
    return (
        f"{metric.name} is counted in tokens, and the tokenizers differ ({b} there, {a} here); add bits_per_byte to "
        "evaluation.metrics and gate that instead"
    )
