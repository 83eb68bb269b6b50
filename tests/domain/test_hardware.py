"""The class of hardware, by which speeds and prices are compared."""

import pytest

from llmops_assets.domain.hardware import hardware_class


@pytest.mark.parametrize(
    ("gpus", "name"),
    [
        ([], "cpu-16"),
        (["NVIDIA H200"], "gpu-1-nvidia-h200"),
        (["NVIDIA H100 80GB HBM3"] * 8, "gpu-8-nvidia-h100-80gb-hbm3"),
        (["NVIDIA A100-SXM4-80GB MIG 3g.40gb"], "gpu-1-nvidia-a100-sxm4-80gb-mig-3g-40gb"),
        (["Tesla T4", "NVIDIA L4", "Tesla T4"], "gpu-1-nvidia-l4+2-tesla-t4"),
        (["®™"], "gpu-1-unknown"),
    ],
)
def test_a_gpus_number_and_model_name_the_class(gpus: list[str], name: str) -> None:
    """It was the number of processors: the speed of an H100 was compared with that of a T4 beside as many."""
    assert hardware_class(16, gpus) == name
