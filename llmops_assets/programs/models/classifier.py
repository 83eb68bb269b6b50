"""A sequence classifier in a project's folder: the probability of one of its labels for each text.

Uses no network and none of the model's own code. Language models belong in `programs.models.loading`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llmops_assets.programs.models.loading import check_weights, context_length, device, read_config
from llmops_assets.programs.runtime.errors import BadInput

AT_ONCE = 32
WHAT = "the classifier"


class Classifier:
    """Loads the model.

    Args:
        folder: config.json, safetensors and tokenizer of a transformers sequence classifier.
        label: one of the labels in its config.json.

    Raises:
        BadInput: the folder is missing, unsafe or broken, or the model has no such label.
    """

    def __init__(self, folder: Path, label: str):
        from safetensors import SafetensorError
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        config = read_config(folder, WHAT, "evaluation.metrics")
        check_weights(folder, WHAT)
        safe = {"trust_remote_code": False, "local_files_only": True}
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, **safe)
            model, told = AutoModelForSequenceClassification.from_pretrained(
                folder, use_safetensors=True, output_loading_info=True, **safe
            )
        except (OSError, ValueError, TypeError, LookupError, AttributeError, RuntimeError, SafetensorError) as error:
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise BadInput(f"{WHAT} cannot be loaded: {first}", str(folder)) from error
        if lacking := sorted(told["missing_keys"]):
            # transformers would give them random values, and the metric would be noise.
            raise BadInput(f"{WHAT} has no weights for {', '.join(lacking[:3])}; it is no classifier", str(folder))
        labels = {str(name): int(number) for number, name in model.config.id2label.items()}
        if label not in labels:
            raise BadInput(f"{WHAT} has no label {label!r} (it has: {', '.join(labels)})", str(folder))
        self._model, self._tokenizer, self._label = model.to(device()).eval(), tokenizer, labels[label]
        self._longest = min(int(tokenizer.model_max_length), context_length(config))

    def probabilities(self, texts: Sequence[str]) -> list[float]:
        """The label's probability for each text; of a text longer than the model reads, that of its worst part."""
        import torch

        parts = self._tokenizer(list(texts), truncation=True, max_length=self._longest, return_overflowing_tokens=True)
        of, worst = parts.pop("overflow_to_sample_mapping"), [0.0] * len(texts)
        for start in range(0, len(of), AT_ONCE):
            batch = {name: values[start : start + AT_ONCE] for name, values in parts.items()}
            encoded = self._tokenizer.pad(batch, return_tensors="pt").to(self._model.device)
            with torch.inference_mode():
                found = self._probabilities(self._model(**encoded).logits.float())[:, self._label].tolist()
            for i, value in zip(of[start : start + AT_ONCE], found, strict=True):
                worst[i] = max(worst[i], value)
        return worst

    def _probabilities(self, logits: Any) -> Any:
        """As transformers' text-classification pipeline: independent labels by sigmoid, exclusive ones by softmax."""
        independent = self._model.config.problem_type == "multi_label_classification" or logits.shape[1] == 1
        return logits.sigmoid() if independent else logits.softmax(-1)
