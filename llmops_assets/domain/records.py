"""The records that stages commit. Files live in the artifact store; a record references them by digest.

A record has `outputs`: named digests that later stages read. Records with equal outputs are interchangeable for all
downstream stages, however they were made. One long file: the types are the members of one union, `AnyRecord`.
"""

from abc import abstractmethod
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter

from llmops_assets.domain.findings import Finding
from llmops_assets.domain.licences import LicencesFound
from llmops_assets.domain.models import Frozen
from llmops_assets.domain.preference import Preference


class MadeBy(Frozen):
    """How a record was made. Later stages never read it, so it is never part of a key."""

    project: str
    revision: str = Field(description="Commit SHA whose run first computed it.")
    run_id: str = Field(description="Dagster run.")
    version: int = Field(description="Program version of the stage.")
    seconds: float = Field(description="Wall time of the computation, in seconds.")
    program_seconds: float = Field(default=0.0, description="Wall time of its own program, in seconds.")
    at: str = Field(description="When the record was committed: ISO 8601, UTC.")
    hardware: str = Field(default="", description="Hardware class, such as 'cpu-2' or 'gpu-1-nvidia-h200'.")
    gpu_memory_bytes: int | None = Field(
        default=None, description="The most GPU memory that its programs reserved; None: they used no GPU themselves."
    )
    libraries: dict[str, str] = Field(
        default_factory=dict, description="Versions of the libraries that affect results."
    )


class Record(Frozen):
    stage: str
    key: str
    reads: dict[str, str] = Field(default_factory=dict, description="Output digests of its inputs, by 'stage.output'.")
    made_by: MadeBy

    @property
    @abstractmethod
    def outputs(self) -> dict[str, str]:
        """Digests that later stages may read, by name; the name "" is the record as a whole."""

    @property
    def facts(self) -> dict[str, Any]:
        """The record's facts in a trace, in addition to how it was made."""
        return {}

    @property
    def made(self) -> str | None:
        """URI of the stage's artifact: if it is damaged, the stage must run again."""
        return getattr(self, "uri", None) or None

    @property
    def artifacts(self) -> tuple[str, ...]:
        """URIs in the artifact store that this record keeps alive."""
        return (self.made,) if self.made else ()


class Check(Frozen):
    """One check and its result."""

    name: str
    passed: bool
    summary: str
    detail: str = ""
    severity: Literal["error", "warn"] = "error"
    seconds: float = 0.0
    findings: tuple[Finding, ...] = Field(default=(), description="Its problems, each with its place.")
    omitted: int = Field(default=0, description="Findings that are not among them.")


class CiReport(Record):
    stage: Literal["ci_report"] = "ci_report"
    checks: tuple[Check, ...]
    base: str = Field(default="", description="Commit with whose files the secret scan compared; empty: none.")
    tools: dict[str, str] = Field(default_factory=dict, description="Check -> version of its tool.")
    licences: LicencesFound | None = Field(default=None, description="None: llmops.yaml is not valid.")
    uri: str = Field(
        default="", description="Folder with report.sarif, junit.xml and pytest.xml. Empty: made by an earlier version."
    )
    digest: str = ""

    @property
    def outputs(self) -> dict[str, str]:
        return {"": self.key}


class Vulnerability(Frozen):
    """A known vulnerability of a package in an image."""

    id: str
    package: str
    version: str = Field(description="The one in the image.")
    fixed: str = Field(default="", description="The first version without it; empty: there is none.")
    severity: Literal["unknown", "low", "medium", "high", "critical"]
    title: str = ""

    @property
    def text(self) -> str:
        fixed = f", fixed in {self.fixed}" if self.fixed else ", no fix yet"
        return f"{self.id} ({self.severity}) in {self.package} {self.version}{fixed}"


