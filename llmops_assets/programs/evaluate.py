"""python -m llmops_assets.programs.evaluate --spec SPEC.json --output DIR

Measures a checkpoint on held-out rows: the likelihood of the references, and the quality of its greedy answers.
Measuring the served model belongs in `programs.served_evaluate`, judging the metrics in `domain.gate`.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from llmops_assets.catalog import TRAINING_METHODS
from llmops_assets.domain.keys import short
from llmops_assets.domain.records import Sample
from llmops_assets.programs.data.encoding import Encoder
from llmops_assets.programs.data.rows import Row, load_split, question, reference
from llmops_assets.programs.evaluation.metrics.base import Answer, Subject
from llmops_assets.programs.evaluation.report import write_report
from llmops_assets.programs.models.loading import (
    context_length,
    device,
    load_tokenizer,
    measured_with,
    merge_dtype,
    prepare_torch,
    read_config,
    seed_everything,
    versions,
)
from llmops_assets.programs.models.stop_tokens import configured_stops
from llmops_assets.programs.models.tokenizer_digest import tokenizer_digest
from llmops_assets.programs.runtime.entry import ProgramRun, run
from llmops_assets.programs.runtime.errors import BadInput
from llmops_assets.programs.runtime.specs import CodeRules, EvaluateResult, EvaluateSpec, MetricSpec
from llmops_assets.programs.training.methods.interface import TrainingMethod


def evaluate_checkpoint(spec: EvaluateSpec, job: ProgramRun) -> EvaluateResult:
    """The whole program.

    Raises:
        BadInput: the model, the rows or a metric cannot be used.
    """
    from llmops_assets.programs.evaluation.inference import answers, likelihoods
    from llmops_assets.programs.evaluation.rows import write_rows_file
    from llmops_assets.programs.evaluation.scoring import (
        check_metrics,
        libraries_of,
        measure_tasks,
        reads_likelihoods,
        score,
    )

    prepare_torch()
    base, checkpoint = Path(spec.base), Path(spec.checkpoint)
    tested = load_test(Path(spec.data), spec.max_rows)
    rows = [*tested, *load_must_pass(Path(spec.data))]
    check_metrics(spec.metrics, spec.code, questions(rows))
    encoder = Encoder(load_tokenizer(checkpoint), spec.prompt, stops=configured_stops(checkpoint))
    encoded = [encoder.row(row, last_only=True) for row in rows]
    refuse_too_long([len(e.ids) for e in encoded], context_length(read_config(base)), tested=len(tested))
    seed_everything(0)
    job.progress("load", f"{spec.method} checkpoint")
    method: TrainingMethod = TRAINING_METHODS[spec.method].load()()
    model = method.load(base, checkpoint, merge_dtype(base))
    model.to(device())
    pad = encoder.tokenizer.pad_token_id
    wanted = reads_likelihoods(spec.metrics)
    scored = likelihoods(model, encoded, pad, job, "likelihood", spec.batch_size) if wanted else []
    began = time.monotonic()
    prompts = [encoder.prompt_ids(row) for row in rows]
    predictions, cut, generated = answers(
        model, encoder.tokenizer, encoder.stops, prompts, job, spec.max_new_tokens, spec.batch_size
    )
    tokens_per_s = generated / max(time.monotonic() - began, 1e-9)
    job.progress("score", ", ".join(m.name for m in spec.metrics))
    evaluated = evaluated_answers(rows, predictions, scored, cut)
    evaluated, kept = evaluated[: len(tested)], evaluated[len(tested) :]
    subject = Subject(model=model, tokenizer=encoder.tokenizer, batch_size=spec.batch_size)
    found = score(spec.metrics, evaluated, spec.code, measure_tasks(spec.metrics, subject))
    artifact = job.new_artifact()
    write_rows_file(artifact, evaluated, found)
    write_must_pass(artifact, kept, spec.metrics, spec.code)
    write_report(
        artifact,
        spec.title,
        f"The checkpoint ({spec.method}) before quantization",
        found.metrics,
        samples(evaluated, found.rows),
        {
            "Speed of evaluation": f"{tokens_per_s:,.0f} tokens/s, not that of the served model",
            "Length of an answer": f"at most {spec.max_new_tokens} tokens",
            "Cut answers": cut_answers(evaluated),
            "Tokenizer": tokenizer_line(tokenizer_digest(encoder.tokenizer)),
            **found.facts,
        },
    )
    libraries = versions(*libraries_of(spec.metrics))
    return EvaluateResult(
        metrics=found.metrics,
        rows=len(evaluated),
        cut=sum(answer.cut for answer in evaluated),
        tokens_per_s=tokens_per_s,
        libraries=libraries,
        measured_with=measured_with(libraries, model.dtype) | dict(found.measured_with),
        refused=dict(found.refused),
        tokenizer=tokenizer_digest(encoder.tokenizer),
    )


def tokenizer_line(digest: str) -> str:
    return f"{short(digest)}; perplexity is comparable between models of one tokenizer only, bits_per_byte between all"


def load_test(data: Path, most: int | None) -> list[Row]:
    """The test rows, at most the first `most`, so that metrics of two models are of the same rows.

    Raises:
        BadInput: there are no rows.
    """
    rows = load_split(data, "test")[:most]
    if not rows:
        raise BadInput("it has no rows, so nothing can be measured", "test.jsonl")
    return rows


def load_must_pass(data: Path) -> list[Row]:
    """The rows that each must pass; empty if the project has none."""
    return load_split(data, "must_pass") if (data / "must_pass.jsonl").is_file() else []


def write_must_pass(folder: Path, answers: Sequence[Answer], metrics: Sequence[MetricSpec], code: CodeRules) -> None:
    """Writes the answers to the must-pass rows, with the metrics' values per row; nothing if there are none."""
    from llmops_assets.programs.evaluation.rows import MUST_PASS, write_rows_file
    from llmops_assets.programs.evaluation.scoring import score

    if answers:
        write_rows_file(folder, answers, score(metrics, answers, code), MUST_PASS)


