"""Synthetic records with consistent lineage, without computation: a stage's output follows from its inputs."""

from typing import Any

from llmops_assets.domain.chain import CHAIN, Stage
from llmops_assets.domain.keys import digest
from llmops_assets.domain.plan import Plan, Side, make_plan
from llmops_assets.domain.records import (
    AnyRecord,
    Check,
    Checkpoint,
    CiReport,
    ContainerImage,
    DatasetVersion,
    EvaluationReport,
    MadeBy,
    Metric,
    QuantizedArtifact,
    RegisteredModel,
    ServedEvaluationReport,
    Split,
)
from llmops_assets.domain.release import release_of
from llmops_assets.domain.resolution import ResolvedRecords, resolve_records

TEMPLATE = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
VALUES: dict[str, Any] = {
    "name": "zoo",
    "tree": {"digest": "tree-1"},
    "image": {"without": "no Dockerfile"},
    "data": {
        "train": {"path": "train.jsonl", "version": "dvc:a1"},
        "test": {"path": "test.jsonl", "version": "dvc:b1"},
    },
    "model.base": {"version": "dvc:m1.dir"},
    "training": {"learning_rate": 0.0002, "lora": {"r": 16}},
    "training.prompt": "Q: {{ input }}",
    "training.prompt.own": True,
    "prompt": "Ask: {{ input }}",
    "evaluation": {"metrics": ["perplexity"]},
    "quantization": {},
    "engine": {"engine": "llama.cpp", "serving": {}},
    "gates": [{"metric": "perplexity", "at_most": 40.0}],
    "policy": {"rollout": {}, "approval": {}, "smoke_tests": []},
}  # fmt: skip


def changed(values: dict[str, Any], **change: Any) -> dict[str, Any]:
    """A copy of the values with some replaced; the keyword `training__prompt` sets "training.prompt"."""
    return {**values, **{name.replace("__", "."): value for name, value in change.items()}}


def made_by(revision: str = "r1") -> MadeBy:
    return MadeBy(project="zoo", revision=revision, run_id="run-1", version=1, seconds=1.0, at="2026-01-01T00:00:00Z")


def measured(value: float = 10.0, **change: Any) -> EvaluationReport:
    """A report on one metric, perplexity, unless `metrics` are given."""
    fields: dict[str, Any] = {
        "key": "k", "made_by": made_by(), "metrics": (Metric(name="perplexity", value=value, higher_is_better=False),),
        "rows": 8, "test_digest": "t", "metrics_digest": "m", "uri": "store/r", "digest": "d", "checkpoint_digest": "c",
    }  # fmt: skip
    return EvaluationReport(**{**fields, **change})


def make_record(stage: Stage, key: str, reads: dict[str, str], values: dict[str, Any], revision: str) -> AnyRecord:
    """The record that a work stage would commit."""
    head: dict[str, Any] = {"key": key, "reads": reads, "made_by": made_by(revision)}
    out = digest([stage.name, key])
    uri = f"store/artifacts/{out}"
    report = {"metrics": (Metric(name="perplexity", value=10.0, higher_is_better=False),), "rows": 8, "uri": uri,
              "digest": out, "test_digest": reads.get("dataset_version.test", ""), "metrics_digest": "m"}  # fmt: skip
    checkpoint = reads.get("fine_tuned_checkpoint", "")
    match stage.name:
        case "ci_report":
            return CiReport(**head, checks=(Check(name="ruff", passed=True, summary="no problems"),))
        case "container_image":
            return ContainerImage(**head, without=values["image"].get("without", ""))
        case "dataset_version":
            data = values["data"]
            train, test = digest(["train", data["train"]["version"]]), digest(["test", data["test"]["version"]])
            return DatasetVersion(
                **head, uri=uri, train=Split(rows=9, digest=train), validation=Split(rows=1, digest=digest([train])),
                test=Split(rows=8, digest=test), checks=(Check(name="schema", passed=True, summary="18 rows"),),
            )  # fmt: skip
        case "fine_tuned_checkpoint":
            return Checkpoint(
                **head, method="lora", uri=uri, digest=out, base="m1", base_uri="store/base", base_digest="b",
                chat_template=TEMPLATE, context_length=512, parameters=9, trained_parameters=1, steps=4, tokens=64,
                tokens_per_s=1.0, train_loss=1.0, validation_loss=1.0,
            )  # fmt: skip
        case "evaluation_report":
            return EvaluationReport(**head, **report, checkpoint_digest=checkpoint)
        case "registered_model":
            return RegisteredModel(
                **head, name="zoo", version=1, model_uri="models:/zoo/1", uri=uri, checkpoint_digest=checkpoint
            )
        case "quantized_artifact":
            return QuantizedArtifact(
                **head, backend="gguf", scheme="q8_0", uri=uri, file="model.gguf", digest=out, size_bytes=9,
                checkpoint_digest=checkpoint, chat_template=TEMPLATE, context_length=512,
            )  # fmt: skip
        case "served_evaluation_report":
            return ServedEvaluationReport(
                **head, **report, artifact_digest=reads["quantized_artifact"], engine="llama.cpp", size_bytes=9,
                parity_rows=8, parity_mismatches=0,
            )  # fmt: skip
    raise AssertionError(f"{stage.name} makes no record of its own here")


class Memory:
    """Stores records by key in memory, as the ledger does."""

    def __init__(self) -> None:
        self.records: dict[str, AnyRecord] = {}
        self.salts: dict[str, str] = {}

    def deliver(
        self, values: dict[str, Any], revision: str = "r1", only: tuple[str, ...] | None = None
    ) -> ResolvedRecords:
        """Makes the missing records of this revision, in the chain's order; with `only`, those of these stages."""
        while True:
            found = resolve_records(values, self.records.get, self.salts.get)
            lacking = [s for s in found.keys if s not in found.records and (only is None or s in only)]
            if not lacking:
                return found
            stage = next(s for s in CHAIN if s.name == lacking[0])
            reads = {r: found.outputs[r] for r in stage.records}
            key = found.keys[stage.name]
            self.records[key] = make_record(stage, key, reads, values, revision)

    def plan(
        self,
        values: dict[str, Any],
        base: dict[str, Any] | None = None,
        serving: str | None = None,
        held: dict[str, str] | None = None,
        **more: Any,
    ) -> Plan:
        before = None
        if base is not None:
            outputs = resolve_records(base, self.records.get, self.salts.get).outputs
            before = Side(revision="base-revision", values=base, outputs=outputs)
        head = Side(revision="head-revision", values=values)
        return make_plan("zoo", head, self.records.get, before, serving, self.salts.get, held, **more)

    def release(self, values: dict[str, Any]) -> str:
        artifact = self.deliver(values).records["quantized_artifact"]
        assert isinstance(artifact, QuantizedArtifact)
        return release_of("zoo", values, artifact).digest
