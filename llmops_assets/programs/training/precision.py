"""Chooses the precision in which a training computes: bfloat16 only where the device has instructions for it.

A CPU without them emulates bfloat16: one step of a model of 135 million parameters took 5 times as long as in float32
on a CPU with AVX2 only. Where they exist, float32 takes longer. The weights that are trained are float32 either way.
"""

from typing import Literal

from llmops_assets.programs.models.loading import device
from llmops_assets.programs.runtime.errors import BadInput

Precision = Literal["bf16", "fp32"]


def native_bf16() -> bool:
    """Whether this device computes in bfloat16 by instructions of its own."""
    import torch

    if device() == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    has = torch.cpu.get_capabilities()
    return any(has.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))  # the last one is ARM's


def chosen_precision(configured: str) -> Precision:
    """The precision for `training.precision` on this device.

    Raises:
        BadInput: bf16 is configured, and this GPU does not support it.
    """
    if configured == "fp32":
        return "fp32"
    native = native_bf16()
    if configured == "bf16" and not native and device() == "cuda":
        import torch

        raise BadInput(
            f"{torch.cuda.get_device_name(0)} does not support bfloat16; set training.precision to auto or fp32, or "
            "use a GPU of compute capability 8.0 or higher"
        )
    return "bf16" if native or configured == "bf16" else "fp32"
