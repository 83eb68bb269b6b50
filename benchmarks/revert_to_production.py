"""revert_to_production: from pushing a revert until production serves the earlier release again, over the time that the
reverted change took. The change retrains; the revert must not compute any heavy stage.
"""

from benchmarks.harness import Benchmark, Goal, Measured, Unmeasured
from benchmarks.place import Place
from benchmarks.watched import NAME, Delivered, watched
from llmops_assets.domain.chain import HEAVY
from llmops_assets.domain.keys import short


def measure(place: Place) -> Measured:
    here = watched(place)
    before = here.ledger.serving(NAME, "production")
    here.project.configure({"training": {"learning_rate": 0.0005}})
    here.project.commit("Another rate")
    change = here.deliver()
    between = here.ledger.serving(NAME, "production")
    if "fine_tuned_checkpoint" not in here.records(change) or before is None or between is None:
        raise Unmeasured("the change did not retrain, so its revert measures nothing")
    here.project.git("revert", "--no-edit", "HEAD")
    revert = here.deliver()
    after = here.ledger.serving(NAME, "production")
    if after is None or after.release != before.release or after.release == between.release:
        raise Unmeasured(f"production does not serve {short(before.release)} again after the revert")
    if computed := sorted(set(here.records(revert)) & set(HEAVY)):
        raise Unmeasured(f"the revert computed {', '.join(computed)}")
    assert revert.run.start_time is not None
    told = f"until its run started {revert.run.start_time - revert.pushed:.1f} s; computed {_stages(revert)}"
    return Measured(revert.ended - revert.pushed, change.ended - change.pushed, told)


def _stages(delivered: Delivered) -> str:
    selected = delivered.run.dagster_run.asset_selection or frozenset()
    return ", ".join(sorted(key.path[-1] for key in selected))


BENCHMARK = Benchmark(
    name="revert_to_production",
    unit="s",
    against="the reverted change",
    goals=(Goal("value", "at most", 60.0),),
    measure=measure,
)
