"""Measures a running engine: its answers to rows, and the likelihood of given answers.

Starting the engine belongs in `programs.engines.running`, speed in `programs.evaluation.load_test`.
"""

import time
from collections.abc import Sequence

from llmops_assets.programs.data.encoding import Encoded
from llmops_assets.programs.data.rows import Row, messages_of
from llmops_assets.programs.engines.interface import Completion, EngineClient
from llmops_assets.programs.runtime.entry import ProgramRun


def ask_all(engine: EngineClient, rows: Sequence[Row], longest: int, job: ProgramRun) -> list[Completion]:
    """The engine's answers with its sampling defaults, of at most `longest` tokens.

    One request at a time: with eight clients and the prompt cache 5 of 40 answers differed between two runs of one
    model, and BLEU was 6.7 and 8.0; with one client and no cache none did.
    """
    began = time.monotonic()
    answers: list[Completion] = []
    for row in rows:
        answers.append(engine.answer(messages_of(row)[:-1], longest))
        elapsed = time.monotonic() - began
        job.progress(
            "generate",
            every_s=0.0 if len(answers) == len(rows) else 1.0,
            step=len(answers),
            total=len(rows),
            tokens_per_s=sum(answer.tokens for answer in answers) / max(elapsed, 1e-9),
            eta_s=elapsed / len(answers) * (len(rows) - len(answers)),
        )
    return answers


def likelihoods(engine: EngineClient, rows: Sequence[Encoded], job: ProgramRun) -> list[tuple[float, int]]:
    """For each row the negative log-likelihood of its learned tokens (nats, summed) and their number.

    Of the weights, kernels and precision that serve. `programs.evaluation.inference` does the same with torch.
    """
    began = time.monotonic()
    scores: list[tuple[float, int]] = []
    for row in rows:
        first, end = row.first_learned, row.first_learned + row.learned  # one turn: its tokens are contiguous
        scores.append((engine.likelihood(row.ids[:first], row.ids[first:end]).nll, row.learned))
        job.progress(
            "likelihood",
            every_s=0.0 if len(scores) == len(rows) else 1.0,
            step=len(scores),
            total=len(rows),
            eta_s=(time.monotonic() - began) / len(scores) * (len(rows) - len(scores)),
        )
    return scores
