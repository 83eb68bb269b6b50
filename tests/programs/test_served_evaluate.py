"""The served model matches the trained one (equal tokens, close metrics), and engines end with their program."""

import json
import math
import os
import runpy
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from llmops_assets.domain.prompt import compose_chat_template
from llmops_assets.domain.release import release_from_records
from llmops_assets.machine.processes import is_alive
from llmops_assets.programs.evaluation.metrics.base import Answer
from llmops_assets.programs.runtime.specs import ServedEvaluateSpec
from llmops_assets.programs.served_evaluate import compared
from tests.programs.conftest import ENVIRONMENT, PROMPT, Ended, command, run_program
from tests.support.forking import call
from tests.support.ports import free_port
from tests.support.records import VALUES, Memory
from tests.support.waiting import CEILING_S, wait_for


@pytest.fixture(scope="module")
def served_spec(gguf: Path, trained: Ended, evaluated: Ended, data: Path) -> dict[str, Any]:
    template = trained.result["chat_template"]
    return {
        "model": str(gguf), "tokenizer": str(trained.artifact), "prompt": PROMPT, "data": str(data),
        "chat_template": compose_chat_template(PROMPT, template), "model_chat_template": template,
        "serving": {"parallel": 4, "context_length": 256}, "metrics": [{"name": "perplexity"}, {"name": "rougeL"}],
        "max_new_tokens": 6, "clients": [1, 4], "speed_requests": 8, "unquantized": {"perplexity": 12.345},
    }  # fmt: skip


@pytest.fixture(scope="module")
def served(served_spec: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Ended:
    return run_program("served_evaluate", served_spec, tmp_path_factory.mktemp("served"))


def test_the_engine_reads_the_tokens_that_training_read(served: Ended) -> None:
    assert (served.result["parity_rows"], served.result["parity_mismatches"]) == (16, 0), served.result["parity_detail"]


def test_quantization_hardly_changes_the_perplexity(served: Ended, evaluated: Ended) -> None:
    before, after = ({m["name"]: m["value"] for m in e.result["metrics"]} for e in (evaluated, served))
    assert after["perplexity"] == pytest.approx(before["perplexity"], rel=0.01)
    assert served.result["tokenizer"] == evaluated.result["tokenizer"], "so that their perplexities are compared"


def test_one_model_gives_one_answer_to_a_question_and_the_report_says_so(served: Ended) -> None:
    """With eight clients and the prompt cache, 5 of 40 answers differed between two evaluations of one file."""
    nothing = {"perplexity": 0.0, "rougeL": 0.0}
    assert served.result["repeated"] == {"rows": 8, "answers_differ": 0, "metrics": nothing}
    html = (served.artifact / "report.html").read_text()
    assert "8 of 8 answers equal when asked again; noise on these rows: none" in html


def differing(spec: dict[str, Any], first: list[Any], again: list[Any], told: Path) -> None:
    told.write_text(compared(ServedEvaluateSpec.model_validate(spec), first, again).model_dump_json())


def test_answers_that_differ_when_repeated_are_counted_with_their_effect_on_each_metric(
    served_spec: dict[str, Any], tmp_path: Path
) -> None:
    """One of two answers changes from right to wrong: half of the rows, so half of ROUGE-L; exp(1) and exp(2)."""
    first = [Answer(prediction="one two", reference="one two", nll=4.0, tokens=4) for _ in range(2)]
    again = [first[0], replace(first[1], prediction="three", nll=12.0)]
    log = tmp_path / "log.txt"
    assert call(differing, served_spec, first, again, tmp_path / "told.json", log=log).wait() == 0, log.read_text()
    told = json.loads((tmp_path / "told.json").read_text())
    assert (told["rows"], told["answers_differ"]) == (2, 1)
    assert told["metrics"] == pytest.approx({"perplexity": math.exp(2) - math.exp(1), "rougeL": 0.5})


def test_answers_that_are_cut_at_the_limit_are_counted(served: Ended) -> None:
    rows = [json.loads(line) for line in (served.artifact / "rows.jsonl").read_text().splitlines()]
    cut = sum(row["cut"] for row in rows)
    assert served.result["cut"] == cut > 0
    text = f"{cut} of 20 ({cut / 20:.0%}) reached the limit without an end"
    assert text in (served.artifact / "report.html").read_text()


def test_every_stream_ends_properly_at_every_load_level(served: Ended) -> None:
    assert [level["clients"] for level in served.result["load"]] == [1, 4]
    for level in served.result["load"]:
        assert level["broken"] == 0 and level["tokens_per_s"] > 0
        assert 0 < level["first_token_p50_s"] <= level["latency_p50_s"] <= level["latency_p95_s"]


def test_the_peak_of_the_engines_memory_is_measured_under_load(served: Ended) -> None:
    one, four = (level["memory_bytes"] for level in served.result["load"])
    assert served.result["size_bytes"] < one <= four < 4e9, "it holds the weights"


def test_the_report_shows_parity_and_load(served: Ended) -> None:
    html = (served.artifact / "report.html").read_text()
    assert "16 of 16 rows" in html and "Under load" in html
    assert "Before quantization" in html and "perplexity 12.35" in html


def test_another_template_than_that_of_training_is_a_mismatch_with_its_place(
    served_spec: dict[str, Any], tmp_path: Path
) -> None:
    """The failure that the parity check detects: the engine serves a prompt that the model was never trained on."""
    wrong = compose_chat_template("Please: {{ input }}", served_spec["model_chat_template"])
    spec = {**served_spec, "chat_template": wrong, "metrics": [{"name": "rougeL"}], "speed_requests": 0, "max_rows": 3}
    result = run_program("served_evaluate", spec, tmp_path).result
    assert result["parity_mismatches"] == 3 and result["parity_detail"].startswith("row 1: from token ")
    assert result["load"] == []


def test_a_row_that_the_endpoint_would_refuse_is_reported_beforehand(
    served_spec: dict[str, Any], tmp_path: Path
) -> None:
    spec = {**served_spec, "serving": {"context_length": 32}, "metrics": []}
    error = run_program("served_evaluate", spec, tmp_path).error
    assert error["where"] == "test.jsonl, row 1" and "deployment.serving.context_length is 32" in error["message"]


def beside_another(words: list[str]) -> None:
    """Runs a program in a fork of this process, which stays: nobody ends what the program leaves behind."""
    if os.fork():
        signal.pause()
    sys.argv = words
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)


