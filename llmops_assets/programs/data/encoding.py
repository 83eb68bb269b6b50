"""How a row becomes tokens, the same for training, evaluation and the comparison with the serving engine.

The text is always the composed chat template's. Prompt and answer are tokenized apart, as they are when the model
answers: a token that spans both would never occur in service. Reading rows belongs in `programs.data.rows`.
"""

from dataclasses import dataclass
from typing import Any

from llmops_assets.domain.prompt import compose_chat_template
from llmops_assets.programs.data.rows import Row, messages_of
from llmops_assets.programs.runtime.errors import BadInput

IGNORED = -100


@dataclass(frozen=True)
class Encoded:
    """Token ids of a row; `labels` has IGNORED where nothing is learned or measured."""

    ids: list[int]
    labels: list[int]

    @property
    def learned(self) -> int:
        return sum(label != IGNORED for label in self.labels)

    @property
    def first_learned(self) -> int:
        return next((i for i, label in enumerate(self.labels) if label != IGNORED), len(self.labels))


class Encoder:
    """A tokenizer with the project's prompt composed into its chat template."""

    def __init__(self, tokenizer: Any, prompt: str, model_chat_template: str | None = None):
        self.tokenizer = tokenizer
        self.chat_template = compose_chat_template(prompt, model_chat_template or tokenizer.chat_template)

    def text(self, messages: list[dict[str, str]], ask: bool) -> str:
        """The conversation as the model sees it; `ask` opens the assistant's turn.

        Raises:
            BadInput: the chat template does not take this conversation.
        """
        import jinja2

        try:
            rendered: str = self.tokenizer.apply_chat_template(
                messages, chat_template=self.chat_template, tokenize=False, add_generation_prompt=ask
            )
        except jinja2.TemplateError as error:
            roles = ", ".join(m["role"] for m in messages)
            raise BadInput(f"the model's chat template refuses a conversation of {roles}: {error}") from error
        return rendered

    def tokens(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def prompt_ids(self, row: Row) -> list[int]:
        """What the model is given when it is asked for the row's last turn."""
        return self.tokens(self.text(messages_of(row)[:-1], ask=True))

    def row(self, row: Row, max_length: int | None = None, last_only: bool = False) -> Encoded:
        """Tokens of the whole row.

        Args:
            row: the row.
            max_length: tokens; the rest is cut off.
            last_only: only the last assistant turn counts, else all of them.
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
            if not (whole.startswith(before) and whole.startswith(after) and after.startswith(before)):
                if turn != turns[-1]:
                    continue  # templates that rewrite earlier turns (Qwen3 drops their thoughts): learn the last one
                raise BadInput(
                    "the model's chat template writes an answered question otherwise than an open one, so what is "
                    "learned would not be what is served; mend its chat template"
                )
            answer = self._until_its_end(after[len(before) :])
            segments += [(whole[done : len(before)], False), (answer, True)]
            done = len(before) + len(answer)
        return segments

    def _until_its_end(self, answer: str) -> str:
        """Without what a template writes after the end-of-turn token: it is never generated."""
        end = answer.rfind(self.tokenizer.eos_token)
        return answer if end < 0 else answer[: end + len(self.tokenizer.eos_token)]
