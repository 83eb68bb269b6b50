"""Loads models and tokenizers from folders. Refuses unsafe or incomplete ones; uses no network and none of their code.

Their use belongs in the programs, encoding rows in `programs.data.encoding`.
"""

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

from llmops_assets.config.documents import DocumentError
from llmops_assets.domain.formatting import excerpt
from llmops_assets.domain.weights import SAFETENSORS, problem_of_weights
from llmops_assets.machine.files import files_below
from llmops_assets.programs.models.config_files import read_model_config
from llmops_assets.programs.runtime.errors import BadInput

LIBRARIES = ("torch", "transformers", "peft", "tokenizers")
MERGED_IN_FLOAT32_BELOW = 8 << 30  # bytes of weights; larger models are merged in their own precision to fit
PROBE = "def f(x):\n    return x + 12345  # Größe, 'quoted' \"twice\"\n\n  end"


def versions(*names: str) -> dict[str, str]:
    """Installed versions of the libraries that affect a result."""
    return {name: importlib.metadata.version(name) for name in (*LIBRARIES, *names)}


def read_config(folder: Path, what: str = "the base model", key: str = "model.base") -> dict[str, Any]:
    """A model folder's config.json; messages call it `what`, and say that `key` of llmops.yaml names it.

    Raises:
        BadInput: the folder or the file is missing or broken.
    """
    if not folder.is_dir():
        raise BadInput(f"{what} does not exist; correct {key}, or push its folder to the DVC remote", str(folder))
    path = folder / "config.json"
    if not path.is_file():
        raise BadInput(f"{what} has no config.json; name a folder in Hugging Face's format", str(folder))
    try:
        return read_model_config(folder)
    except DocumentError as error:
        raise BadInput(str(error), str(path)) from error


def check_weights(folder: Path, what: str = "the base model") -> None:
    """Refuses a folder that has no safetensors or has a pickle.

    Raises:
        BadInput: no safetensors, a truncated one, or a pickle; names the remedy.
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
    """Loads the tokenizer that tokenizer.json defines.

    transformers 5 rebuilds the pre-tokenizer of some classes (GPT2Tokenizer) from their name and loses, for example,
    the splitting of digits; llama.cpp reads the file. So the file takes precedence.

    Raises:
        BadInput: it is missing or broken, or has no chat template or no eos_token.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        if (folder / "tokenizer.json").is_file():
            from tokenizers import Tokenizer

            exact = Tokenizer.from_file(str(folder / "tokenizer.json"))
            if exact.encode(PROBE, add_special_tokens=False).ids != tokenizer.encode(PROBE, add_special_tokens=False):
                tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
        tokenizer.encode(PROBE)
    except Exception as error:  # the Rust library raises nothing more specific, and the files can hold anything
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
    """Saves the tokenizer, and verifies that loading it returns the same.

    Raises:
        BadInput: the loaded tokenizer differs.
    """
    tokenizer.save_pretrained(folder)
    again = load_tokenizer(folder)
    if again.encode(PROBE) != tokenizer.encode(PROBE) or again.chat_template != tokenizer.chat_template:
        raise BadInput(
            "the tokenizer changes when it is saved and loaded; set tokenizer_class to PreTrainedTokenizerFast in "
            "its tokenizer_config.json",
            str(folder),
        )


def load_weights(folder: Path, what: str, dtype: Any) -> Any:
    """Loads a causal language model from a folder; messages call it `what`, its weights get `dtype`.

    Raises:
        BadInput: the folder is missing, unsafe or broken, or needs its own code.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    read_config(folder, what)
    check_weights(folder, what)
    try:
        return AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, trust_remote_code=False, local_files_only=True
        )
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RuntimeError, SafetensorError) as error:
        raise BadInput(f"{what} cannot be loaded: {_first_line(error)}", str(folder)) from error


def merge_dtype(base: Path) -> str:
    """The dtype in which a checkpoint is merged into this base model, on every device.

    Evaluation and quantization share it, so that what is measured is what is released: merging LoRA weights in bfloat16
    rounds away a part of them (perplexity 18.5 instead of 18.0 for a model of 135 million parameters).
    """
    small = sum(file.stat().st_size for file in base.glob(f"*{SAFETENSORS}")) < MERGED_IN_FLOAT32_BELOW
    return "float32" if small else "auto"


def context_length(config: Any) -> int:
    """The context of a model with this configuration, in tokens."""
    for name in ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"):
        value = config.get(name) if isinstance(config, dict) else getattr(config, name, None)
        if isinstance(value, int) and value > 0:
            return value
    return 2048


def device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def measured_with(libraries: dict[str, str], dtype: Any = None) -> dict[str, str]:
    """What changes a figure besides the model and its rows: the measurement's side of a comparison."""
    import torch

    cuda = device() == "cuda"
    # The instruction set decides in which order sums are made.
    where = torch.cuda.get_device_name(0) if cuda else f"cpu {torch.backends.cpu.get_cpu_capability()}"
    found = {**libraries, "python": ".".join(platform.python_version_tuple()[:2]), "device": where}
    return found | ({"dtype": str(dtype).removeprefix("torch.")} if dtype is not None else {})


def seed_everything(seed: int) -> None:
    """Seeds Python, NumPy and torch, and selects torch's deterministic kernels where they exist."""
    import torch
    from transformers import set_seed

    set_seed(seed)
    torch.use_deterministic_algorithms(True, warn_only=True)
    if torch.cuda.is_available():
        torch.backends.cudnn.benchmark = False


def prepare_torch() -> None:
    """Sets OMP_NUM_THREADS threads (torch otherwise uses every core) and one device; disables transformers' bars."""
    import torch
    from transformers.utils import logging

    logging.disable_progress_bar()
    # One device: on several, Trainer would multiply the batch, and the result would depend on the machine.
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")

    given = os.environ.get("OMP_NUM_THREADS", "")
    if given.isdigit() and int(given) > 0:
        torch.set_num_threads(int(given))


def _first_line(error: Exception) -> str:
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return excerpt(first if len(first) > 10 else f"{type(error).__name__}: {first}")
