"""Token parity on six families of chat models: the engine evaluates the ids that training reads, and each way in which
a template can deviate is detected and named."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from gguf import SpecialVocab

from llmops_assets.domain.prompt import compose_chat_template
from llmops_assets.programs.data.encoding import IGNORED, Encoder
from llmops_assets.programs.data.rows import messages_of
from llmops_assets.programs.engines.llama_cpp_client import LlamaCppClient
from llmops_assets.programs.engines.parity import compare_tokens
from llmops_assets.programs.engines.running import running_engine
from llmops_assets.programs.models.loading import load_tokenizer
from llmops_assets.programs.models.stop_tokens import configured_stops
from llmops_assets.programs.quantization.gguf_tokens import follow_chat_template, name_stops
from llmops_assets.programs.runtime.specs import ServeSpec
from tests.programs.conftest import PROMPT
from tests.support.families import FAMILIES, Family

ROWS = [
    {"input": "def f(): pass", "output": "Do nothing."},
    {
        "messages": [
            {"role": "user", "content": " two\nlines "}, {"role": "assistant", "content": "First."},
            {"role": "user", "content": "漢字🙂 12345"}, {"role": "assistant", "content": "Second."},
        ]
    },
]  # fmt: skip
BOS, STOP, SPECIAL, SPACE, ROLE = (
    "the beginning-of-text token", "a stop token", "a special token", "white space", "the name of a role"
)  # fmt: skip
MUTATIONS: dict[str, dict[str, tuple[str, str, str]]] = {
    "llama3": {
        BOS: ("bos_token + content", "content", "'<|begin_of_text|>'"),
        STOP: ("<|eot_id|>", "<|end_of_text|>", "'<|end_of_text|>'"),
        SPACE: ("| trim", "", "' '"),
        ROLE: ("message['role']", "message['role'] | replace('user', 'human')", "'human'"),
    },
    "qwen": {
        BOS: ("{%- if messages[0]", "{{- '<|endoftext|>' }}{%- if messages[0]", "'<|endoftext|>'"),
        STOP: ("'<|im_end|>' + '\\n'", "'<|endoftext|>' + '\\n'", "'<|im_end|>'"),
        SPACE: ("assistant\\n'", "assistant\\n\\n'", r"'\n\n'"),
        ROLE: ("'<|im_start|>assistant", "'<|im_start|>bot", "'bot'"),
    },
    "mistral": {
        BOS: ("{{ bos_token }}", "", "'<s>'"),
        STOP: ("+ eos_token", "", "'</s>'"),
        SPACE: ("'[INST] '", "'[INST]'", "' Say'"),
        SPECIAL: ("'[INST] '", "'[/INST] '", "'[INST]'"),
    },
    "gemma": {
        BOS: ("{{ bos_token }}", "{{ bos_token }}{{ bos_token }}", "'<bos>'"),
        STOP: ("<end_of_turn>", "<eos>", "'<end_of_turn>'"),
        SPACE: ("model\n'", "model'", r"'\n'"),
        ROLE: ("set role = 'model'", "set role = 'assistant'", "'assistant'"),
    },
    "phi": {
        BOS: ("{% for", "{{ bos_token }}{% for", "'<s>'"),
        STOP: ("<|end|>", "<|endoftext|>", "'<|endoftext|>'"),
        SPACE: ("<|end|>\n", "<|end|>", r"'\n'"),
        SPECIAL: ("<|user|>", "<|assistant|>", "'<|user|>'"),
    },
    "chatml": {
        BOS: ("{% for", "{{ bos_token }}{% for", "'<|im_start|>'"),
        STOP: ("<|im_end|>", "<|endoftext|>", "'<|endoftext|>'"),
        SPACE: ("+ '\n' + message['content']", "+ ' \n' + message['content']", "' '"),
        ROLE: ("message['role']", "message['role'] | replace('user', 'human')", "'human'"),
    },
}  # fmt: skip
"""Kind of the difference → what is replaced in the template, by what, and the text that the message must quote."""


@dataclass(frozen=True)
class Served:
    family: Family
    tokenizer: Any
    engine: LlamaCppClient

    def encoder(self, template: str) -> Encoder:
        return Encoder(self.tokenizer, PROMPT, template)


@pytest.fixture(scope="module", params=FAMILIES, ids=lambda f: f.name)
def served(
    request: pytest.FixtureRequest, tiny: Path, gguf: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    family: Family = request.param
    folder = tmp_path_factory.mktemp(family.name)
    spec = ServeSpec(
        model=str(family.gguf(gguf, folder / "model.gguf")),
        alias="m",
        chat_template=compose_chat_template(PROMPT, family.template),
        port=0,
        serving={"parallel": 1, "context_length": 256},
    )
    with running_engine(spec, folder) as engine:
        assert isinstance(engine, LlamaCppClient)
        yield Served(family, load_tokenizer(family.tokenizer(tiny, folder / "tokenizer")), engine)


def test_the_engine_evaluates_what_training_read(served: Served) -> None:
    """Llama 3, Mistral and Gemma were refused: the engine strips their BOS from the text that it returns, and adds it
    when it tokenizes a request. The cache of an earlier prompt shows which ids a real request evaluates."""
    encoder = served.encoder(served.family.template)
    assert compare_tokens(served.engine, encoder, ROWS) == []
    ids = encoder.prompt_ids(ROWS[0])
    assert ids.count(encoder.tokenizer.bos_token_id) == 1 or not served.family.adds_bos
    slot = {"id_slot": 0, "cache_prompt": True}
    served.engine._post("/completion", {"prompt": [*ids, 300, 301], "n_predict": 1, **slot})
    question = {"messages": [{"role": "user", "content": ROWS[0]["input"]}], "max_tokens": 1, **slot}
    asked = served.engine._post("/v1/chat/completions", question)
    # The last token of a prompt is evaluated again for its logits.
    assert (asked["timings"]["cache_n"], asked["usage"]["prompt_tokens"]) == (len(ids) - 1, len(ids))


def test_only_the_turn_and_its_end_are_learned_and_the_engine_ends_there(served: Served) -> None:
    """Training learned what follows <end_of_turn>, <|eot_id|> and <|end|>, up to the tokenizer's EOS, which is not the
    end of a turn for these families; evaluation generated on until EOS."""
    family = served.family
    encoder = served.encoder(family.template)
    for row in ROWS:
        encoded = encoder.row(row)
        turns = [m["content"] for m in messages_of(row) if m["role"] == "assistant"]
        learned = encoder.tokenizer.decode([i for i in encoded.labels if i != IGNORED])
        assert learned.replace(" ", "") == "".join(f"{t}{family.end_of_turn}" for t in turns).replace(" ", "")
        assert encoded.labels[-1] == encoder.end_of_turn == family.ids[family.end_of_turn]
    assert set(encoder.stops) == {family.ids[family.end_of_turn], family.ids[family.eos]}
    assert all(served.engine.ends_at(stop) for stop in encoder.stops)
    assert not served.engine.ends_at(300)


def test_each_deviation_from_the_template_is_detected_and_named(served: Served) -> None:
    for kind, (old, new, quoted) in MUTATIONS[served.family.name].items():
        assert old in served.family.template
        found = compare_tokens(served.engine, served.encoder(served.family.template.replace(old, new)), ROWS)
        assert found, kind
        named = f", {kind}: the engine reads "
        assert any(named in line and quoted in line for line in found), (kind, found)


def test_a_stop_token_that_only_the_model_knows_is_written_into_the_file(
    tiny: Path, gguf: Path, tmp_path: Path
) -> None:
    """llama.cpp knows stop tokens by name; at any other one, only of the model's own configuration, it ran on."""
    names = {3: "<|turn_over|>", 4: "<|hand_over|>"}
    family = Family("chatml", None, "<|im_end|>", "<|turn_over|>", names=names)
    folder = family.tokenizer(tiny, tmp_path / "model")
    template = family.template.replace("<|im_end|>", "<|turn_over|>")
    (folder / "chat_template.jinja").write_text(template)
    (folder / "generation_config.json").write_text('{"eos_token_id": [2, 4]}')
    encoder = Encoder(load_tokenizer(folder), PROMPT, stops=configured_stops(folder))
    assert encoder.stops == (2, 3, 4)
    file = family.gguf(gguf, tmp_path / "model.gguf")
    spec = ServeSpec(
        model=str(file),
        alias="m",
        chat_template=encoder.chat_template,
        port=0,
        serving={"parallel": 1, "context_length": 256},
    )
    with running_engine(spec, tmp_path) as engine:
        told = (
            "the engine does not end an answer at '<|turn_over|>' [3], '<|hand_over|>' [4], training and evaluation do"
        )
        assert compare_tokens(engine, encoder, ROWS) == [f"row 1: {told}", f"row 2: {told}"]
    name_stops(file, folder, encoder.tokenizer)
    with running_engine(spec, tmp_path) as engine:
        assert compare_tokens(engine, encoder, ROWS) == []


def test_the_engine_adds_no_beginning_that_the_template_lacks(tiny: Path, tmp_path: Path) -> None:
    """llama.cpp adds what the tokenizer adds: a ChatML template on a Llama tokenizer was trained without it."""
    for family, told in ((FAMILIES[0], None), (replace(FAMILIES[0], name="chatml"), False)):
        folder = family.tokenizer(tiny, tmp_path / family.name)
        follow_chat_template(folder, load_tokenizer(folder))
        assert json.loads((folder / "tokenizer_config.json").read_text()).get("add_bos_token") is told
        assert SpecialVocab(folder).add_special_token["bos"] is (told is None)
