"""Tasks of lm-evaluation-harness against a plain softmax of the model's logits, and what a task may not do."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmops_assets.delivery.row_evidence import _read
from llmops_assets.domain.evaluated_rows import of_comparison
from llmops_assets.domain.formatting import figure
from llmops_assets.domain.gate import judge
from llmops_assets.domain.gate_inputs import Champion, Judged
from llmops_assets.domain.gate_power import expected
from llmops_assets.domain.gate_rule import Gate
from llmops_assets.domain.records import Metric
from llmops_assets.programs.engines.interface import EngineClient
from llmops_assets.programs.engines.running import running_engine
from llmops_assets.programs.evaluation.lm_task import on_engine, on_model
from llmops_assets.programs.evaluation.metrics.base import Answer, Subject
from llmops_assets.programs.evaluation.rows import write_rows_file
from llmops_assets.programs.evaluation.scoring import check_metrics, measure_tasks, score
from llmops_assets.programs.runtime.errors import BadInput
from llmops_assets.programs.runtime.specs import MetricSpec, ServeSpec
from tests.programs.conftest import Ended, run_program
from tests.support.extras import needs
from tests.support.records import measured

pytestmark = needs("lm_eval", "lm-eval")
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
def subject(tiny: Path) -> Subject:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32).eval()
    return Subject(model=model, tokenizer=AutoTokenizer.from_pretrained(tiny), batch_size=4)


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
    found = score(asked, TEXTS, tasks=measure_tasks(asked, subject))
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


def test_a_gate_per_column_judges_slices_of_the_tasks_own_rows(subject: Subject, tmp_path: Path) -> None:
    """It failed always: the column was looked for in the test rows, which have no statistics of the task."""
    kinds = ["farm"] * 22 + ["zoo"] * 23 + ["sea"] * 3
    many = [{**ROWS[n % 24], "question": f"What says {n}?", "kind": kind} for n, kind in enumerate(kinds)]
    asked = [spec(rows=jsonl(many))]
    found = score(asked, TEXTS, tasks=measure_tasks(asked, subject))
    write_rows_file(tmp_path, TEXTS, found)
    rows = _read(tmp_path, "1" * 64, found.metrics)
    report = measured(metrics=found.metrics)
    other = Champion(release="f" * 64, report=report, rows=rows)
    evidence = Judged(report=report, rows=rows, champion=other)
    gate = Gate(metric="sounds", per="kind", at_least=0, no_worse_than="champion", margin=0.3)
    said = judge("it", [gate], "checkpoint", evidence)
    assert said.passed and len(said.reasons) == 4 and "(95%, 22 rows)" in said.text and "(95%, 23 rows)" in said.text
    farm = sum(row.value for row in found.tasks["sounds"][:22]) / 22
    assert f"sounds where kind is farm {figure(farm)}, minimum 0" in said.reasons
    assert said.skipped == ("sounds per kind: not judged, fewer than 20 rows: sea (3 rows)",)
    wrong = judge("it", [gate.model_copy(update={"per": "colour"})], "checkpoint", evidence)
    assert wrong.failures == ("sounds per colour: none of the rows of sounds has the column colour",)
    powers = list(expected(gate, found.metrics[0], rows.of("sounds"), rows.of("sounds")))
    assert [power.rows for power in powers] == [22, 23]


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
        measure_tasks([spec(task, None if rows is None else jsonl(rows))], subject)
    assert told in refused.value.message


def test_a_row_that_is_longer_than_the_models_context_is_refused_and_not_cut_silently(subject: Subject) -> None:
    many = [*ROWS[:2], {**ROWS[2], "question": "very " * subject.model.config.max_position_embeddings}]
    with pytest.raises(
        BadInput, match=r"a row has \d+ tokens with its prompt and answer, the model's context is \d+; sh"
    ):
        measure_tasks([spec(rows=jsonl(many))], subject)


# -- the served model --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def engine(tiny_f16: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineClient]:
    """The same weights in float16, with sampling defaults that would change every answer."""
    serve = ServeSpec(
        model=str(tiny_f16), alias="m", port=0, chat_template="{{ messages[0].content }}",
        serving={"parallel": 2, "context_length": 256, "threads": 1},
        sampling={"temperature": 1.5, "repetition_penalty": 10.0, "stop": ["a", "e"], "max_tokens": 1},
    )  # fmt: skip
    with running_engine(serve, tmp_path_factory.mktemp("engine")) as client:
        yield client


def test_an_engine_answers_a_task_as_the_model_of_the_same_weights_does(subject: Subject, engine: EngineClient) -> None:
    """Forgetting was gated before quantization only: what users are served was not asked."""
    from lm_eval.api.instance import Instance

    def asked(kind: Any, *arguments: Any) -> list[Any]:
        return [Instance(request_type=kind, doc={}, arguments=a, idx=0) for a in arguments]

    model, served = on_model(subject.model, subject.tokenizer, 4), on_engine(engine, subject.tokenizer)
    ids = subject.tokenizer("Q: What says 1?\nA:")["input_ids"]
    likely = engine.continuation(ids, 2, [])
    pairs = asked("loglikelihood", ("Q: What says 1?\nA:", " cat"), ("Q: ", "猫 and so on"), ("", "owl"),
                  ("Q: What says 1?\nA:", likely))  # fmt: skip
    one, two = model.loglikelihood(pairs), served.loglikelihood(pairs)
    assert [v for v, _ in two] == pytest.approx([v for v, _ in one], rel=5e-3)
    assert [greedy for _, greedy in two] == [greedy for _, greedy in one] == [False, False, False, True]
    kwargs = {"until": ["\n\n"], "do_sample": False, "max_gen_toks": 4}
    texts = asked("generate_until", ("Q: What says 1?\nA:", kwargs), ("Once", {**kwargs, "max_gen_toks": 2}))
    assert served.generate_until(texts) == model.generate_until(texts) and served.generate_until(texts)[0]


def test_the_served_evaluation_measures_the_task_with_its_noise_and_the_report_says_so(
    gguf: Path, trained: Ended, data: Path, tmp_path: Path
) -> None:
    template = trained.result["chat_template"]
    # Of a token that ends within a character, as two of 猫 do, the engine is asked for its whole vocabulary: 0.2 CPU s.
    few = [row if n < 2 else {**row, "choices": [*CHOICES[:3], "hen"]} for n, row in enumerate(ROWS)]
    long = {**ROWS[0], "question": "word " * 100}  # longer than the context of the release
    metric = {"name": "sounds", "metric": "lm_eval", "options": {"file": TASK, "rows": jsonl([*few, long])}}
    done = run_program("served_evaluate", {
        "model": str(gguf), "tokenizer": str(trained.artifact), "prompt": "{{ input }}", "data": str(data),
        "chat_template": template, "model_chat_template": template, "max_rows": 2, "max_new_tokens": 2,
        "serving": {"parallel": 1, "context_length": 96}, "speed_requests": 0,
        "metrics": [{"name": "rougeL"}, metric],
    }, tmp_path / "served")  # fmt: skip
    rouge, sounds = done.result["metrics"]
    assert (rouge["name"], sounds["name"]) == ("rougeL", "sounds") and sounds["low"] < sounds["value"] < sounds["high"]
    assert done.result["repeated"]["metrics"] == {"rougeL": 0.0, "sounds": 0.0}
    assert "acc of multiple_choice by lm-eval" in (done.artifact / "report.html").read_text()
    report = measured(metrics=tuple(Metric.model_validate(m) for m in done.result["metrics"]))
    rows = _read(done.artifact, "2" * 64, report.metrics)
    assert len(rows.of("sounds").digests) == 25 and len(rows.digests) == 2
    evidence = Judged(report=report, rows=rows)
    assert judge("it", [Gate(metric="sounds", of="served", at_least=0.01)], "served", evidence).passed
