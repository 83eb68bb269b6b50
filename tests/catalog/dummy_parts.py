"""A third-party package with a metric, an engine and a compute backend. `test_installed_parts` installs it."""

from pathlib import Path
from typing import Any

from llmops_assets.catalog import ComputePart, EnginePart, MetricPart
from llmops_assets.programs.engines.llama_cpp import LlamaCpp
from llmops_assets.programs.runtime.specs import ServeSpec
from resources.compute.interface import Finished, Job, OnProgress
from resources.compute.local import LocalCompute

PARTS = (
    MetricPart(
        name="answer_length",
        path="dummy_metric:AnswerLength",
        does="Characters of an answer, mean over the rows.",
        higher_is_better=False,
        unit="characters",
    ),
    EnginePart(
        name="dummy-engine", path="dummy_parts:DummyEngine", does="llama.cpp by another name.", formats=("gguf",)
    ),
    ComputePart(name="dummy-compute", path="dummy_parts:DummyCompute", does="Local processes, listed in a file."),
    MetricPart(
        name="unavailable",
        path="dummy_metric:Unavailable",
        does="Needs what nobody has.",
        requires=("no_such_library",),
        higher_is_better=True,
        unit="none",
    ),
)


class DummyEngine(LlamaCpp):
    def serve(self, spec: ServeSpec) -> Any:
        return super().serve(spec.model_copy(update={"alias": "served-by-the-dummy-engine"}))


class DummyCompute(LocalCompute):
    """Records each program that it ran."""

    def run(self, job: Job, on_progress: OnProgress | None = None) -> Finished:
        finished = super().run(job, on_progress)
        with self.log.open("a") as file:
            file.write(f"{job.program}\n")
        return finished

    @property
    def log(self) -> Path:
        return self.jobs.parent / "dummy-compute.log"
