"""Tokens of a row: only the answer and its end are learned; the prompt is the same as in serving."""

from pathlib import Path
from typing import Any

import pytest

from llmops_assets.programs.data.encoding import IGNORED, Encoder
from llmops_assets.programs.models.loading import load_tokenizer
from llmops_assets.programs.runtime.errors import BadInput
from tests.programs.conftest import PROMPT

ROW = {"input": "def f(): pass", "output": "Do nothing."}
TALK = {
    "messages": [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": "one"},
        {"role": "assistant", "content": "two"}, {"role": "user", "content": "three"},
        {"role": "assistant", "content": "four"},
    ]
}  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer(tiny: Path) -> Any:
    return load_tokenizer(tiny)


def learned(tokenizer: Any, labels: list[int]) -> str:
    return str(tokenizer.decode([label for label in labels if label != IGNORED]))


def test_only_the_answer_and_its_end_are_learned(tokenizer: Any) -> None:
    encoded = Encoder(tokenizer, PROMPT).row(ROW)
    assert learned(tokenizer, encoded.labels) == "Do nothing.<|im_end|>"
    assert encoded.labels[encoded.first_learned :] == encoded.ids[encoded.first_learned :]


def test_the_question_is_what_is_asked_in_service(tokenizer: Any) -> None:
    encoder = Encoder(tokenizer, PROMPT)
    encoded = encoder.row(ROW)
    assert encoder.prompt_ids(ROW) == encoded.ids[: encoded.first_learned]
    text = tokenizer.decode(encoder.prompt_ids(ROW))
    assert "<|im_start|>user\nSay in one line what this function does.\n\ndef f(): pass<|im_end|>" in text
    assert text.endswith("<|im_start|>assistant\n")


def test_all_assistant_turns_are_learned_and_the_last_is_measured(tokenizer: Any) -> None:
    encoder = Encoder(tokenizer, PROMPT)
    assert learned(tokenizer, encoder.row(TALK).labels) == "two<|im_end|>four<|im_end|>"
    assert learned(tokenizer, encoder.row(TALK, last_only=True).labels) == "four<|im_end|>"
    assert encoder.row(TALK).ids == encoder.row(TALK, last_only=True).ids


def test_a_row_is_cut_to_the_length_asked(tokenizer: Any) -> None:
    encoded = Encoder(tokenizer, PROMPT).row(ROW, max_length=20)
    assert len(encoded.ids) == len(encoded.labels) == 20 and encoded.learned == 0


def test_a_template_that_rewrites_earlier_answers_still_learns_the_last(tokenizer: Any) -> None:
    """Qwen3's template drops the reasoning of earlier turns, so these differ from the model's original answers."""
    forgetful = (
        "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] if loop.last or m['role'] != 'assistant' else '...' }}"
        "<|im_end|>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    assert learned(tokenizer, Encoder(tokenizer, PROMPT, forgetful).row(TALK).labels) == "four<|im_end|>"


def test_a_template_that_opens_an_answer_otherwise_is_refused(tokenizer: Any) -> None:
    odd = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}{{ 'GO' if add_generation_prompt }}"
    with pytest.raises(BadInput, match="differently from an open one"):
        Encoder(tokenizer, PROMPT, odd).row(ROW)


def test_a_conversation_that_the_template_refuses_is_reported(tokenizer: Any) -> None:
    strict = "{{ raise_exception('no system turn, please') }}"
    with pytest.raises(BadInput, match="no system turn, please"):
        Encoder(tokenizer, PROMPT, strict).row(TALK)
