"""The chain as a table: each stage's name, program version, and what it reads and requires.

`values` name entries of a revision's resolved values (`resources.project_source` makes them); `records` name
outputs of earlier stages. Together they make the stage's key. `requires` names verdicts that must hold when the stage
acts and is never part of a key. `llmops_assets.assets` implements the stages.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from llmops_assets.domain.keys import stage_key


@dataclass(frozen=True)
class Stage:
    name: str
    version: int
    values: tuple[str, ...] = ()
    records: tuple[str, ...] = ()
    records_if: tuple[tuple[str, str], ...] = ()
    """(record, value): records that are read only by revisions whose value of that name is true."""
    requires: tuple[str, ...] = ()
    after: tuple[str, ...] = ()  # order only: neither read nor checked
    sources: tuple[str, ...] = ()  # external sources in Dagster's graph: "repository", "data"
    deploys: bool = False
    """Also judges the revision's policy, and that the watched branch contains it."""
    kind: Literal["work", "event"] = "work"
    program: str | None = None
    """The module of `llmops_assets.programs` that does the work, in its own process."""
    heavy: str = ""
    """What makes the stage heavy: it uses the only slot for heavy programs, or its own pod. Empty: light."""
    does: str = field(default="", compare=False)

    @property
    def judged(self) -> tuple[str, ...]:
        """What the stage judges before it acts."""
        return (POLICY, *self.requires) if self.deploys else self.requires

    @property
    def upstream(self) -> tuple[str, ...]:
        """Names of the stages that this one depends on, in order, without duplicates."""
        names = [r.split(".")[0] for r in self.records] + list(self.requires) + list(self.after)
        return tuple(dict.fromkeys(names))

    def reads(self, values: Mapping[str, Any]) -> tuple[str, ...]:
        """The outputs of records that the stage reads at a revision with these values."""
        return (*self.records, *(record for record, value in self.records_if if values.get(value)))

    def key(self, values: Mapping[str, Any], outputs: Mapping[str, str], salt: str | None = None) -> str:
        """The stage's key, computed from all resolved values and all outputs known so far.

        Raises:
            KeyError: a record that the stage reads does not exist yet.
        """
        return stage_key(
            self.name,
            self.version,
            {v: values[v] for v in self.values if v in values},
            {r: outputs[r] for r in self.reads(values)},
            salt,
        )


IN_IMAGE = ("container_image", "metrics.in_image")
"""The image, read where the project's own metrics run in it."""
POLICY = "policy"
"""Not a stage: the verdict on the revision's own policy and origin."""
EVIDENCE = (
    *("ci_report", "container_image", "dataset_version"),
    *("evaluation_report", "registered_model", "served_evaluation_report"),
)
"""What an endpoint judges at its own revision, whether a run computed it or reused it."""

