"""What a serving engine does: serve a release in this process, and be asked as a measurement asks it."""

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


class EngineClient(Protocol):
    """A running engine, asked over HTTP. Messages are {role, content}."""

    def ready(self) -> bool:
        """Whether the engine says that it can answer."""

    def rendered(self, messages: list[dict[str, str]]) -> str:
        """The text that the engine makes of a conversation."""

    def tokens(self, text: str) -> list[int]:
        """Its token ids, special tokens read as such."""

    def answer(self, messages: list[dict[str, str]], max_tokens: int) -> tuple[str, int, int]:
        """The greedy answer, the tokens of the prompt and those of the answer."""

    def stream(self, messages: list[dict[str, str]], max_tokens: int) -> Streamed:
        """One streamed answer, timed; a broken one is reported, not raised."""

    def close(self) -> None:
        """Ends the client; the engine goes on."""


class Server(Protocol):
    """A listening server."""

    listening_address: str


class ServingEngine(Protocol):
    """An engine of the catalog. Importing it loads no engine."""

    libraries: tuple[str, ...]
    """Distributions whose versions decide what it answers."""

    def serve(self, spec: ServeSpec) -> Server:
        """Serves a release in this process, OpenAI-compatible, and returns once it listens. /health answers 200 when it
        can answer.

        Raises:
            BadInput: the model cannot be read, or a setting is wrong.
        """

    def context_per_request(self, model: Path, serving: dict[str, Any]) -> int:
        """Tokens that one request may have, answer included.

        Raises:
            BadInput: the model cannot be read, or the setting is no number.
        """

    def client(self, base_url: str) -> EngineClient:
        """A client of an engine that runs at this address."""