class ContainerImage(Record):
    stage: Literal["container_image"] = "container_image"
    without: str = Field(default="", description="Why there is no image; empty: there is one.")
    reference: str = Field(default="", description="REGISTRY/NAME@sha256:…, the only name by which it is ever used.")
    digest: str = Field(default="", description="Of its manifest in the registry: sha256:….")
    image_id: str = Field(default="", description="Of its configuration, which the builder made: sha256:….")
    size_bytes: int = Field(default=0, description="Of its unpacked layers.")
    packages: int = Field(default=0, description="That the scanner looked at.")
    uri: str = Field(
        default="",
        description="Folder with sbom.cdx.json (CycloneDX), scan.json, lint.json and build.log; empty: none.",
    )
    checks: tuple[Check, ...] = ()
    bases: tuple[str, ...] = Field(
        default=(), description="Images that it is built from, as the Dockerfile names them."
    )
    not_scanned: str = Field(default="", description="Why the scanner could not look; empty: it looked.")
    database: str = Field(default="", description="When the scanner's database was made: ISO 8601.")
    severities: dict[str, int] = Field(default_factory=dict, description="Severity -> vulnerabilities.")
    vulnerabilities: tuple[Vulnerability, ...] = Field(
        default=(), description="The most severe ones, at most 500; all are in scan.json."
    )
    tools: dict[str, str] = Field(default_factory=dict, description="Tool -> version.")

    @property
    def outputs(self) -> dict[str, str]:
        return {"": self.digest or self.key}

    @property
    def facts(self) -> dict[str, Any]:
        return {"image": self.reference} if self.reference else {"image": None, "why": self.without}


class Split(Frozen):
    rows: int
    digest: str = Field(description="SHA-256 over the canonical rows in order.")


class DatasetVersion(Record):
    stage: Literal["dataset_version"] = "dataset_version"
    uri: str = Field(description="Folder with train.jsonl, validation.jsonl and test.jsonl, canonical rows.")
    train: Split
    validation: Split
    test: Split
    checks: tuple[Check, ...]
    must_pass: tuple[str, ...] = Field(default=(), description="Digests of the rows in must_pass.jsonl, if there are.")
    statistics: dict[str, float] = Field(default_factory=dict)

    @property
    def outputs(self) -> dict[str, str]:
        return {"train": self.train.digest, "validation": self.validation.digest, "test": self.test.digest}

    @property
    def facts(self) -> dict[str, Any]:
        return {"rows": {"train": self.train.rows, "validation": self.validation.rows, "test": self.test.rows}}


class Checkpoint(Record):
    stage: Literal["fine_tuned_checkpoint"] = "fine_tuned_checkpoint"
    method: str = Field(description="The training method, by its name in the catalog.")
    uri: str = Field(description="safetensors and tokenizer; for LoRA only the adapter.")
    digest: str
    base: str = Field(description="Version of the base model: DVC md5, or hub name and commit.")
    base_uri: str = Field(description="The base model's folder in the artifact store.")
    base_digest: str
    chat_template: str = Field(description="The model's own chat template (Jinja), before the prompt is composed in.")
    context_length: int = Field(description="Tokens.")
    parameters: int
    trained_parameters: int
    steps: int
    tokens: int = Field(description="Tokens seen in training, without padding.")
    tokens_per_s: float
    resumed_from_step: int = 0
    truncated_rows: int = Field(default=0, description="Rows of train and validation that were cut to max_length.")
    precision: str | None = Field(default=None, description="In which the training computed: bf16 or fp32, by device.")
    train_loss: float | None
    validation_loss: float | None
    mlflow_run_id: str = ""

    @property
    def outputs(self) -> dict[str, str]:
        return {"": self.digest}

    @property
    def artifacts(self) -> tuple[str, ...]:
        return (self.uri, self.base_uri)

    @property
    def facts(self) -> dict[str, Any]:
        return {"digest": self.digest, "uri": self.uri, "base": self.base}


