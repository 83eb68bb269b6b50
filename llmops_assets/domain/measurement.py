"""When the figures of two reports may be compared: only what was measured in the same way.

Library versions, dtype, device and engine build change figures without changing a model. Rows and metrics are part of a
report's key and are compared by `llmops_assets.domain.gate` too.
"""

from llmops_assets.domain.records import Measured

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
