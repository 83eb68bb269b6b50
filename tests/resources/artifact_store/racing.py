"""Writers and readers of a store in their own processes, beside a garbage collector that takes all it can get."""

import importlib
import multiprocessing
import time
from collections.abc import Callable, Sequence
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from resources.artifact_store.store import ArtifactStore, StoreError

GRACE_S = 2.0
ROUNDS = 12
Call = tuple[Callable[..., None], tuple[Any, ...]]


def started(calls: Sequence[Call], library: str = "fsspec") -> SpawnProcess:
    """Each call runs in a process of its own; the process that is returned ends after all of them."""
    parent = multiprocessing.get_context("spawn").Process(target=_fork, args=(calls, library))
    parent.start()
    return parent


def _fork(calls: Sequence[Call], library: str) -> None:
    """From a process that has no threads and has opened nothing: each call would import for two seconds."""
    importlib.import_module(library)
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=call, args=args) for call, args in calls]
    for process in processes:
        process.start()
    for process in processes:
        process.join()


def _user(url: str, cache: Path, folders: list[Path], answers: Any) -> None:
    """Stores each folder and reads it back at once, again and again; reports what went wrong within the grace."""
    store, wrong = ArtifactStore(url, cache), []
    for number in range(ROUNDS * len(folders)):
        folder, began = folders[number % len(folders)], time.time()
        try:
            artifact = store.put(folder)
            store.fetch(artifact.uri)
        except (StoreError, OSError) as error:
            if time.time() - began < GRACE_S * 0.8:
                wrong.append(f"{time.time() - began:.2f} s: {error!r}")
        time.sleep(0.05)
    answers.put(wrong)


def _collector(url: str, cache: Path, over: Any, answers: Any) -> None:
    store, freed, wrong = ArtifactStore(url, cache), 0, []
    while not over.is_set():
        try:
            for one in store.stored():
                freed += store.collect(one.identity, time.time() - GRACE_S) is not None
        except Exception as error:
            wrong.append(repr(error))
        time.sleep(0.02)
    answers.put((freed, wrong))


def race(url: str, root: Path, folders: list[Path]) -> tuple[int, list[str]]:
    """Lets two users and a collector loose on the store; returns (artifacts collected, what went wrong)."""
    context = multiprocessing.get_context("spawn")
    answers, told, over = context.Queue(), context.Queue(), context.Event()
    users: list[Call] = [(_user, (url, root / f"cache-{n}", folders, answers)) for n in range(2)]
    collector: Call = (_collector, (url, root / "cache-gc", over, told))
    racing = started([collector, *users], "s3fs" if url.startswith("s3:") else "fsspec")
    wrong = [text for _ in users for text in answers.get(timeout=120)]
    time.sleep(GRACE_S + 0.5)  # nobody uses anything now: all of it goes
    over.set()
    freed, failed = told.get(timeout=60)
    racing.join()
    return freed, [*wrong, *failed]
