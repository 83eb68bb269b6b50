"""Benchmark inputs: large files, random models, and the baseline that copies files with `cp` and `sha256sum`."""

import os
import shutil
from pathlib import Path

from benchmarks.harness import Unmeasured, command
from benchmarks.place import Place
from tests.support.tiny_model import make_tiny_model, smollm2_tokenizer

FILES = 4
SIZE, QUICK_SIZE = 1_000_000_000, 8_000_000
CHUNK = 1 << 20


def big_folder(place: Place) -> Path:
    """A folder with 1 GB of random bytes in 4 files, created once per run.

    Raises:
        Unmeasured: the disk has too little space for it and its copies.
    """
    size = QUICK_SIZE if place.quick else SIZE
    if shutil.disk_usage(place.root).free < 5 * size:
        raise Unmeasured(f"{place.root} has less than {5 * size / 1e9:.1f} GB free; set TMPDIR to another disk")

    def make() -> Path:
        folder = place.folder("files")
        for number in range(FILES):
            with (folder / f"part-{number}.safetensors").open("wb") as file:
                left = size // FILES
                while left:
                    left -= file.write(os.urandom(min(CHUNK, left)))
        return folder

    return place.shared("files", make)


def random_model(folder: Path, hidden: int = 32, layers: int = 2) -> Path:
    """A Llama with random weights and SmolLM2's tokenizer."""
    return make_tiny_model(folder, smollm2_tokenizer, hidden=hidden, layers=layers)


def settle() -> None:
    """Flushes earlier writes to disk, so that the next measurement does not include them."""
    os.sync()


def copy_and_sum(folder: Path, target: Path) -> None:
    target.mkdir()
    paths = [str(p) for p in sorted(folder.iterdir())]
    command(["cp", *paths, str(target)])
    command(["sha256sum", *paths])
