"""store_read_verified: fetching and verifying an artifact of 1 GB in 4 files, over `cp` plus `sha256sum` of the same.

Measured twice: from a store on this disk, which a stage reads in place, and through fsspec into the local copy that a
remote store needs. The slower one is the figure.
"""

import shutil
import statistics

from benchmarks.harness import Benchmark, Goal, Measured, seconds_of
from benchmarks.inputs import big_folder, copy_and_sum, settle
from benchmarks.place import Place
from resources.artifact_store.store import ArtifactStore


def measure(place: Place) -> Measured:
    source, work = big_folder(place), place.folder("read")
    uri = ArtifactStore(str(work / "store"), work / "cache").put(source).uri

    def in_place() -> float:
        return seconds_of(lambda: ArtifactStore(str(work / "store"), work / "cache").fetch(uri))

    def through_a_copy() -> float:
        settle()
        seconds = seconds_of(lambda: _Elsewhere(str(work / "store"), work / "cache").fetch(uri))
        shutil.rmtree(work / "cache")
        return seconds

    def copy() -> float:
        settle()
        seconds = seconds_of(lambda: copy_and_sum(source, work / "copy"))
        shutil.rmtree(work / "copy")
        return seconds

    taken = [(in_place(), through_a_copy(), copy()) for _ in range(1 if place.quick else 5)]
    near, far, baseline = (statistics.median(t) for t in zip(*taken, strict=True))
    return Measured(max(near, far), baseline)


class _Elsewhere(ArtifactStore):
    """A store on this disk that behaves like a remote one: it downloads, at the disk's speed."""

    @property
    def is_local(self) -> bool:
        return False


BENCHMARK = Benchmark(
    name="store_read_verified",
    unit="s",
    against="cp plus sha256sum",
    goals=(Goal("ratio", "at most", 1.3),),
    measure=measure,
)
