"""Decides by file names which weights are allowed in a model folder. The only place with these rules.

Base model check, programs, store, hub and `llmops init` use it. Code that opens a file checks its content.
"""

from collections.abc import Iterable
from pathlib import PurePosixPath

SAFETENSORS = ".safetensors"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
"""Loading a pickle can run any code, so none is stored or loaded, even next to safetensors: `training_args.bin`."""
OTHER_FORMATS = (".h5", ".msgpack", ".onnx", ".gguf")
"""Files of hub folders that no stage reads: the same weights in other formats."""
HUB_FILES = ("*.json", f"*{SAFETENSORS}", "*.jinja", "*.txt", "*.model")
"""The files that are downloaded from a model on the hub."""


def pickles(names: Iterable[str]) -> list[str]:
    """The names of pickles among these files."""
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
