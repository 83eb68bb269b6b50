"""What a program says of the hardware that it has used. A GPU's properties are torch's own types; no GPU is there."""

from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from llmops_assets.programs.engines.memory import ask_driver, gpu_memory
from llmops_assets.programs.runtime.hardware import note_hardware, noted_hardware, usable_cpus, used_hardware


class Properties(NamedTuple):
    name: str


class Cuda:
    """The part of torch.cuda that is read, with two GPUs."""

    def __init__(self, initialized: bool = True, available: bool = True):
        self.initialized, self.available = initialized, available

    def is_available(self) -> bool:
        return self.available

    def is_initialized(self) -> bool:
        return self.initialized

    def device_count(self) -> int:
        return 2

    def get_device_properties(self, device: int) -> Properties:
        return Properties("NVIDIA H200")

    def max_memory_reserved(self, device: int) -> int:
        return (device + 1) * 10**9


class Torch:
    def __init__(self, cuda: Cuda):
        self.cuda = cuda


def test_a_program_that_used_gpus_has_their_class_and_memory_and_others_that_of_the_cpus() -> None:
    found = used_hardware(Torch(Cuda()))
    assert (found.hardware, found.gpu_memory_bytes) == ("gpu-2-nvidia-h200", 3 * 10**9)
    cpus = f"cpu-{usable_cpus()}"
    for torch in (None, Torch(Cuda(initialized=False)), Torch(Cuda(available=False))):
        assert (used_hardware(torch).hardware, used_hardware(torch).gpu_memory_bytes) == (cpus, None)
    engine = used_hardware(Torch(Cuda(initialized=False)), ["NVIDIA L4"])
    assert (engine.hardware, engine.gpu_memory_bytes) == ("gpu-1-nvidia-l4", None)


def test_it_is_kept_beside_the_result_and_real_torch_here_has_no_gpu(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert noted_hardware(tmp_path) is None
    note_hardware(tmp_path)
    assert noted_hardware(tmp_path) == used_hardware(torch)
    (tmp_path / "hardware.json").write_text("{")
    assert noted_hardware(tmp_path) is None


def test_the_gpu_memory_of_an_engine_is_that_of_its_processes() -> None:
    pid = psutil.Process().pid
    assert gpu_memory(pid, lambda: f"{pid}, 2048\n{pid}, 512\n1, 9999\n") == 2560 * 2**20
    assert gpu_memory(pid, lambda: f"{pid}, [N/A]\nNo devices were found\n\n") is None
    assert gpu_memory(pid, lambda: "1, 9999\n") is None
    assert ask_driver() == "" or ask_driver().count(",") > 0
