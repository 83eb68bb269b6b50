"""Spec and result of each program: the contract between stages and programs.

A program is run as `python -m llmops_assets.programs.NAME --spec SPEC.json --output DIR`. It reports progress in
DIR/messages.jsonl as Dagster Pipes messages, writes its artifact to DIR/artifact/, and finally, atomically,
DIR/result.json. If its input is invalid, it writes DIR/error.json ({"error": ..., "message": ..., "where": ...}, see
`errors.KINDS`) and exits with 2.
No heavy import belongs here: stages build these specs inside the code location. One file, so that the whole contract is
read in one place.
"""

from typing import Any, Literal

from pydantic import Field

from llmops_assets.domain.models import Frozen
from llmops_assets.domain.preference import Preference
from llmops_assets.domain.records import Check, LoadFigures, Metric, Repeated, Split, Vulnerability


class BuilderSpec(Frozen):
    """Where images are built and pushed, as the settings `images` say."""

    builder: str = Field(description="An image builder of the catalog.")
    host: str
    client: str = "docker"
    registry: str = Field(description="HOST/PREFIX, without scheme.")
    username: str | None = None
    password_env: str | None = Field(default=None, description="The variable that holds its password.")
    docker_config: str | None = None
    network: str = "none"
    max_size: int = Field(default=20 * 2**30, description="Bytes of an image's layers.")
    max_disk: int = Field(default=60 * 2**30, description="Bytes by which the builder's disk may fill.")


class RunInImage(Frozen):
    """The image in which a project's own code runs."""

    reference: str = Field(description="REGISTRY/NAME@sha256:….")
    builder: BuilderSpec


class CodeRules(Frozen):
    """How a project's own code runs."""

    isolation: Literal["auto", "required", "off"] = "auto"
    memory: int = Field(default=4 * 2**30, description="Bytes, of all its processes together.")
    processes: int = Field(default=512, description="How many at once.")
    metric_timeout_s: float = Field(default=600.0, description="Time limit of one metric over all rows.")
    image: RunInImage | None = Field(default=None, description="None: it runs beside us, under bubblewrap.")


class CiCommandSpec(Frozen):
    """A command of the project, see `config.project.CiCommand`."""

    name: str
    run: tuple[str, ...]
    sarif: str | None = None
    junit: str | None = None


class CiSpec(Frozen):
    """What is not named is not checked; `delivery.ci` names what llmops.yaml and the settings ask for."""

    work_tree: str = Field(description="Clean export of the revision, or a working copy.")
    untracked: bool = Field(default=False, description="Also files that Git would add: of a working copy.")
    ignore: tuple[str, ...] = Field(default=(), description="Patterns of files that no check sees.")
    ruff: bool = True
    tests: bool = Field(default=True, description="Run the project's own pytest if it has tests.")
    tests_required: bool = Field(default=False, description="A project without tests fails.")
    secrets: bool = Field(default=False, description="Scan for secrets.")
    base_tree: str | None = Field(
        default=None, description="Export of the revision whose secrets are not new; None: all files are new."
    )
    base: str = Field(default="", description="Its name, for messages.")
    environment: str | None = Field(
        default=None, description="Folder of the Python environment for the project's own code; None: ours."
    )
    types: bool = Field(default=False, description="Run the type checker that the project configures.")
    commands: tuple[CiCommandSpec, ...] = ()
    timeout_s: float = Field(default=600.0, description="Of each tool.")
    code: CodeRules = CodeRules()


class CiResult(Frozen):
    """artifact/ has pytest.xml, as the project's pytest wrote it, if it did."""

    checks: tuple[Check, ...]
    tools: dict[str, str] = Field(default_factory=dict, description="Check -> version of its tool.")


class DatasetSpec(Frozen):
    """Paths are absolute; `names` are the project's own, for messages."""

    train: str | None
    validation: str | None = None
    test: str
    must_pass: str | None = None
    names: dict[str, str] = Field(description="split -> path within the project, for error messages.")
    validation_share: float = 0.05
    seed: int = 7
    tokenizer: str | None = Field(description="Folder of the base model, for lengths; None: no lengths.")


