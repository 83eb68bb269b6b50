"""Models and tokenizers from folders: refused if unsafe or incomplete, never from the network, never with their code.

What is done with them belongs in the programs; how rows become tokens in `programs.data.encoding`.
"""

import importlib.metadata
import json
import os
from pathlib import Path
from typing import Any

from llmops_assets.domain.weights import SAFETENSORS, problem_of_weights
from llmops_assets.machine.files import files_below
from llmops_assets.programs.runtime.errors import BadInput

LIBRARIES = ("torch", "transformers", "peft", "tokenizers")
PROBE = "def f(x):\n    return x + 12345  # Größe, 'quoted' \"twice\"\n\n  end"


def versions(*names: str) -> dict[str, str]:
    """Installed versions of the libraries that decide a result."""
    return {name: importlib.metadata.version(name) for name in (*LIBRARIES, *names)}


def read_config(folder: Path, what: str = "the base model") -> dict[str, Any]:
    """A model folder's config.json.

    Raises:
        BadInput: the folder or the file is missing or broken.
    """
    if not folder.is_dir():
        raise BadInput(f"{what} is not there; mend model.base, or push its folder to the DVC remote", str(folder))
    path = folder / "config.json"
    if not path.is_file():
        raise BadInput(f"{what} has no config.json; name a folder in Hugging Face's format", str(folder))
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadInput(f"not valid JSON: {error}", str(path)) from error
    return config


def check_weights(folder: Path, what: str = "the base model") -> None:
    """Refuses a folder without safetensors, or with a pickle in it, and says what to do.

    Raises:
        BadInput: no safetensors, one that is cut off, or a pickle.
    """
    if problem := problem_of_weights(files_below(folder)):
        raise BadInput(f"{what}: {problem}", str(folder))
    from safetensors import SafetensorError, safe_open

    for file in sorted(folder.glob(f"*{SAFETENSORS}")):
        try:
            with safe_open(str(file), framework="np") as opened:
                opened.keys()
        except (SafetensorError, OSError) as error:
            raise BadInput(f"not a whole safetensors file: {error}", str(file)) from error


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer, as its tokenizer.json defines it.

    transformers 5 rebuilds the pre-tokenizer of some classes (GPT2Tokenizer) from their name and loses, for example,
    the splitting of digits; llama.cpp reads the file. So the file wins.

    Raises:
        BadInput: it is missing, broken, or has no chat template.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        if (folder / "tokenizer.json").is_file():
            from tokenizers import Tokenizer

            exact = Tokenizer.from_file(str(folder / "tokenizer.json"))
            if exact.encode(PROBE, add_special_tokens=False).ids != tokenizer.encode(PROBE, add_special_tokens=False):
                tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise BadInput(f"its tokenizer cannot be loaded: {_first_line(error)}", str(folder)) from error
    if not isinstance(tokenizer.chat_template, str) or not tokenizer.chat_template.strip():
        raise BadInput(
            "its tokenizer has no chat template; take an instruction-tuned model, or add a chat_template.jinja to it",
            str(folder),
        )
    if tokenizer.eos_token_id is None:
        raise BadInput("its tokenizer has no eos_token, so no answer would end; set it in its files", str(folder))
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Saves the tokenizer, and makes sure that what is read back is the same.

    Raises:
        BadInput: it does not survive the round trip.
    """
    tokenizer.save_pretrained(folder)
    again = load_tokenizer(folder)
    if again.encode(PROBE) != tokenizer.encode(PROBE) or again.chat_template != tokenizer.chat_template:
        raise BadInput(
            "the tokenizer is another one after saving and loading; set tokenizer_class to PreTrainedTokenizerFast in "
            "its tokenizer_config.json",
            str(folder),
        )


def load_weights(folder: Path, what: str, dtype: Any) -> Any:
    """A causal language model from a folder; `what` is what messages call it, `dtype` that of the weights.

    Raises:
        BadInput: the folder is missing, unsafe, broken, or needs code of its own.
    """
    from transformers import AutoModelForCausalLM

    read_config(folder, what)
    check_weights(folder, what)
    try:
        return AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, trust_remote_code=False, local_files_only=True
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise BadInput(f"{what} cannot be loaded: {_first_line(error)}", str(folder)) from error


def context_length(config: Any) -> int:
    """Tokens that a model of this configuration can see at once."""
    for name in ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"):
        value = config.get(name) if isinstance(config, dict) else getattr(config, name, None)
        if isinstance(value, int) and value > 0:
            return value
    return 2048


def device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def seed_everything(seed: int) -> None:
    """Seeds Python, NumPy and torch, and asks torch for deterministic kernels where it has them."""
    import torch
    from transformers import set_seed

    set_seed(seed)
    torch.use_deterministic_algorithms(True, warn_only=True)
    if torch.cuda.is_available():
        torch.backends.cudnn.benchmark = False


def prepare_torch() -> None:
    """As many threads as OMP_NUM_THREADS says (torch otherwise takes every core), one device, no bars but ours."""
    import torch
    from transformers.utils import logging

    logging.disable_progress_bar()
    # One device: over several Trainer would multiply the batch, and the result would depend on the machine.
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")

    given = os.environ.get("OMP_NUM_THREADS", "")
    if given.isdigit() and int(given) > 0:
        torch.set_num_threads(int(given))


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
