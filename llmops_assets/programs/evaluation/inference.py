"""Inference with a loaded model: likelihoods of given answers, and greedy answers.

Scoring the answers belongs in `programs.evaluation.scoring`, requests to a serving engine in `programs.engines`.
"""

import time
from collections.abc import Iterator, Sequence
from typing import Any

from llmops_assets.programs.data.encoding import IGNORED, Encoded
from llmops_assets.programs.runtime.entry import ProgramRun

TOKENS_AT_ONCE = 8192  # of a batch, padding included: limits the memory for rows of any length


def _batches(lengths: Sequence[int], most: int) -> Iterator[list[int]]:
    """Indices of rows of similar length, longest first: a batch that does not fit into memory fails at once."""
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    start = 0
    while start < len(order):
        size = max(1, min(most, TOKENS_AT_ONCE // max(lengths[order[start]], 1)))
        yield order[start : start + size]
        start += size


def _left_padded(rows: list[list[int]], pad: int, device: Any) -> dict[str, Any]:
    import torch

    longest = max(len(r) for r in rows)
    ids = torch.tensor([[pad] * (longest - len(r)) + r for r in rows], device=device)
    mask = torch.tensor([[0] * (longest - len(r)) + [1] * len(r) for r in rows], device=device)
    return {"input_ids": ids, "attention_mask": mask}


def likelihoods(
    model: Any, rows: list[Encoded], pad: int, job: ProgramRun, phase: str, batch_size: int = 16
) -> list[tuple[float, int]]:
    """For each row the negative log-likelihood of its learned tokens (nats, summed) and their number.

    Rows are padded on the left, so that all answers end at the same position and only the last positions need logits:
    with a vocabulary of 49,152 tokens these are by far the largest tensor.
    """
    import torch

    model.eval()
    place = next(model.parameters()).device
    scores = [(0.0, 0)] * len(rows)
    done = 0
    began = time.monotonic()
    for batch in _batches([len(r.ids) for r in rows], batch_size):
        inputs = _left_padded([rows[i].ids for i in batch], pad, place)
        labels = _left_padded([rows[i].labels for i in batch], IGNORED, place)["input_ids"]
        positions = (inputs["attention_mask"].cumsum(-1) - 1).clamp(min=0)
        keep = max(len(rows[i].ids) - rows[i].first_learned for i in batch) + 1
        with torch.inference_mode():
            logits = model(**inputs, position_ids=positions, use_cache=False, logits_to_keep=keep).logits
            targets = labels[:, -logits.shape[1] + 1 :]
            nll = torch.nn.functional.cross_entropy(
                logits[:, :-1].float().transpose(1, 2), targets, ignore_index=IGNORED, reduction="none"
            ).sum(-1)
        for i, value in zip(batch, nll.tolist(), strict=True):
            scores[i] = (value, rows[i].learned)
        done += len(batch)
        eta = (time.monotonic() - began) / done * (len(rows) - done)
        job.progress(phase, every_s=0.0 if done == len(rows) else 1.0, step=done, total=len(rows), eta_s=eta)
    return scores


def answers(
    model: Any,
    tokenizer: Any,
    stops: Sequence[int],
    prompts: list[list[int]],
    job: ProgramRun,
    max_new_tokens: int,
    batch_size: int = 16,
) -> tuple[list[str], list[bool], int]:
    """Greedy answers to tokenized prompts, each up to the first stop token.

    Returns:
        The texts; whether each is cut, because it reached `max_new_tokens` without a stop token; and how many tokens
        were generated.
    """
    import torch

    model.eval()
    place = next(model.parameters()).device
    texts = [""] * len(prompts)
    cut = [False] * len(prompts)
    generated = done = 0
    began = time.monotonic()
    for batch in _batches([len(p) + max_new_tokens for p in prompts], batch_size):
        inputs = _left_padded([prompts[i] for i in batch], tokenizer.pad_token_id, place)
        with torch.inference_mode():
            output = model.generate(
                **inputs,
                do_sample=False,
                num_beams=1,
                temperature=None,
                top_p=None,
                top_k=None,
                repetition_penalty=1.0,
                max_new_tokens=max_new_tokens,
                pad_token_id=tokenizer.pad_token_id,
                eos_token_id=list(stops),
            )
        for i, ids in zip(batch, output[:, inputs["input_ids"].shape[1] :].tolist(), strict=True):
            end = next((n for n, token in enumerate(ids) if token in stops), len(ids))
            cut[i] = end == len(ids)
            generated += min(end + 1, len(ids))
            texts[i] = tokenizer.decode(ids[:end], skip_special_tokens=True).strip()
        done += len(batch)
        elapsed = max(time.monotonic() - began, 1e-9)
        job.progress(
            "generate",
            every_s=0.0 if done == len(prompts) else 1.0,
            step=done,
            total=len(prompts),
            tokens_per_s=generated / elapsed,
            eta_s=elapsed / done * (len(prompts) - done),
        )
    return texts, cut, generated
