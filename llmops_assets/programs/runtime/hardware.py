"""What hardware a program has used, for the record of its result. It loads nothing by itself."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llmops_assets.domain.hardware import hardware_class
from llmops_assets.domain.models import Frozen
from llmops_assets.machine.files import write_atomically

FILE = "hardware.json"


class UsedHardware(Frozen):
    hardware: str
    """Its class."""
    gpu_memory_bytes: int | None = None
    """The most GPU memory that torch reserved in this process, over all GPUs; None: it used none."""


def usable_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def used_hardware(torch: Any, gpus: Sequence[str] = ()) -> UsedHardware:
    """What this process has used.

    Args:
        torch: the module, if it was imported; None: it was not.
        gpus: models of the GPUs that another process used for it, such as an engine; empty: those of torch.
    """
    if gpus:
        return UsedHardware(hardware=hardware_class(usable_cpus(), gpus))
    if torch is None or not (torch.cuda.is_available() and torch.cuda.is_initialized()):
        return UsedHardware(hardware=hardware_class(usable_cpus()))
    each = range(torch.cuda.device_count())
    names = [str(torch.cuda.get_device_properties(i).name) for i in each]
    memory = sum(int(torch.cuda.max_memory_reserved(i)) for i in each)
    return UsedHardware(hardware=hardware_class(usable_cpus(), names), gpu_memory_bytes=memory)


def note_hardware(output: Path, gpus: Sequence[str] = ()) -> None:
    """Writes what this process has used to the program's output folder."""
    found = used_hardware(sys.modules.get("torch"), gpus)
    write_atomically(output / FILE, found.model_dump_json())


def noted_hardware(output: Path) -> UsedHardware | None:
    """What a program has noted; None: nothing that can be read."""
    try:
        return UsedHardware.model_validate_json((output / FILE).read_bytes())
    except (OSError, ValueError):
        return None
