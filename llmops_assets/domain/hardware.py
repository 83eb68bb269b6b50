"""The class of the hardware that computed something: speeds, memory and prices are compared within one class. Pure."""

import re
from collections import Counter
from collections.abc import Sequence

LONGEST = 60
"""Characters of a GPU's name."""


def hardware_class(cpus: int, gpus: Sequence[str] = ()) -> str:
    """`cpu-2`; with GPUs their number and model, such as `gpu-8-nvidia-h100-80gb-hbm3`. Models that differ are joined.

    Args:
        cpus: usable processors.
        gpus: the model of each GPU that is used, as the driver names it.
    """
    if not gpus:
        return f"cpu-{cpus}"
    counts = sorted(Counter(_plain(name) for name in gpus).items())
    return "gpu-" + "+".join(f"{count}-{name}" for name, count in counts)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:LONGEST].rstrip("-") or "unknown"
