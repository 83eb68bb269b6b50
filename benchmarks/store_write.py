"""store_write: writing a 1 GB artifact of 4 files to a store on this disk, over `cp` plus `sha256sum` of the same."""

import shutil

from benchmarks.harness import Benchmark, Goal, Measured, Unmeasured, interleaved, seconds_of
from benchmarks.inputs import big_folder, copy_and_sum, settle
from benchmarks.place import Place
from resources.artifact_store.store import ArtifactStore


def measure(place: Place) -> Measured:
    source, work = big_folder(place), place.folder("write")
    size = sum(p.stat().st_size for p in source.iterdir())

    def put() -> float:
        settle()
        store = ArtifactStore(str(work / "store"), work / "cache")
        seconds = seconds_of(lambda: store.put(source))
        stored = sum(p.stat().st_size for p in (work / "store").rglob("*.safetensors"))
        if stored != size:
            raise Unmeasured(f"{stored} of {size} bytes were stored")
        shutil.rmtree(work / "store")
        return seconds

    def copy() -> float:
        settle()
        seconds = seconds_of(lambda: copy_and_sum(source, work / "copy"))
        shutil.rmtree(work / "copy")
        return seconds

    return interleaved(put, copy, 1 if place.quick else 5)


BENCHMARK = Benchmark(
    name="store_write",
    unit="s",
    against="cp plus sha256sum",
    goals=(Goal("ratio", "at most", 1.3),),
    measure=measure,
)
