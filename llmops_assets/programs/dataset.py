"""python -m llmops_assets.programs.dataset --spec SPEC.json --output DIR

Reads a project's rows, splits off validation rows, checks all rows, and writes them canonically. An unreadable file
ends the program; readable rows that are unsuitable for training fail a check. Reading belongs in `programs.data.rows`,
fetching the files in the stage.
"""

import hashlib
import unicodedata
from collections import Counter
from pathlib import Path

from llmops_assets.domain.percentiles import percentile
from llmops_assets.domain.records import Check, Split
from llmops_assets.programs.data.lengths import measure_lengths
from llmops_assets.programs.data.rows import (
    Row,
    canonical,
    digest_of,
    messages_of,
    read_placed,
    reference,
    write_places,
    write_rows,
)
from llmops_assets.programs.runtime.entry import ProgramRun, run
from llmops_assets.programs.runtime.errors import BadInput
from llmops_assets.programs.runtime.specs import DatasetResult, DatasetSpec

Splits = dict[str, list[Row]]
MUST_PASS = "must_pass.jsonl"
"""In the artifact, if the project has such rows."""


def make_dataset(spec: DatasetSpec, job: ProgramRun) -> DatasetResult:
    """The whole program.

    Raises:
        BadInput: a file is missing or malformed, or a split is empty.
    """
    places: dict[int, str] = {}
    splits, kept = _read(spec, job, places), _read_must_pass(spec, job)
    names = {"validation": f"validation (a share of {spec.names.get('train', 'train')})", **spec.names}
    held = {**splits, "must_pass": kept} if kept else splits
    lengths_check, lengths = _lengths(held, names, spec.tokenizer)
    leaked = _leaked(splits, "test")
    duplicates = _duplicates(splits["train"])
    checks = [
        Check(name="schema", passed=True, summary=", ".join(f"{len(r)} {s} rows" for s, r in splits.items())),
        _empty_fields(held, names),
        _listed("duplicates", duplicates, "rows of train occur more than once", "warn"),
        _listed("leakage", leaked, "test inputs occur in train or validation", "error"),
    ]
    if kept:
        what = "inputs of must-pass rows occur in train or validation"
        checks.append(_listed("must_pass_leakage", _leaked(held, "must_pass"), what, "error"))
    if lengths_check is not None:
        checks.append(lengths_check)
    artifact = job.new_artifact()
    for split, rows in splits.items():
        write_rows(artifact / f"{split}.jsonl", rows)
    if kept:
        write_rows(artifact / MUST_PASS, kept)
    write_places(artifact, {split: [places[id(row)] for row in rows] for split, rows in splits.items()})
    statistics = {
        **{f"rows_{split}": float(len(rows)) for split, rows in splits.items()},
        **_characters(splits),
        **lengths,
        "duplicates": float(len(duplicates)),
        "leaked": float(len(leaked)),
    }
    done = {split: Split(rows=len(rows), digest=digest_of(rows)) for split, rows in splits.items()}
    digests = tuple(digest_of([row])[:16] for row in kept)
    return DatasetResult(**done, must_pass=digests, checks=tuple(checks), statistics=statistics)


def _read(spec: DatasetSpec, job: ProgramRun, places: dict[int, str]) -> Splits:
    """The rows of each split. Adds to `places` where each came from, by its identity, since equal rows can occur."""

    def read(path: str | None, split: str) -> list[Row]:
        if path is None:
            return []
        job.progress("read", spec.names.get(split, path))
        placed = list(read_placed(Path(path), spec.names.get(split, Path(path).name)))
        places.update((id(row), place) for place, row in placed)
        return [row for _, row in placed]

    test, train, validation = read(spec.test, "test"), read(spec.train, "train"), read(spec.validation, "validation")
    if not test:
        raise BadInput("it has no rows, so nothing could be measured; add held-out rows", spec.names.get("test", ""))
    if spec.train is not None:
        name = spec.names.get("train", "train")
        if not train:
            raise BadInput("it has no rows; add training rows, or set training.method: none", name)
        if spec.validation is None:
            train, validation = split_off(train, spec.validation_share, spec.seed, name)
    return {"train": train, "validation": validation, "test": test}