class DatasetResult(Frozen):
    """artifact/ holds train.jsonl, validation.jsonl, test.jsonl: canonical rows {"input", "output", ...} or
    {"messages": [...]} with sorted keys; and beside each SPLIT.places.txt, the project's file and line of each row."""

    train: Split
    validation: Split
    test: Split
    must_pass: tuple[str, ...] = Field(default=(), description="Digests of the rows of must_pass.jsonl, if any.")
    checks: tuple[Check, ...]
    statistics: dict[str, float]


class TrainSpec(Frozen):
    base: str = Field(description="Folder of the base model: safetensors and tokenizer.")
    data: str = Field(description="Folder with train.jsonl and validation.jsonl.")
    prompt: str = Field(description="Text of the training prompt template.")
    method: str = Field(description="A training method of the catalog.")
    lora: dict[str, Any] = Field(default_factory=dict, description="r, alpha, dropout, target_modules")
    learning_rate: float = 2e-4
    schedule: str = "linear"
    warmup_ratio: float = 0.03
    weight_decay: float = 0.0
    batch_size: int = 8
    gradient_accumulation: int = 1
    epochs: float = 1.0
    max_steps: int | None = None
    max_length: int | None = Field(default=None, description="Tokens; None: the model's context.")
    max_truncated: float = Field(default=0.05, description="Share of the rows that may be longer; more are refused.")
    precision: str = Field(default="auto", description="auto, bf16 or fp32.")
    seed: int = 7
    checkpoint_every_s: float = Field(default=15.0, description="Seconds between complete, resumable checkpoints.")


class TrainResult(Frozen):
    """artifact/: for lora the PEFT adapter and tokenizer; for full the model and tokenizer; for none the tokenizer and
    config only (the base model is the checkpoint)."""

    chat_template: str
    context_length: int
    parameters: int
    trained_parameters: int
    steps: int
    tokens: int
    tokens_per_s: float
    resumed_from_step: int
    truncated_rows: int = 0
    precision: str | None = Field(default=None, description="bf16 or fp32; None: nothing was trained.")
    train_loss: float | None
    validation_loss: float | None
    libraries: dict[str, str]


class MetricSpec(Frozen):
    name: str
    file: str | None = Field(default=None, description="The project's file with the metric function, within `tree`.")
    function: str | None = None
    tree: str = Field(default="", description="Folder of the project.")
    files: tuple[str, ...] = Field(default=(), description="What the function can see of it: what its key covers.")
    higher_is_better: bool | None = None
    metric: str = Field(default="", description="Name in the catalog, if it is not `name`.")
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="Options of a metric of the catalog: `model` a folder, `file` and `labels` texts, `endpoint` the "
        "settings of `judge`.",
    )

    @property
    def part(self) -> str:
        """Its name in the catalog."""
        return self.metric or self.name


class EvaluateSpec(Frozen):
    method: str = Field(description="A training method of the catalog.")
    base: str
    checkpoint: str = Field(description="Folder with the adapter or the model.")
    data: str = Field(description="Folder with test.jsonl.")
    prompt: str
    metrics: tuple[MetricSpec, ...]
    max_rows: int | None = None
    max_new_tokens: int = 32
    batch_size: int = 16
    title: str = "Evaluation"
    code: CodeRules = CodeRules()


class EvaluateResult(Frozen):
    """artifact/: report.html (self-contained), report.json (its content), predictions.jsonl (input, reference,
    prediction, scores) and rows.jsonl (see `evaluation.rows`)."""

    metrics: tuple[Metric, ...]
    rows: int
    cut: int = Field(description="Answers that reached max_new_tokens without a stop token.")
    tokens_per_s: float
    libraries: dict[str, str]
    measured_with: dict[str, str] = Field(description="See `Measured`.")
    tokenizer: str = Field(description="Digest of the model's tokenizer.")
    refused: dict[str, str] = Field(default_factory=dict, description="See `Measured`.")


class QuantizeSpec(Frozen):
    method: str = Field(description="A training method of the catalog.")
    base: str
    checkpoint: str
    backend: str = Field(default="gguf", description="A quantization backend of the catalog.")
    scheme: str = "q8_0"
    converter: str | None = Field(default=None, description="A llama.cpp checkout, for architectures the wheel lacks.")


class QuantizeResult(Frozen):
    """artifact/: one file."""

    file: str
    size_bytes: int
    libraries: dict[str, str]


