"""What programs import that is heavy, for a process that imports it once and forks for each program of a test."""

from llmops_assets.programs.runtime.entry import prepare_environment

prepare_environment()

import evaluate  # noqa: E402, F401
import gguf  # noqa: E402, F401
import peft  # noqa: E402, F401
import profanity_check  # noqa: E402, F401
import rouge_score.rouge_scorer  # noqa: E402, F401
import sacrebleu  # noqa: E402, F401
import torch  # noqa: E402, F401
import transformers.models.llama.modeling_llama  # noqa: E402, F401
from transformers import (  # noqa: E402, F401
    AutoModelForCausalLM,
    AutoTokenizer,
    GgufConfig,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
)
