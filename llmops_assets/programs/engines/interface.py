"""The interfaces of a serving engine and of its client."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from llmops_assets.programs.runtime.specs import ServeSpec


@dataclass(frozen=True)
class Streamed:
    """One streamed answer."""

    tokens: int
    first_token_s: float
    latency_s: float
    whole: bool


@dataclass(frozen=True)
class Completion:
    """One answer."""

    text: str
    prompt_tokens: int
    tokens: int
    cut: bool
    """It reached the limit of tokens: the model did not end it."""


@dataclass(frozen=True)
class Likelihood:
    """How likely a given answer is."""

    nll: float
    """Negative log-likelihood of its tokens, in nats, summed."""
    greedy: bool
    """Each token is the most likely one where it stands."""


class EngineClient(Protocol):
    """An HTTP client of a running engine. Messages are {role, content}."""

    def ready(self) -> bool:
        """Whether the engine reports that it can answer."""

    def rendered(self, messages: list[dict[str, str]]) -> str:
        """The text that the engine renders from a conversation."""

    def tokens(self, text: str) -> list[int]:
        """The ids that a chat request evaluates for its rendered text; special tokens are parsed as such."""

    def ends_at(self, token: int) -> bool:
        """Whether an answer ends at this token."""

    def answer(self, messages: list[dict[str, str]], max_tokens: int) -> Completion:
        """The answer with the engine's sampling defaults, computed from the whole prompt without a cache.

        Repeatable while it is the engine's only request: concurrent requests are computed together, whose rounding
        depends on how many there are.
        """

    def likelihood(self, prompt: list[int], answer: list[int]) -> Likelihood:
        """The likelihood of an answer's tokens after a prompt's tokens.

        Of the softmax over the model's logits: no sampling parameter changes it.

        Raises:
            RuntimeError: the engine does not return it.
        """

    def continuation(self, prompt: list[int], max_tokens: int, stop: list[str]) -> str:
        """The most likely continuation of a prompt's tokens, without a chat template and without a cache.

        It ends before any of the texts in `stop`, at the end of text, or after `max_tokens`.
        """

    def stream(self, messages: list[dict[str, str]], max_tokens: int) -> Streamed:
        """One streamed answer with its times; an incomplete one is reported, not raised."""

    def close(self) -> None:
        """Closes the client; the engine keeps running."""


class Server(Protocol):
    """A listening server."""

    listening_address: str


class ServingEngine(Protocol):
    """An engine of the catalog. Importing it loads no engine."""

    libraries: tuple[str, ...]
    """Distributions whose versions affect its answers."""

    def serve(self, spec: ServeSpec) -> Server:
        """Serves a release in this process, OpenAI-compatible; returns once it listens. /health returns 200 when it is
        ready. `spec.sampling` applies to each request, except for what the client sets itself.

        Raises:
            BadInput: the model cannot be read, or a setting is invalid.
        """

    def gpus(self) -> list[str]:
        """Models of the GPUs that compute in this installation; empty: none does."""

    def device(self) -> str:
        """What computes in this installation: a GPU's name, or the CPU's instructions. It can change figures."""

    def context_per_request(self, model: Path, serving: dict[str, Any]) -> int:
        """Maximum tokens of one request, including the answer.

        Raises:
            BadInput: the model cannot be read, or the setting is not a number.
        """

    def client(self, base_url: str) -> EngineClient:
        """A client of the engine at this address."""
