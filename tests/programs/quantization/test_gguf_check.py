"""A converted file is verified before it is stored: whole, with its embeddings and its tokenizer."""

from pathlib import Path

import pytest

from llmops_assets.programs.quantization.gguf_check import numbers_in, problem_of
from llmops_assets.programs.runtime.errors import BadInput


def written(file: Path, tensor: str, tokens: list[str], alignment: int | None = None) -> Path:
    """A small file by the gguf library's own writer."""
    import numpy
    from gguf import GGUFWriter

    writer = GGUFWriter(file, "llama")
    if alignment:
        writer.add_custom_alignment(alignment)
    if tokens:
        writer.add_token_list(tokens)
    writer.add_tensor("a", numpy.ones((3, 5), dtype=numpy.float16))
    writer.add_tensor(tensor, numpy.ones((7, 64), dtype=numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


@pytest.mark.parametrize("alignment", [None, 4096])
def test_a_file_is_whole_to_its_last_weight_and_not_without_it(tmp_path: Path, alignment: int | None) -> None:
    """The gguf library maps a cut file without an error, or with one of NumPy that names no reason."""
    file = written(tmp_path / "model.gguf", "token_embd.weight", ["a", "ä", ""], alignment)
    content = file.read_bytes()
    assert problem_of(file) is None
    end = content.rindex(b"\x00\x00\x80?") + 4  # 1.0 in float32: the last weight
    (tmp_path / "cut.gguf").write_bytes(content[:end])
    assert problem_of(tmp_path / "cut.gguf") is None, "only padding is missing"
    (tmp_path / "cut.gguf").write_bytes(content[: end - 1])
    assert problem_of(tmp_path / "cut.gguf") == f"it is cut off: it has {end - 1:,} bytes, its weights need {end:,}"
    for at in (8, 30, 100, content.index(b"token_embd") + 4):
        (tmp_path / "cut.gguf").write_bytes(content[:at])
        assert problem_of(tmp_path / "cut.gguf") == "it is cut off within its header"


@pytest.mark.parametrize(("tensor", "tokens"), [("output.weight", ["a"]), ("token_embd.weight", [])])
def test_a_file_without_embeddings_or_tokenizer_is_refused(tmp_path: Path, tensor: str, tokens: list[str]) -> None:
    file = written(tmp_path / "model.gguf", tensor, tokens)
    assert problem_of(file) == "it lacks its embeddings or its tokenizer"


def test_a_converted_model_is_whole(gguf: Path, tmp_path: Path) -> None:
    assert problem_of(gguf) is None
    (tmp_path / "cut.gguf").write_bytes(gguf.read_bytes()[:-1000])
    assert (problem_of(tmp_path / "cut.gguf") or "").startswith("it is cut off: it has ")
    (tmp_path / "other").write_bytes(b"PK\x03\x04 not a model, but long enough")
    assert problem_of(tmp_path / "other") == "it is not a GGUF file"
    (tmp_path / "other").write_bytes(b"")
    assert problem_of(tmp_path / "other") == "it is empty"


def test_numbers_are_read_also_after_the_vocabulary(model_file: Path, tmp_path: Path) -> None:
    from gguf import GGUFReader

    fields = GGUFReader(model_file).fields
    keys = ("tokenizer.ggml.eos_token_id", "tokenizer.ggml.bos_token_id", "llama.context_length")
    assert numbers_in(model_file, (*keys, "nothing")) == {key: int(fields[key].contents()) for key in keys}
    assert list(fields).index("tokenizer.ggml.tokens") < list(fields).index(keys[0]), "so the test tests something"
    (tmp_path / "cut.gguf").write_bytes(model_file.read_bytes()[:1000])
    with pytest.raises(BadInput, match="is not a GGUF file, or is cut off"):
        numbers_in(tmp_path / "cut.gguf", keys)