def _read_must_pass(spec: DatasetSpec, job: ProgramRun) -> list[Row]:
    if spec.must_pass is None:
        return []
    name = spec.names.get("must_pass", "must_pass")
    job.progress("read", name)
    rows = [row for _, row in read_placed(Path(spec.must_pass), name)]
    if not rows:
        raise BadInput("it has no rows; add one with `llmops must-pass`, or remove evaluation.must_pass", name)
    return rows


def split_off(rows: list[Row], share: float, seed: int, name: str) -> tuple[list[Row], list[Row]]:
    """Training and validation rows. A row's question and the seed alone decide its split, so rows that are added later
    move no other row, and two answers to one question stay together.

    Raises:
        BadInput: all rows have the same question.
    """
    places = [_place(row, seed) for row in rows]
    bound = max(share, min(places) + 2**-53)
    train = [r for r, place in zip(rows, places, strict=True) if place >= bound]
    validation = [r for r, place in zip(rows, places, strict=True) if place < bound]
    if not train:
        raise BadInput("no training row is left after the validation split; add rows, or name data.validation", name)
    return train, validation


def _place(row: Row, seed: int) -> float:
    digest = hashlib.sha256(f"{seed}:{_asked(row)}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def _asked(row: Row) -> str:
    """Everything before the answer, with white space, case and Unicode form normalized."""
    text = "\n".join(m["content"] for m in messages_of(row)[:-1])
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


def _empty_fields(splits: Splits, names: dict[str, str]) -> Check:
    empty = [
        f"{names.get(split, split)}, row {number}"
        for split, rows in splits.items()
        for number, row in enumerate(rows, start=1)
        if not _asked(row) or not reference(row).strip()
    ]
    return _listed("empty_fields", empty, "rows have an empty input or output", "error")


def _duplicates(rows: list[Row]) -> list[str]:
    counts = Counter(canonical(row) for row in rows)
    return [f"{n} times: {text[:120]}" for text, n in counts.items() if n > 1]


def _leaked(splits: Splits, held_out: str) -> list[str]:
    seen = {_asked(row) for split in ("train", "validation") for row in splits[split]}
    return [
        f"row {number}: {messages_of(row)[-2]['content'][:120]!r}" if len(messages_of(row)) > 1 else f"row {number}"
        for number, row in enumerate(splits[held_out], start=1)
        if _asked(row) in seen
    ]


def _listed(name: str, found: list[str], what: str, severity: str) -> Check:
    summary = f"{len(found) or 'no'} {what}"
    detail = "\n".join(found[:20]) + (f"\nand {len(found) - 20} more" if len(found) > 20 else "")
    return Check.model_validate(
        {"name": name, "passed": not found, "summary": summary, "detail": detail, "severity": severity}
    )


def _lengths(splits: Splits, names: dict[str, str], base: str | None) -> tuple[Check | None, dict[str, float]]:
    if base is None:
        return None, {}
    places = [f"{names.get(s, s)}, row {n + 1}" for s, rows in splits.items() for n in range(len(rows))]
    lengths, context = measure_lengths([row for rows in splits.values() for row in rows], Path(base))
    long = [f"{place}: {n} tokens" for place, n in zip(places, lengths, strict=True) if n > context]
    figures = {f"tokens_p{p}": float(percentile(lengths, p / 100)) for p in (50, 95)} | {
        "tokens_max": float(max(lengths))
    }
    check = _listed("lengths", long, f"rows are longer than the model's context of {context} tokens", "error")
    return check, figures


def _characters(splits: Splits) -> dict[str, float]:
    rows = [row for split in splits.values() for row in split]
    asked = sum(sum(len(m["content"]) for m in messages_of(row)[:-1]) for row in rows)
    return {
        "mean_input_characters": asked / len(rows),
        "mean_output_characters": sum(len(reference(row)) for row in rows) / len(rows),
    }


if __name__ == "__main__":
    run("dataset", DatasetSpec, make_dataset)
