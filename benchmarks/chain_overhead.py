"""chain_overhead: wall time of a full run, excluding holds, over the seconds of its programs.

The project is tiny, so the ratio is at its maximum: the more a project trains, the smaller it is. The overhead itself
is 4 to 5 s. Without preloading its programs take 49 s and the ratio is 1.09; with it they take 25 s and it is 1.18.
"""

from benchmarks.harness import Benchmark, Goal, Measured, Unmeasured
from benchmarks.place import Place
from benchmarks.watched import Delivered, Timed, watched
from llmops_assets.config.project import ProjectConfig
from resources.project_source.revisions import ProjectRepository

FULL = {"ci_report", "dataset_version", "fine_tuned_checkpoint", "evaluation_report", "registered_model",
        "quantized_artifact", "served_evaluation_report", "production_endpoint"}  # fmt: skip


def measure(place: Place) -> Measured:
    here = watched(place)
    run, records = here.first.run, here.records(here.first)
    if lacking := FULL - set(records):
        raise Unmeasured(f"not a full run: it did not compute {', '.join(sorted(lacking))}")
    assert run.start_time is not None and run.end_time is not None
    config: ProjectConfig = ProjectRepository(here.settings.projects[0], here.settings).at(here.first.revision).config
    holds = sum(step.hold for step in config.deployment.rollout.steps)
    programs = sum(r.made_by.program_seconds for r in records.values())
    wall = run.end_time - run.start_time - holds
    return Measured(wall, programs, _beyond_programs(here, here.first, wall))


def _beyond_programs(here: Timed, delivered: Delivered, wall: float) -> str:
    """Seconds that each stage took in addition to its program, largest first."""
    records = here.records(delivered)
    beside, steps = {}, 0.0
    for step in here.instance.get_run_step_stats(delivered.run.dagster_run.run_id):
        if step.start_time is None or step.end_time is None:
            continue
        stage = step.step_key.split("__")[-1]
        steps += step.end_time - step.start_time
        program = records[stage].made_by.program_seconds if stage in records else 0.0
        beside[stage] = step.end_time - step.start_time - program
    told = [f"{stage} {seconds:.1f} s" for stage, seconds in sorted(beside.items(), key=lambda b: -b[1])]
    return f"outside programs: {', '.join(told)}; between stages {wall - steps:.1f} s (holds excluded)"


BENCHMARK = Benchmark(
    name="chain_overhead",
    unit="s",
    against="the sum of its programs' seconds",
    goals=(Goal("ratio", "at most", 1.25),),
    measure=measure,
)
