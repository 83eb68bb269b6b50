"""Which weights are allowed in a model folder, decided by file names: the one place that knows.

Base model check, programs, store, hub and `llmops init` all ask here. What is in a file belongs to those who open it.
"""

from collections.abc import Iterable
from pathlib import PurePosixPath

SAFETENSORS = ".safetensors"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
"""Loading one can run any code, so none is ever stored or loaded, not even beside safetensors: `training_args.bin`."""
OTHER_FORMATS = (".h5", ".msgpack", ".onnx", ".gguf")
"""What hub folders hold beside safetensors: the same weights, in formats that no stage reads of a base model."""
HUB_FILES = ("*.json", f"*{SAFETENSORS}", "*.jinja", "*.txt", "*.model")
"""What is downloaded of a model on the hub."""


def pickles(names: Iterable[str]) -> list[str]:
    """Those of some files that are pickles, by name."""
    return sorted(n for n in names if PurePosixPath(n).suffix.lower() in PICKLES)


def problem_of_weights(names: Iterable[str]) -> str | None:
    """Why a model folder with these files is refused, with the remedy; None if its weights are allowed."""
    names = list(names)
    has_weights = any(n.endswith(SAFETENSORS) for n in names if "/" not in n)
    if found := pickles(names):
        which = f"{found[0]} is a pickle" if len(found) == 1 else f"{', '.join(found)} are pickles"
        it = "it" if len(found) == 1 else "them"
        remedy = (
            f"the weights are there as safetensors, so delete {it}, and `dvc add` the folder again if DVC tracks it"
            if has_weights
            else f"convert {it} with `model.save_pretrained(folder, safe_serialization=True)` on a machine that trusts "
            f"{it}, and name that folder"
        )
        return f"{which}, which can run code when loaded; {remedy}"
    return None if has_weights else f"there are no *{SAFETENSORS} weights in it"