class ServedEvaluateSpec(Frozen):
    """The program starts the engine on a free port, sends it requests, and stops it."""

    model: str = Field(description="The file of weights that the quantization backend wrote.")
    engine: str = Field(default="llama.cpp", description="An engine of the catalog.")
    tokenizer: str = Field(description="Folder with the tokenizer that training used.")
    chat_template: str = Field(description="With the prompt composed in.")
    serving: dict[str, Any] = Field(default_factory=dict, description="Engine settings of the release.")
    sampling: dict[str, Any] = Field(default_factory=dict, description="Sampling defaults of the release.")
    data: str
    prompt: str
    model_chat_template: str = Field(description="The model's own template, before composition: the reference.")
    metrics: tuple[MetricSpec, ...]
    max_rows: int | None = None
    max_new_tokens: int = 32
    unquantized: dict[str, float] = Field(
        default_factory=dict,
        description="Figures of the same checkpoint before quantization, on these rows: metric -> value.",
    )
    clients: tuple[int, ...] = Field(default=(1, 8), description="Load levels of the speed measurement.")
    engine_start_s: float = Field(default=900.0, description="Seconds that the engine may take until it answers.")
    speed_requests: int = Field(default=16, description="Requests per load level; 0: speed is already known.")
    title: str = "Served evaluation"
    code: CodeRules = CodeRules()


class ServedEvaluateResult(Frozen):
    metrics: tuple[Metric, ...]
    rows: int
    cut: int = Field(description="Answers that reached the length limit without an end.")
    repeated: Repeated
    size_bytes: int
    parity_rows: int
    parity_mismatches: int
    parity_detail: str
    load: tuple[LoadFigures, ...]
    libraries: dict[str, str]
    measured_with: dict[str, str] = Field(description="See `Measured`.")
    tokenizer: str = Field(description="Digest of the model's tokenizer.")
    refused: dict[str, str] = Field(default_factory=dict, description="See `Measured`.")


class JudgePairsSpec(Frozen):
    """Two reports on the same rows."""

    candidate: str = Field(description="Folder of the candidate's report.")
    champion: str = Field(description="Folder of the champion's.")
    data: str = Field(description="Folder with test.jsonl.")
    max_rows: int | None = None
    metric: MetricSpec


class JudgePairsResult(Preference):
    """No artifact."""


class ServeSpec(Frozen):
    """Run by the supervisor; serves until SIGTERM. Prints one line when it listens."""

    engine: str = Field(default="llama.cpp", description="An engine of the catalog.")
    model: str
    sha256: str = Field(default="", description="Expected digest; a model with another is not loaded; empty: unknown.")
    alias: str
    chat_template: str
    host: str = "127.0.0.1"
    port: int
    serving: dict[str, Any] = Field(default_factory=dict, description="parallel, context_length, threads")
    sampling: dict[str, Any] = Field(
        default_factory=dict,
        description="Sampling defaults (`domain.sampling`) that the engine applies if a client says nothing; empty: "
        "the engine's own, as releases of earlier versions are served.",
    )
    api_key: str = Field(default="", description="Only requests with it are answered; empty: all that reach the port.")


class ScanSpec(Frozen):
    database: str = Field(description="Folder of trivy's database.")
    update: bool = True
    max_age_s: float = 7 * 86400.0


class ImageSpec(Frozen):
    work_tree: str = Field(description="Clean export of the revision.")
    name: str = Field(description="Of the image, below the registry.")
    context: str
    dockerfile: str = Field(description="Path in the project.")
    target: str | None = None
    cache: str = Field(default="", description="Name of its cache mounts; builds of another name do not see them.")
    args: dict[str, str] = Field(default_factory=dict)
    labels: dict[str, str] = Field(default_factory=dict)
    epoch: int = Field(description="Time of the commit in epoch seconds: that of every file, and SOURCE_DATE_EPOCH.")
    bases: tuple[str, ...] = Field(default=(), description="Patterns of the base images that are allowed; empty: any.")
    builder: BuilderSpec
    scan: ScanSpec


class ImageResult(Frozen):
    """artifact/: sbom.cdx.json, scan.json, lint.json, build.log."""

    reference: str = Field(description="REGISTRY/NAME@sha256:….")
    digest: str
    image_id: str
    size_bytes: int
    checks: tuple[Check, ...]
    bases: tuple[str, ...]
    not_scanned: str
    database: str
    packages: int
    severities: dict[str, int]
    vulnerabilities: tuple[Vulnerability, ...]
    tools: dict[str, str]
