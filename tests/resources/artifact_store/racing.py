"""Writers and readers of a store in their own processes, beside a garbage collector that takes all it can get."""

import multiprocessing
import time
from pathlib import Path
from typing import Any

from resources.artifact_store.store import ArtifactStore, StoreError

GRACE_S = 2.0
ROUNDS = 12


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
    users = [context.Process(target=_user, args=(url, root / f"cache-{n}", folders, answers)) for n in range(2)]
    collector = context.Process(target=_collector, args=(url, root / "cache-gc", over, told))
    for process in (collector, *users):
        process.start()
    wrong = [text for _ in users for text in answers.get(timeout=120)]
    time.sleep(GRACE_S + 0.5)  # nobody uses anything now: all of it goes
    over.set()
    freed, failed = told.get(timeout=60)
    for process in (collector, *users):
        process.join()
    return freed, [*wrong, *failed]