def test_an_engine_dies_with_the_program_that_started_it(served_spec: dict[str, Any], tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    beside = call(beside_another, command("served_evaluate", served_spec, tmp_path / "out")[2:], log=log)
    wait_for("the engine's first answers", lambda: log.exists() and "parity:" in log.read_text())
    (program,) = psutil.Process(beside.pid).children()
    engines = [p for p in program.children() if "llmops_assets.programs.serve" in p.cmdline()]
    program.kill()
    assert len(engines) == 1
    wait_for("the end of the engine", lambda: not is_alive(engines[0]))
    psutil.Process(beside.pid).kill()
    assert beside.wait() == -signal.SIGKILL


@pytest.fixture
def serve_spec(served_spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "model": served_spec["model"], "chat_template": served_spec["chat_template"], "alias": "summarizer",
        "port": free_port(), "serving": {"parallel": 2, "context_length": 256, "max_tokens": 3},
    }  # fmt: skip


def test_an_endpoint_speaks_openai_under_its_name_and_stops_when_told(
    serve_spec: dict[str, Any], tmp_path: Path
) -> None:
    program = subprocess.Popen(
        command("serve", serve_spec, tmp_path), env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert program.stdout is not None
        assert program.stdout.readline().startswith("serving summarizer on http://127.0.0.1:")
        url = f"http://127.0.0.1:{serve_spec['port']}"
        assert httpx.get(f"{url}/v1/models").json()["data"][0]["id"] == "summarizer"
        assert httpx.get(f"{url}/metrics").status_code == 200
        body = {"messages": [{"role": "user", "content": "def f(): pass"}], "temperature": 0}
        answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=CEILING_S).json()
        assert answer["usage"]["completion_tokens"] <= 3
        assert httpx.get(f"{url}/props").json()["default_generation_settings"]["n_ctx"] == 256
    finally:
        program.send_signal(signal.SIGTERM)
        assert program.wait() == 0


def texts(url: str, number: int = 8, **parameters: Any) -> list[str]:
    """Answers to equal requests, one after another."""
    body = {"messages": [{"role": "user", "content": "def add_104(x):\n    return x + 104"}], **parameters}
    answers = [httpx.post(f"{url}/v1/chat/completions", json=body, timeout=CEILING_S).json() for _ in range(number)]
    return [answer["choices"][0]["message"]["content"].strip() for answer in answers]


@contextmanager
def endpoint(spec: dict[str, Any], folder: Path) -> Iterator[str]:
    """The address of an engine that serves a spec, until the end of the block."""
    program = subprocess.Popen(command("serve", spec, folder), env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
    try:
        assert program.stdout is not None
        assert program.stdout.readline().startswith("serving ")
        yield f"http://127.0.0.1:{spec['port']}"
    finally:
        program.kill()
        program.wait()


def test_a_user_who_sets_nothing_gets_the_evaluated_answer_every_time(
    serve_spec: dict[str, Any], served: Ended, tmp_path: Path
) -> None:
    """The evaluation asked at temperature 0 and users got the engine's default: five texts for eight equal requests."""
    release = release_from_records("zoo", VALUES, Memory().deliver(VALUES).records)
    assert release is not None
    row = json.loads((served.artifact / "predictions.jsonl").read_text().splitlines()[0])
    assert row["input"].startswith("def add_104"), "the question that the users ask"
    spec = serve_spec | {"sampling": release.sampling, "serving": {"parallel": 2, "context_length": 256}}
    with endpoint(spec, tmp_path) as url:
        assert texts(url, max_tokens=6) == [row["prediction"]] * 8
        assert len(set(texts(url, max_tokens=6, temperature=1.5))) > 1, "a client's own temperature still counts"


def test_sampling_is_what_the_release_says(serve_spec: dict[str, Any], tmp_path: Path) -> None:
    """Each default has its effect on requests that set nothing."""
    hot = {"temperature": 1.5, "seed": 7, "max_tokens": 5}
    spec = serve_spec | {"sampling": hot, "serving": {"parallel": 2, "context_length": 256}}
    with endpoint(spec, tmp_path / "seeded") as url:
        (seeded,) = set(texts(url))
        assert len(set(texts(url, seed=-1))) > 1, "a client that asks for a new seed each time"
    with endpoint(spec | {"sampling": {**hot, "top_k": 1}}, tmp_path / "narrow") as url:
        (greedy,) = set(texts(url))
        assert greedy != seeded
        assert set(texts(url, temperature=0, top_k=0)) == {greedy}
    end = seeded[len(seeded) // 2 :][:3]
    with endpoint(spec | {"sampling": {**hot, "stop": [end]}}, tmp_path / "stopped") as url:
        assert set(texts(url, 2)) == {seeded[: seeded.index(end)].strip()}
    with endpoint(spec | {"sampling": {"repetition_penalty": 10.0, "max_tokens": 24}}, tmp_path / "penalty") as url:
        (varied,) = set(texts(url, 2))
        assert set(texts(url, 1, repeat_penalty=1.0)) != {varied}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"sampling": {"temperature": -1}}, "sampling.temperature: Input should be greater than or equal to 0"),
        ({"sampling": {"beams": 4}}, "sampling.beams: Extra inputs are not permitted"),
        ({"serving": {"parallel": "many"}}, "serving.parallel: it is 'many', and must be a whole number of 1 or more"),
        ({"serving": {"threads": 0}}, "serving.threads: it is 0, and must be"),
        ({"serving": {"max_tokens": [1]}}, "serving.max_tokens: it is [1], and must be"),
        ({"serving": {"context_length": 2.5}}, "serving.context_length: it is 2.5, and must be"),
        ({"sha256": "0" * 64}, "was altered (sha256 " + "0" * 64 + " was released, "),
    ],
)
def test_a_wrong_setting_or_another_model_than_was_released_is_reported_in_one_line(
    serve_spec: dict[str, Any], tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    done = run_program("serve", serve_spec | change, tmp_path)
    assert done.code == 2 and told in done.said, done.said
    assert done.said.startswith("serve: ") and len(done.said.splitlines()) == 1


def test_a_taken_port_is_reported_in_one_line(serve_spec: dict[str, Any], tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", serve_spec["port"]))
        other.listen()
        done = run_program("serve", serve_spec, tmp_path)
    assert done.code == 2
    assert done.said.strip() == f"serve: 127.0.0.1:{serve_spec['port']}: the port is not free: Address already in use"


def test_a_chat_template_that_llama_cpp_cannot_read_is_reported(serve_spec: dict[str, Any], tmp_path: Path) -> None:
    spec = {**serve_spec, "chat_template": "{% nonsense %}"}
    done = run_program("serve", spec, tmp_path)
    assert done.code == 2 and "llama.cpp cannot serve it" in done.said.splitlines()[-1]


def test_a_spec_is_never_half_read(tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text(json.dumps({"model": "x"})[:-3])
    file = ["--spec", str(tmp_path / "spec.json"), "--output", str(tmp_path)]
    done = subprocess.run(
        [*command("serve", {}, tmp_path / "x")[:3], *file], env=ENVIRONMENT, capture_output=True, text=True
    )
    assert done.returncode == 2 and "is not a ServeSpec" in done.stderr
