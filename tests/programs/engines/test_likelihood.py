"""The likelihood that a serving engine gives, against a plain softmax of transformers' logits for the same weights."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmops_assets.programs.engines.interface import EngineClient
from llmops_assets.programs.engines.running import running_engine
from llmops_assets.programs.runtime.specs import ServeSpec
from tests.support.forking import call

QUESTION = "<|im_start|>user\ndef add_7(x):\n    return x + 7<|im_end|>\n<|im_start|>assistant\n"
ANSWERS = (
    "Add 7 to x.<|im_end|>",
    "The sum of x and 7, as “quoted” text: Größe.<|im_end|>\n",
    # The server gives no probability of a token that ends within a character.
    "Add \N{LLAMA} and 七.<|im_end|>",
    "",
)


@pytest.fixture(scope="module")
def engine(tiny_f16: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineClient]:
    """The model in float16, with sampling defaults that would change every probability."""
    serve = ServeSpec(
        model=str(tiny_f16),
        alias="m",
        chat_template="{{ messages[0].content }}",
        port=0,
        serving={"parallel": 2, "context_length": 256, "threads": 1},
        sampling={"temperature": 1.5, "top_k": 3, "repetition_penalty": 10.0, "stop": ["Add"], "max_tokens": 2},
    )
    with running_engine(serve, tmp_path_factory.mktemp("engine")) as client:
        yield client


def log_softmax_of_logits(base: Path, rows: list[tuple[list[int], list[int]]], told: Path) -> None:
    """The reference: transformers in float32, one row at a time."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    found = []
    for prompt, answer in rows:
        with torch.inference_mode():
            scores = torch.log_softmax(model(torch.tensor([prompt + answer])).logits[0].double(), -1)
        found.append(-sum(scores[len(prompt) + i - 1, token].item() for i, token in enumerate(answer)))
    told.write_text(json.dumps(found))


def test_the_likelihood_is_that_of_a_softmax_over_the_models_logits(
    engine: EngineClient, tiny: Path, tmp_path: Path
) -> None:
    """It was computed by transformers from weights widened to float32, which no user is served: 28 GB for a 7B model.

    The release's sampling, its stop texts and characters of several tokens must not change it.
    """
    prompt = engine.tokens(QUESTION)
    rows = [(prompt, engine.tokens(answer)) for answer in ANSWERS]
    reference = call(log_softmax_of_logits, tiny, rows, tmp_path / "told.json", log=tmp_path / "log.txt")
    got = [engine.likelihood(*row).nll for row in rows]
    assert reference.wait() == 0, (tmp_path / "log.txt").read_text()
    expected = json.loads((tmp_path / "told.json").read_text())
    assert got == pytest.approx(expected, rel=5e-4) and expected[0] > 1 and expected[3] == 0
    assert got == [engine.likelihood(*row).nll for row in rows], "equal requests, equal values"