def refuse_too_long(
    lengths: list[int], context: int, whose: str = "the model's context", tested: int | None = None
) -> None:
    """Refuses rows longer than the context: truncated, they would be measured wrongly without any sign of it.

    Args:
        tested: how many of them are test rows; the others are must-pass rows. None: all.

    Raises:
        BadInput: a row is too long; names the first.
    """
    for number, length in enumerate(lengths, start=1):
        if length > context:
            kept = tested is not None and number > tested
            where = f"must_pass.jsonl, row {number - (tested or 0)}" if kept else f"test.jsonl, row {number}"
            raise BadInput(
                f"with the prompt it has {length} tokens, {whose} is {context}; shorten the row or drop it", where
            )


def questions(rows: Sequence[Row]) -> list[Answer]:
    """What metrics may check of each row before any answer exists."""
    return [Answer(prediction="", reference=reference(row), row=row) for row in rows]


def evaluated_answers(
    rows: Sequence[Row],
    predictions: Sequence[str],
    likelihoods: Sequence[tuple[float, int]],
    cut: Sequence[bool],
) -> list[Answer]:
    """What metrics read of each row.

    Args:
        likelihoods: of `inference.likelihoods`; empty if no metric reads them.
        cut: whether each prediction ended because of its length limit.
    """
    measured: Sequence[tuple[float | None, int]] = likelihoods or [(None, 0)] * len(rows)
    return [
        Answer(prediction=prediction, reference=reference(row), row=row, nll=nll, tokens=tokens, cut=ended)
        for row, prediction, (nll, tokens), ended in zip(rows, predictions, measured, cut, strict=True)
    ]


def cut_answers(answers: Sequence[Answer]) -> str:
    """How many answers reached the length limit, for the report: metrics judge what a user would see cut off."""
    cut = sum(answer.cut for answer in answers)
    return f"{cut} of {len(answers)} ({cut / len(answers):.0%}) reached the limit without an end"


def samples(answers: Sequence[Answer], scores: Sequence[Mapping[str, float | None]]) -> list[Sample]:
    return [
        Sample(
            input=question(dict(answer.row)),
            reference=answer.reference,
            prediction=answer.prediction,
            scores={name: value for name, value in figures.items() if value is not None},
        )
        for answer, figures in zip(answers, scores, strict=True)
    ]


if __name__ == "__main__":
    run("evaluate", EvaluateSpec, evaluate_checkpoint)
