"""Rows that each must pass, in llmops.yaml."""

import re

import pytest

from tests.config.mistakes import GOOD, problems


@pytest.mark.parametrize(
    ("kept", "problem"),
    [
        ("{file: data/kept.jsonl}", "needs either `answer: exact` (or contains), or a `metric`"),
        ("{file: data/kept.jsonl, answer: exact, metric: rougeL, at_least: 1}", "needs either"),
        ("{file: data/kept.jsonl, metric: rougeL}", "`metric` needs one of them"),
        ("{file: data/kept.jsonl, answer: exact, at_least: 1}", "at_least and at_most need `metric`"),
        (
            "{file: data/kept.jsonl, metric: bleu, at_least: 1}",
            "'bleu' is not in evaluation.metrics (perplexity",
        ),
        ("{answer: exact}", "file"),
        ("{file: ../kept.jsonl, answer: exact}", "must be a path within the project"),
        ("{file: data/kept.jsonl, answer: equal}", "answer"),
    ],
)
def test_a_rule_for_must_pass_rows_that_means_nothing_is_one_error_at_its_line(kept: str, problem: str) -> None:
    (found,) = problems(f"{GOOD}evaluation:\n  must_pass: {kept}\n")
    assert problem in found and re.match(r"llmops.yaml:[78]: ", found) and "must_pass" in found, found