CHAIN: tuple[Stage, ...] = (
    Stage(
        "ci_report",
        5,
        values=("tree",),
        sources=("repository",),
        program="ci",
        does="Lints, type-checks and tests the project's own code in a process without the location's secrets, scans "
        "its change for secrets, validates its configuration, and renders its prompts.",
    ),
    Stage(
        "container_image",
        1,
        values=("image",),
        requires=("ci_report",),
        sources=("repository",),
        program="image",
        does="Builds the project's Dockerfile, pushes the image by digest, lists what is in it, and scans it for known "
        "vulnerabilities. A project without a Dockerfile has no image, and its record says so.",
    ),
    Stage(
        "dataset_version",
        2,
        values=("data", "model.base"),
        sources=("data",),
        program="dataset",
        does="Pulls the data at the revision and checks schema, empty fields, duplicates, leakage and lengths.",
    ),
    Stage(
        "fine_tuned_checkpoint",
        2,
        values=("model.base", "training", "training.prompt"),
        records=("dataset_version.train", "dataset_version.validation"),
        # An image that fails is found before the expensive work, not after it.
        requires=("ci_report", "container_image", "dataset_version"),
        program="train",
        heavy="Training.",
        does="Fine-tunes the base model (LoRA or full), or uses it unchanged. Resumes after a crash.",
    ),
    Stage(
        "evaluation_report",
        3,
        values=("prompt", "evaluation"),
        records=("fine_tuned_checkpoint", "dataset_version.test"),
        records_if=(IN_IMAGE,),
        program="evaluate",
        heavy="Evaluation of the checkpoint.",
        does="Evaluates the checkpoint on the held-out rows and compares it with the champion.",
    ),
    Stage(
        "registered_model",
        1,
        values=("name",),
        records=("fine_tuned_checkpoint",),
        # The code and data checks again: the checkpoint may be one that an earlier revision made.
        requires=("ci_report", "container_image", "dataset_version", "evaluation_report"),
        does="Registers one MLflow model version per checkpoint, if the gates pass.",
    ),
    Stage(
        "quantized_artifact",
        2,
        values=("quantization",),
        records=("fine_tuned_checkpoint",),
        requires=("registered_model",),
        program="quantize",
        heavy="Merge and quantization.",
        does="Merges adapters into the base model and quantizes it for the engine that will serve it.",
    ),
    Stage(
        "served_evaluation_report",
        3,
        values=("prompt", "evaluation", "engine"),
        records=("quantized_artifact", "dataset_version.test"),
        records_if=(IN_IMAGE,),
        program="served_evaluate",
        heavy="Evaluation on the serving engine.",
        does="Measures the same metrics on the serving engine, token parity, size, tokens/s and latency.",
    ),
    Stage(
        "staging_endpoint",
        1,
        kind="event",
        records=("quantized_artifact",),
        requires=EVIDENCE,
        deploys=True,
        does="Serves the release on the staging URL.",
    ),
    Stage(
        "smoke_test_report",
        1,
        kind="event",
        after=("staging_endpoint",),
        does="Sends the project's smoke tests to staging, as a client would.",
    ),
    Stage(
        "release_approval",
        1,
        kind="event",
        requires=("smoke_test_report",),
        does="Records who approved the release, or that no approval is required.",
    ),
    Stage(
        "production_endpoint",
        1,
        kind="event",
        requires=(*EVIDENCE, "smoke_test_report", "release_approval"),
        deploys=True,
        does="Rolls the release out step by step, evaluates each step, and returns to the champion on failure.",
    ),
    Stage(
        "endpoint_health",
        1,
        kind="event",
        after=("production_endpoint",),
        does="Health-checks staging and production.",
    ),
)

EVIDENCE_CHECK = "evidence"
"""The asset check of every stage that requires verdicts: what it required, as evaluated when it acted or refused."""
STAGES: Mapping[str, Stage] = {stage.name: stage for stage in CHAIN}
WORK: tuple[Stage, ...] = tuple(s for s in CHAIN if s.kind == "work")
COMPARED: tuple[str, ...] = ("evaluation_report", "served_evaluation_report")
"""The reports whose gates may compare with the champion."""
HEAVY: frozenset[str] = frozenset(s.name for s in CHAIN if s.heavy)
CHECKS: Mapping[str, str] = {
    "ci_report": "passes",
    "container_image": "fit_to_run",
    "dataset_version": "fit_for_training",
    "evaluation_report": "gates",
    "registered_model": "accepted",
    "served_evaluation_report": "gates",
    "smoke_test_report": "answers",
    "release_approval": "decided",
    "endpoint_health": "healthy",
}
"""Stage → the asset check that shows the verdict on its result."""


def check_names(stage: Stage) -> tuple[str, ...]:
    """The names of a stage's asset checks: the verdict on its result, and on the evidence that it requires."""
    own = (CHECKS[stage.name],) if stage.name in CHECKS else ()
    return own + ((EVIDENCE_CHECK,) if stage.requires else ())


def judges_of(name: str) -> tuple[str, ...]:
    """The stages that act only if this stage's verdict passes."""
    return tuple(s.name for s in CHAIN if name in s.requires)


def downstream_of(name: str) -> tuple[str, ...]:
    """The stage and everything downstream of it, in chain order."""
    found = {name}
    for stage in CHAIN:
        if found.intersection(stage.upstream):
            found.add(stage.name)
    return tuple(s.name for s in CHAIN if s.name in found)


AFTER_APPROVAL: tuple[str, ...] = downstream_of("release_approval")
"""The stages that remain after an approval: none of them computes anything."""
