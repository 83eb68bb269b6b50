"""Encodes rows as tokens: one way for training, evaluation and the comparison with the serving engine.

The composed chat template renders the text. Prompt and answer are tokenized separately, as when the model answers: a
token that spans both would never occur in serving. Reading rows belongs in `programs.data.rows`.
"""

from dataclasses import dataclass
from typing import Any

from llmops_assets.domain.prompt import compose_chat_template
from llmops_assets.programs.data.rows import Row, messages_of
from llmops_assets.programs.models.stop_tokens import end_of_turn, stops_of, text_of
from llmops_assets.programs.runtime.errors import BadInput

IGNORED = -100


@dataclass(frozen=True)
class Encoded:
    """Token ids of a row; `labels` is IGNORED at tokens that are neither learned nor measured."""

    ids: list[int]
    labels: list[int]

    @property
    def learned(self) -> int:
        return sum(label != IGNORED for label in self.labels)

    @property
    def first_learned(self) -> int:
        return next((i for i, label in enumerate(self.labels) if label != IGNORED), len(self.labels))


class Encoder:
    """A tokenizer with the project's prompt composed into its chat template.

    Attributes:
        stops: every token that ends an answer, see `programs.models.stop_tokens`.
        end_of_turn: the one of them with which the chat template ends a turn; None if it ends with ordinary text.
    """

    def __init__(
        self, tokenizer: Any, prompt: str, model_chat_template: str | None = None, stops: tuple[int, ...] = ()
    ):
        """`stops`: those of the model's configuration (`configured_stops`), beside tokenizer and chat template."""
        own = model_chat_template or tokenizer.chat_template
        self.tokenizer = tokenizer
        self.chat_template = compose_chat_template(prompt, own)
        self.end_of_turn = end_of_turn(tokenizer, own)
        self.stops = stops_of(tokenizer, own, stops)
        self._ends = [text_of(stop, tokenizer) for stop in self.stops]

    def text(self, messages: list[dict[str, str]], ask: bool) -> str:
        """The rendered conversation; `ask` opens the assistant's turn.

        Raises:
            BadInput: the chat template rejects this conversation.
        """
        import jinja2

        try:
            rendered: str = self.tokenizer.apply_chat_template(
                messages, chat_template=self.chat_template, tokenize=False, add_generation_prompt=ask
            )
        except jinja2.TemplateError as error:
            roles = ", ".join(m["role"] for m in messages)
            raise BadInput(f"the model's chat template rejects a conversation of {roles}: {error}") from error
        return rendered

    def tokens(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def prompt_ids(self, row: Row) -> list[int]:
        """The tokens from which the model generates the row's last turn."""
        return self.tokens(self.text(messages_of(row)[:-1], ask=True))

    def row(self, row: Row, max_length: int | None = None, last_only: bool = False) -> Encoded:
        """Tokens of the whole row.

        Args:
            row: the row.
            max_length: maximum tokens; the rest is cut off.
            last_only: label only the last assistant turn, not all of them.
        """
        ids: list[int] = []
        labels: list[int] = []
        for text, learned in self._segments(messages_of(row), last_only):
            tokens = self.tokens(text)
            ids += tokens
            labels += tokens if learned else [IGNORED] * len(tokens)
        return Encoded(ids[:max_length], labels[:max_length])

    def _segments(self, messages: list[dict[str, str]], last_only: bool) -> list[tuple[str, bool]]:
        turns = [i for i, m in enumerate(messages) if m["role"] == "assistant"]
        whole = self.text(messages, ask=False)
        segments: list[tuple[str, bool]] = []
        done = 0
        for turn in turns[-1:] if last_only else turns:
            before = self.text(messages[:turn], ask=True)
            after = whole if turn == len(messages) - 1 else self.text(messages[: turn + 1], ask=False)
            answer = self._until_its_end(after[len(before) :], messages[turn]["content"])
            if not (after.startswith(before) and whole.startswith(before + answer)):
                if turn != turns[-1]:
                    continue  # a template that rewrites earlier turns (Qwen3 drops their thoughts): learn the last one
                raise BadInput(
                    "the model's chat template renders an answered question differently from an open one, so training "
                    "and serving would differ; fix its chat template"
                )
            segments += [(whole[done : len(before)], False), (answer, True)]
            done = len(before) + len(answer)
        return segments

    def _until_its_end(self, answer: str, content: str) -> str:
        """The answer without the text after the stop token that ends it, which is never generated.

        The content itself is not searched: it may quote a stop token.
        """
        text = content.strip()
        start = found + len(text) if (found := answer.find(text)) >= 0 else 0
        places = [(at, end) for end in self._ends if (at := answer.find(end, start)) >= 0]
        if not places:
            return answer
        at, end = min(places, key=lambda place: (place[0], -len(place[1])))
        return answer[: at + len(end)]
