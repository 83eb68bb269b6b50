"""Six families of chat models, as tokenizers and GGUF files: the tiny model with other names for its special tokens.

The vocabulary stays that of SmolLM2, whose special tokens are the ids 0 to 16: special tokens, beginning of text and
template are what families differ in, and what parity depends on. The templates are those that the families publish,
without tools and images.
"""

import json
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TEMPLATES = Path(__file__).parents[1] / "programs" / "engines" / "templates"
NAMES = {0: "<|endoftext|>", 1: "<|im_start|>", 2: "<|im_end|>", 3: "<repo_name>", 4: "<reponame>"}
UNUSED = "<empty_output>"


@dataclass(frozen=True)
class Family:
    name: str
    bos: str | None
    eos: str
    """The tokenizer's EOS, which is not the end of a turn for half of them."""
    end_of_turn: str
    adds_bos: bool = False
    names: dict[int, str] = field(default_factory=dict)

    @property
    def template(self) -> str:
        return (TEMPLATES / f"{self.name}.jinja").read_text()

    @property
    def ids(self) -> dict[str, int]:
        return {name: i for i, name in {**NAMES, **self.names}.items()}

    def tokenizer(self, tiny: Path, folder: Path) -> Path:
        """The folder with the family's tokenizer."""
        folder.mkdir(parents=True)
        exact = json.loads((tiny / "tokenizer.json").read_text())
        for token in exact["added_tokens"]:
            if name := self.names.get(token["id"]):
                exact["model"]["vocab"][name] = exact["model"]["vocab"].pop(token["content"])
                token["content"] = name
        if self.adds_bos and self.bos:
            first = {"SpecialToken": {"id": self.bos, "type_id": 0}}
            exact["post_processor"]["single"].insert(0, first)
            exact["post_processor"]["special_tokens"] = {
                self.bos: {"id": self.bos, "ids": [self.ids[self.bos]], "tokens": [self.bos]}
            }
        (folder / "tokenizer.json").write_text(json.dumps(exact))
        config: dict[str, Any] = json.loads((tiny / "tokenizer_config.json").read_text())
        config |= {"bos_token": self.bos, "eos_token": self.eos, "pad_token": self.eos, "unk_token": self.eos}
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
        (folder / "chat_template.jinja").write_text(self.template)
        return folder

    def gguf(self, tiny: Path, target: Path) -> Path:
        """The tiny model as GGUF, as the converter writes it for this family."""
        whole = tiny.read_bytes()
        at = whole.index(b"tokenizer.ggml.tokens")
        head, tail = whole[:at], whole[at:]
        for name, layout, value in (
            ("eos_token_id", "<I", self.ids[self.eos]),
            ("bos_token_id", "<I", self.ids[self.bos or self.eos]),
            ("add_bos_token", "<?", self.adds_bos),
        ):
            key = f"tokenizer.ggml.{name}".encode()
            at = tail.index(key) + len(key) + 4
            packed = struct.pack(layout, value)
            tail = tail[:at] + packed + tail[at + len(packed) :]
        for i, name in self.names.items():
            tail = _renamed(tail, NAMES[i], name)
        lacking = (len(whole) - len(head) - len(tail)) % 32  # the weights stay aligned
        target.write_bytes(head + _renamed(tail, UNUSED, UNUSED + " " * lacking))
        return target


def _renamed(tail: bytes, old: str, new: str) -> bytes:
    return tail.replace(_text(old), _text(new), 1)


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


FAMILIES = (
    Family(
        "llama3",
        "<|begin_of_text|>",
        "<|end_of_text|>",
        "<|eot_id|>",
        True,
        {
            0: "<|begin_of_text|>",
            1: "<|start_header_id|>",
            2: "<|eot_id|>",
            3: "<|end_header_id|>",
            4: "<|end_of_text|>",
        },
    ),
    Family("qwen", None, "<|im_end|>", "<|im_end|>"),
    Family("mistral", "<s>", "</s>", "</s>", True, {0: "<s>", 1: "[INST]", 2: "</s>", 3: "[/INST]"}),
    Family(
        "gemma",
        "<bos>",
        "<eos>",
        "<end_of_turn>",
        True,
        {0: "<bos>", 1: "<start_of_turn>", 2: "<eos>", 3: "<end_of_turn>"},
    ),
    Family(
        "phi", "<s>", "<|endoftext|>", "<|end|>", False, {1: "<|user|>", 2: "<|end|>", 3: "<|assistant|>", 4: "<s>"}
    ),
    Family("chatml", "<|im_start|>", "<|im_end|>", "<|im_end|>"),
)
