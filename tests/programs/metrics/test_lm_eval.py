"""Tasks of lm-evaluation-harness against a plain softmax of the model's logits, and what a task may not do."""

import json
from pathlib import Path
from typing import Any

import pytest

from llmops_assets.delivery.row_evidence import _read
from llmops_assets.domain.evaluated_rows import of_comparison
from llmops_assets.programs.evaluation.metrics.base import Answer, Subject
from llmops_assets.programs.evaluation.rows import write_rows_file
from llmops_assets.programs.evaluation.scoring import check_metrics, score
from llmops_assets.programs.runtime.errors import BadInput
from llmops_assets.programs.runtime.specs import MetricSpec

pytest.importorskip("lm_eval", reason="pip install 'llmops-assets[lm-eval]'")
TASK = """\
task: sounds
dataset_path: json
output_type: multiple_choice
doc_to_text: "Q: {{ question }}\\nA:"
doc_to_choice: "{{ choices }}"
doc_to_target: "{{ answer }}"
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
metadata: {version: 1.0}
"""
CHOICES = ["cat", "dog", "owl", "猫"]
ROWS = [
    {"question": f"What says {i}?", "choices": CHOICES[i % 3 :] + CHOICES[: i % 3], "answer": i % 4} for i in range(24)
]
TEXTS = [Answer(prediction="x", reference=str(i % 2), row={"input": str(i), "output": "x"}) for i in range(4)]


def jsonl(rows: list[Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def spec(file: str = TASK, rows: str | None = None) -> MetricSpec:
    options = {"file": file, "rows": jsonl(ROWS) if rows is None else rows}
    return MetricSpec(name="sounds", metric="lm_eval", options=options)


@pytest.fixture(scope="module")
def subject(base: Path) -> Subject:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    return Subject(model=model, tokenizer=AutoTokenizer.from_pretrained(base), batch_size=4)


def most_likely(subject: Subject, prompt: str, choices: list[str]) -> int:
    import torch

    def tokens(text: str) -> list[int]:
        ids: list[int] = subject.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    found = []
    for choice in choices:
        first, ids = len(tokens(prompt)), tokens(f"{prompt} {choice}")
        with torch.inference_mode():
            logs = torch.log_softmax(subject.model(torch.tensor([ids])).logits[0].double(), -1)
        found.append(sum(logs[i - 1, ids[i]].item() for i in range(first, len(ids))))
    return max(range(len(choices)), key=found.__getitem__)


def test_a_tasks_accuracy_is_that_of_the_models_logits_with_an_interval_over_its_own_rows(
    subject: Subject, tmp_path: Path
) -> None:
    """Its rows are stored beside those of the test data, and two models are compared on them, paired."""
    asked = [spec(), MetricSpec(name="exact_match")]
    check_metrics(asked, rows=TEXTS)
    found = score(asked, TEXTS, subject=subject)
    task, exact = found.metrics
    expected = [
        float(most_likely(subject, f"Q: {row['question']}\nA:", row["choices"]) == row["answer"])  # type: ignore[arg-type]
        for row in ROWS
    ]
    assert [row.value for row in found.tasks["sounds"]] == expected and 0 < sum(expected) < len(ROWS)
    assert task.value == pytest.approx(sum(expected) / len(ROWS)) and exact.value == 0
    assert task.low is not None and task.low < task.value < (task.high or 0)
    write_rows_file(tmp_path, TEXTS, found)
    rows = _read(tmp_path, "0" * 64, found.metrics)
    assert len(rows.digests) == 4 and len(rows.of("sounds").digests) == 24 and rows.of("exact_match") is rows
    same = of_comparison(rows.of("sounds"), rows.of("sounds"), "sounds", True, lambda _: 0.2, 0.95)
    assert same is not None and same.outcome == "passed" and same.rows == 24


@pytest.mark.parametrize(
    ("task", "rows", "told"),
    [
        (TASK + "process_docs: !function utils.f\n", None, "line 9: not valid YAML: could not determine a constructor"),
        (TASK + "include: other.yaml\n", None, "include: not supported here (supported: output_type, doc_to_text"),
        (TASK.replace("acc,", "brier_score,"), None, "metric_list.0.metric: Input should be 'acc', 'acc_norm' or"),
        (TASK.replace("multiple_choice", "loglikelihood_rolling"), None, "output_type: Input should be 'multiple_choi"),
        ("- a\n", None, "it is no mapping"),
        ("", None, "it is no mapping"),
        (TASK, "", "it has no rows"),
        (TASK, "{}\n{\n", "line 2 of its rows: not valid JSON"),
        (TASK, "[]\n", "line 1 of its rows: not an object"),
    ],
)
def test_a_task_that_cannot_be_used_is_refused_before_the_model_is_loaded(
    task: str, rows: str | None, told: str
) -> None:
    with pytest.raises(BadInput) as refused:
        check_metrics([spec(task, rows)])
    assert refused.value.where == "sounds" and told in refused.value.message


@pytest.mark.parametrize(
    ("task", "rows", "told"),
    [
        (TASK.replace("question", "''.__class__.__mro__"), None, "SecurityError: access to attribute '__class__'"),
        (TASK.replace("question", "quesion"), None, "UndefinedError: 'quesion' is undefined"),
        (TASK, [*ROWS[:2], {**ROWS[2], "answer": 4}], "row 3: doc_to_target gives 4, which is none of its 4 choices"),
    ],
)
def test_a_template_reaches_nothing_and_a_wrong_row_is_not_counted_as_a_wrong_answer(
    subject: Subject, task: str, rows: list[Any] | None, told: str
) -> None:
    """lm-eval renders templates without a sandbox, and counts an answer that is none of the choices as a mistake."""
    with pytest.raises(BadInput) as refused:
        score([spec(task, None if rows is None else jsonl(rows))], TEXTS, subject=subject)
    assert told in refused.value.message