class Metric(Frozen):
    name: str
    value: float
    higher_is_better: bool
    part: str = Field(default="", description="Its name in the catalog; empty: the mean of a project's own function.")
    low: float | None = Field(default=None, description="Lower bound with 95% confidence; None: no interval.")
    high: float | None = Field(default=None, description="Upper bound with 95% confidence; None: no interval.")
    per_token: bool = Field(
        default=False, description="Counted in tokens of the model: comparable between models of one tokenizer only."
    )


class Sample(Frozen):
    input: str
    reference: str
    prediction: str
    scores: dict[str, float] = Field(default_factory=dict)


class Repeated(Frozen):
    """An A/A measurement: the first rows, measured twice in one run. What differs is noise of the measurement."""

    rows: int
    answers_differ: int
    metrics: dict[str, float] = Field(description="Metric -> absolute difference of its two values over these rows.")


class Measured(Record):
    """Base class of both evaluation reports."""

    metrics: tuple[Metric, ...]
    rows: int
    test_digest: str = Field(description="Digest of the test rows.")
    metrics_digest: str = Field(description="Digest of the metrics, their code and the generation settings.")
    cut: int | None = Field(
        default=None, description="Answers that reached their length limit without an end. None: not counted."
    )
    measured_with: dict[str, str] = Field(
        default_factory=dict,
        description="What changes figures besides the model: library versions, dtype, device, engine. Empty: unknown.",
    )
    refused: dict[str, str] = Field(
        default_factory=dict, description="Metrics whose values are no evidence, and are left out -> why."
    )
    uri: str = Field(description="Folder with report.html, predictions.jsonl and rows.jsonl.")
    tokenizer: str = Field(default="", description="Digest of the model's tokenizer. Empty: unknown.")
    digest: str

    @property
    def outputs(self) -> dict[str, str]:
        return {"": self.digest}

    def value(self, metric: str) -> float | None:
        return next((m.value for m in self.metrics if m.name == metric), None)

    @property
    def facts(self) -> dict[str, Any]:
        return {"report": self.uri, "metrics": {m.name: m.value for m in self.metrics}}


class EvaluationReport(Measured):
    stage: Literal["evaluation_report"] = "evaluation_report"
    checkpoint_digest: str


class ServedEvaluationReport(Measured):
    stage: Literal["served_evaluation_report"] = "served_evaluation_report"
    artifact_digest: str
    engine: str
    size_bytes: int
    parity_rows: int
    parity_mismatches: int
    parity_detail: str = Field(default="", description="The first mismatch, empty if none.")
    repeated: Repeated | None = Field(default=None, description="None: made by an earlier version.")


class LoadFigures(Frozen):
    clients: int
    tokens_per_s: float
    first_token_p50_s: float
    latency_p50_s: float
    latency_p95_s: float
    broken: int = Field(description="Streams that did not end properly.")
    memory_bytes: int | None = Field(
        default=None, description="Peak main memory of the engine's processes until then; None: not measured."
    )
    gpu_memory_bytes: int | None = Field(
        default=None, description="GPU memory of the engine's processes after the requests; None: not measured."
    )


class ServedSpeed(Record):
    """Speed on the serving engine. It depends on the hardware, so it has its own record and key."""

    stage: Literal["served_speed"] = "served_speed"
    hardware: str
    load: tuple[LoadFigures, ...]

    @property
    def outputs(self) -> dict[str, str]:
        return {"": self.key}


class JudgedPreference(Record):
    """A judge's preferences between a report's answers and those of the champion's report."""

    stage: Literal["judged_preference"] = "judged_preference"
    metric: str
    report: str = Field(description="Digest of the candidate's report.")
    champion: str = Field(description="Digest of the champion's.")
    preference: Preference

    @property
    def outputs(self) -> dict[str, str]:
        return {"": self.key}


class RegisteredModel(Record):
    stage: Literal["registered_model"] = "registered_model"
    name: str
    version: int
    model_uri: str = Field(description="models:/<name>/<version>")
    uri: str = Field(description="The MLflow model folder in the artifact store; it references the weights.")
    checkpoint_digest: str

    @property
    def outputs(self) -> dict[str, str]:
        return {"": self.checkpoint_digest}

    @property
    def facts(self) -> dict[str, Any]:
        return {"name": self.name, "version": self.version, "uri": self.model_uri}


