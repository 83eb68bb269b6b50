"""One failing must-pass row fails the verdict; dropping one is a loosening."""

from typing import Any

import pytest

from llmops_assets.domain.must_pass import (
    NAMED,
    AnsweredRow,
    MustPassPolicy,
    MustPassRule,
    dropped_rows,
    judge_rows,
    loosened_must_pass,
)


def policy(**rule: Any) -> MustPassPolicy:
    return MustPassPolicy(rule=MustPassRule(**rule), file="data/kept.jsonl", version="v1")


def row(prediction: str, number: int = 1, reference: str = "Paris", **scores: float | None) -> AnsweredRow:
    return AnsweredRow(
        row=number, digest=str(number), input="Capital?", reference=reference, prediction=prediction, scores=scores
    )


@pytest.mark.parametrize(
    ("rule", "answer", "passes"),
    [
        ({"answer": "exact"}, row(" Paris\n"), True),
        ({"answer": "exact"}, row("Paris."), False),
        ({"answer": "contains"}, row("It is Paris."), True),
        ({"answer": "contains"}, row("It is Rome."), False),
        ({"answer": "contains"}, row("anything", reference=" "), False),
        ({"metric": "m", "at_least": 0.5}, row("", m=0.5), True),
        ({"metric": "m", "at_least": 0.5}, row("", m=0.4), False),
        ({"metric": "m", "at_most": 0.5}, row("", m=0.6), False),
        ({"metric": "m", "at_most": 0.5}, row("", m=None), False),
        ({"metric": "m", "at_most": 0.5}, row("", other=0.1), False),
        ({"metric": "m", "at_most": 0.5}, row("", m=float("nan")), False),
    ],
)
def test_a_row_passes_by_its_rule_and_without_evidence_it_fails(
    rule: dict[str, Any], answer: AnsweredRow, passes: bool
) -> None:
    failures, reasons = judge_rows(policy(**rule), [answer])
    assert (not failures, bool(reasons)) == (passes, passes)


@pytest.mark.parametrize("rows", [None, []])
def test_a_report_without_answers_to_them_fails(rows: Any) -> None:
    (failure,) = judge_rows(policy(answer="exact"), rows)[0]
    assert failure == "must-pass rows of data/kept.jsonl: the report has no answers to them"


def test_a_failing_row_is_named_with_both_answers_and_many_are_bounded() -> None:
    (failure,), _ = judge_rows(policy(answer="exact"), [row("Rome"), row("Paris", 2)], [row("Paris")])
    assert failure == (
        "must-pass row 1 of data/kept.jsonl: the answer is not the expected one; asked 'Capital?', answered 'Rome', "
        "expected 'Paris'; the champion answered 'Paris'"
    )
    many, _ = judge_rows(policy(answer="exact"), [row("x" * 10_000, n) for n in range(1, 500)])
    assert len(many) == NAMED + 1 and sum(map(len, many)) < 5_000 and "(499 of 499)" in many[-1]


def test_what_asks_for_less_is_a_loosening_and_what_asks_for_more_is_none() -> None:
    before = policy(metric="m", at_least=0.5)
    for after, text in [
        (None, "must-pass rows dropped: all of data/kept.jsonl"),
        (policy(metric="m", at_least=0.4), "must-pass rule weakened: m at least 0.5 → m at least 0.4"),
        (policy(metric="m", at_most=0.5), "must-pass rule weakened: m at least 0.5 → m at most 0.5"),
        (policy(answer="contains"), "must-pass rule changed: m at least 0.5 → answer contains"),
    ]:
        assert list(loosened_must_pass(before, after)) == [text]
    assert list(loosened_must_pass(before, policy(metric="m", at_least=0.6))) == []
    assert list(loosened_must_pass(policy(answer="contains"), policy(answer="exact"))) == []
    assert list(loosened_must_pass(policy(answer="exact"), policy(answer="contains"))) != []
    assert list(loosened_must_pass(None, before)) == []
    assert list(dropped_rows(["a", "b"], ["c", "b"])) == ["must-pass rows dropped or changed: 1 of 2"]
    assert list(dropped_rows(["a"], ["a", "b"])) == []