class QuantizedArtifact(Record):
    stage: Literal["quantized_artifact"] = "quantized_artifact"
    backend: str
    scheme: str
    uri: str
    file: str = Field(description="Name of the weights file in `uri`.")
    digest: str
    size_bytes: int
    checkpoint_digest: str
    chat_template: str
    context_length: int

    @property
    def outputs(self) -> dict[str, str]:
        return {"": self.digest}

    @property
    def facts(self) -> dict[str, Any]:
        return {"digest": self.digest, "uri": self.uri, "scheme": self.scheme}


class Release(Frozen):
    """What an endpoint serves, identified by its digest. Policy is not part of it."""

    project: str
    artifact_digest: str
    artifact_uri: str
    file: str
    chat_template: str = Field(description="The model's template with the project's prompt composed in.")
    engine: str
    serving: dict[str, Any] = Field(default_factory=dict, description="Engine settings, without defaults.")
    sampling: dict[str, Any] = Field(
        default_factory=dict,
        description="Sampling defaults, complete. Empty in releases of earlier versions: the engine's own.",
    )

    @property
    def digest(self) -> str:
        from llmops_assets.domain.keys import digest

        # Releases without sampling keep the digest under which they were approved and served.
        absent = set() if self.sampling else {"sampling"}
        return digest(self.model_dump(exclude={"artifact_uri", *absent}))


class Event(Record):
    """A record of something that happened once; its key contains the run, so it is never reused."""

    release: str

    @property
    def outputs(self) -> dict[str, str]:
        return {"": self.release}


class StagingEndpoint(Event):
    stage: Literal["staging_endpoint"] = "staging_endpoint"
    base_url: str


class SmokeTestReport(Event):
    stage: Literal["smoke_test_report"] = "smoke_test_report"
    checks: tuple[Check, ...]


class ReleaseApproval(Event):
    stage: Literal["release_approval"] = "release_approval"
    decision: Literal["automatic", "approved"]
    by: str
    reason: str
    environment: str
    replaces: str | None = Field(description="Release digest of the champion that it replaces.")
    reports: tuple[str, ...] = Field(description="Digests of the reports that the decision is based on.")

    @property
    def facts(self) -> dict[str, Any]:
        return {"decision": self.decision, "by": self.by, "reason": self.reason, "replaces": self.replaces}


class ProductionEndpoint(Event):
    stage: Literal["production_endpoint"] = "production_endpoint"
    base_url: str
    replaces: str | None
    outcome: Literal["promoted", "already_serving", "rolled_back"]
    requests: int = Field(default=0, description="Requests that the candidate answered during the rollout.")


class EndpointHealth(Event):
    stage: Literal["endpoint_health"] = "endpoint_health"
    checks: tuple[Check, ...]


AnyRecord = Annotated[
    CiReport
    | ContainerImage
    | DatasetVersion
    | Checkpoint
    | EvaluationReport
    | RegisteredModel
    | QuantizedArtifact
    | ServedEvaluationReport
    | ServedSpeed
    | JudgedPreference
    | StagingEndpoint
    | SmokeTestReport
    | ReleaseApproval
    | ProductionEndpoint
    | EndpointHealth,
    Field(discriminator="stage"),
]
_ADAPTER: TypeAdapter[AnyRecord] = TypeAdapter(AnyRecord, config=ConfigDict(defer_build=True))


def parse_record(body: str | bytes) -> AnyRecord:
    """Parses a record from its JSON.

    Raises:
        pydantic.ValidationError: it is not a record of this version of the code.
    """
    return _ADAPTER.validate_json(body)


def named_outputs(record: Record) -> dict[str, str]:
    """The outputs under the names that later stages use: "stage" or "stage.output"."""
    stage = record.stage
    return {f"{stage}.{name}" if name else stage: value for name, value in record.outputs.items()}
