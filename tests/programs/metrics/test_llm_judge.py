"""An LLM judge against a server whose verdicts are known, and against a real llama.cpp server."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmops_assets.programs.engines.running import running_engine
from llmops_assets.programs.evaluation.metrics.base import Answer
from llmops_assets.programs.evaluation.rows import write_rows_file
from llmops_assets.programs.evaluation.scoring import check_metrics, score
from llmops_assets.programs.judge_pairs import judge_pairs
from llmops_assets.programs.runtime.entry import ProgramRun
from llmops_assets.programs.runtime.errors import BadInput
from llmops_assets.programs.runtime.specs import JudgePairsSpec, MetricSpec, ServeSpec
from tests.support.judge_server import RUBRIC, JudgeServer, Reply, judge_server, prefers_good


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    with judge_server() as made:
        yield made


def spec(url: str, file: str = RUBRIC, endpoint: dict[str, Any] | None = None, **options: Any) -> MetricSpec:
    judge = {"name": "main", "base_url": url, "model": "judge", "retries": 0, **(endpoint or {})}
    return MetricSpec(name="quality", metric="llm_judge", options={"file": file, "endpoint": judge, **options})


def answers(*pairs: tuple[str, str], **row: Any) -> list[Answer]:
    return [
        Answer(prediction=p, reference=r, row={"input": f"q{i}", "output": r, **row}) for i, (p, r) in enumerate(pairs)
    ]


ROWS = answers(("good", "bad"), ("bad", "good"), ("bad", "bad"), ("good one", "good"), ("good", ""))


def test_an_answer_wins_that_the_judge_prefers_in_both_orders(server: JudgeServer) -> None:
    found = score([spec(server.url)], ROWS)
    assert [row["quality"] for row in found.rows] == [1.0, 0.0, 0.5, 0.5, 1.0]
    assert found.metrics[0].value == pytest.approx(3 / 5) and found.metrics[0].low is not None
    assert found.measured_with == {"judge of quality": "judge-2026-11-01"}
    told = found.facts["LLM judge (quality)"]
    assert "2 answers better than their reference, 2 ties, 1 worse; both orders agree on 100% of the rows" in told
    assert "judge (the endpoint says judge-2026-11-01), prompt version 1, rubric " in told
    assert "agreement with people not measured" in told
    sent = server.asked[0]
    assert (sent["model"], sent["temperature"], sent["seed"]) == ("judge", 0, 0)
    assert len(server.asked) == 2 * len(ROWS) - 1, "both orders of two equal answers are one question"
    score([spec(server.url)], ROWS)
    assert len(server.asked) == 2 * len(ROWS) - 1, "the same question is not asked twice"


def test_a_judge_that_prefers_a_position_measures_nothing_but_ties(server: JudgeServer) -> None:
    server.judge = lambda prompt: "Verdict: A"
    found = score([spec(server.url)], ROWS)
    assert [row["quality"] for row in found.rows] == [0.5] * 5
    told = found.facts["LLM judge (quality)"]
    assert "both orders agree on 0% of the rows; the first position won 100% of the requests" in told


def labels(*rows: tuple[str, str, str]) -> str:
    return "".join(
        json.dumps({"input": "q", "answer_a": a, "answer_b": b, "label": x, "by": "Ada"}) + "\n" for a, b, x in rows
    )


PEOPLE = (
    *[(f"good {i}", "bad", "a") for i in range(4)],
    *[(f"bad {i}", "good", "B") for i in range(3)],
    ("good 9", "bad", "b"),
    ("bad 9", "bad", "tie"),
    ("good", "good 9", "a"),
)


def test_agreement_with_people_is_cohens_kappa(server: JudgeServer) -> None:
    """The judge says a, b, tie 5, 3 and 2 times, people 5, 4 and 1; they agree on 8 of 10."""
    found = score([spec(server.url, labels=labels(*PEOPLE), min_agreement=0.6)], ROWS)
    chance = 0.5 * 0.5 + 0.3 * 0.4 + 0.2 * 0.1
    kappa = (0.8 - chance) / (1 - chance)
    told = found.facts["LLM judge (quality)"]
    assert f"agreement with 10 labelled pairs: kappa {kappa:.2f}, accuracy 80%" in told and kappa > 0.6
    assert found.metrics and not found.refused


@pytest.mark.parametrize(
    ("judge", "options", "told"),
    [
        (
            lambda prompt: "Verdict: B" if prefers_good(prompt).endswith("A") else "Verdict: A",
            {"labels": labels(*PEOPLE), "min_agreement": 0.2},
            "below min_agreement 0.2; improve the rubric or take another judge",
        ),
        (
            lambda prompt: "Verdict: TIE",
            {"labels": labels(("x", "y", "tie"), ("y", "z", "tie")), "min_agreement": 0.2},
            "is undefined, because all labels and verdicts are the same; label others",
        ),
        (
            lambda prompt: "Both are nice.",
            {},
            "5 of 5 rows got no readable verdict, more than max_unreadable 0.05; the",
        ),
        (lambda prompt: (400, {"error": {"message": "too long"}}), {}, "the first: HTTP 400: too long"),
    ],
)
def test_a_judge_that_is_no_evidence_gives_no_value_and_says_why(
    server: JudgeServer, judge: Callable[[str], Reply], options: dict[str, Any], told: str
) -> None:
    server.judge = judge
    found = score([spec(server.url, **options), MetricSpec(name="exact_match")], ROWS)
    assert [m.name for m in found.metrics] == ["exact_match"]
    assert told in found.refused["quality"] and told in found.facts["quality: no evidence"]
    assert all("quality" not in row for row in [*found.rows, *found.statistics])


def test_few_unreadable_rows_are_left_out_and_counted(server: JudgeServer) -> None:
    server.judge = lambda prompt: "hm" if "odd" in prompt else prefers_good(prompt)
    rows = answers(("odd", "good"), *[(f"good {i}", "bad") for i in range(3)])
    found = score([spec(server.url, max_unreadable=0.25)], rows)
    assert [row["quality"] for row in found.rows] == [None, 1.0, 1.0, 1.0] and found.metrics[0].value == 1.0
    assert "1 rows without a readable verdict" in found.facts["LLM judge (quality)"]


def closed_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}/v1"


@pytest.mark.parametrize(
    ("endpoint", "key", "judge", "told"),
    [
        ({"base_url": closed_port()}, "", prefers_good, "(base_url): it does not answer at http://127.0.0.1:"),
        (
            {"base_url": "http://no-such-host.invalid/v1"},
            "",
            prefers_good,
            "start it or correct base_url in the settings",
        ),
        ({"timeout": 0.2}, "", lambda prompt: time.sleep(1) or "late", "(1 attempt): no answer within 0.2 s; start it"),
        ({}, "s3cret", prefers_good, "(api_key): it refuses the API key (HTTP 401: Incorrect API key provided); set "),
        (
            {"api_key": {"env": "NO_SUCH_KEY"}},
            "",
            prefers_good,
            "judge main (api_key): its API key is missing; set the environment variable NO_SUCH_KEY",
        ),
        (
            {},
            "",
            lambda prompt: (404, {"error": "no model"}),
            "does not answer for the model 'judge' at http://127.0.0.1:",
        ),
        ({}, "", lambda prompt: (503, {}), "(1 attempt): HTTP 503: {}; start it or correct base_url"),
        ({}, "", lambda prompt: (200, {"nothing": 1}), 'gives no OpenAI chat completion: {"nothing": 1}; correct'),
        (
            {},
            "",
            lambda prompt: (400, {"error": {"message": "no seed"}}),
            "no seed; correct its parameters, or set const",
        ),
    ],
)
def test_a_judge_that_cannot_be_asked_is_one_error_before_any_inference(
    server: JudgeServer, endpoint: dict[str, Any], key: str, judge: Callable[[str], Reply], told: str
) -> None:
    server.key, server.judge = key, judge
    with pytest.raises(BadInput) as refused:
        check_metrics([spec(server.url, endpoint=endpoint)], rows=ROWS)
    assert told in str(refused.value) and "s3cret" not in str(refused.value)


def test_a_judge_that_is_lost_in_between_is_no_value(server: JudgeServer) -> None:
    """A row without a verdict must not become a tie, nor the metric one of the rows before."""
    left = iter(range(4))
    server.judge = lambda prompt: prefers_good(prompt) if next(left, None) is not None else (503, {})
    check_metrics([spec(server.url)], rows=ROWS)
    with pytest.raises(BadInput, match=r"does not answer .*HTTP 503"):
        score([spec(server.url)], ROWS)


def test_an_endpoint_that_is_busy_is_asked_again_and_the_key_is_sent(
    server: JudgeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THE_JUDGES_KEY", "s3cret")
    server.key, busy = "s3cret", iter([429, 503])
    server.judge = lambda prompt: (status, {}) if (status := next(busy, None)) else prefers_good(prompt)
    endpoint = {"api_key": {"env": "THE_JUDGES_KEY"}, "retries": 2, "parameters": {"seed": None, "top_p": 0.5}}
    found = score([spec(server.url, endpoint=endpoint)], ROWS)
    assert found.metrics[0].value == pytest.approx(3 / 5) and len(server.asked) == 11
    assert "seed" not in server.asked[-1] and server.asked[-1]["top_p"] == 0.5


def test_a_plain_rubric_gets_the_texts_in_sections(server: JudgeServer) -> None:
    seen: list[str] = []
    server.judge = lambda prompt: seen.append(prompt) or "Verdict: TIE"
    rows = answers(("one {{ braces }}", "two"), context=["First.", "Second."])
    found = score([spec(server.url, "Prefer short answers {like this}.")], rows)
    assert found.metrics[0].value == 0.5
    first = next(p for p in seen if "# Answer A\n\none {{ braces }}\n" in p)
    for part in (
        "# Rubric\n\nPrefer short answers {like this}.\n",
        "# Input\n\nq0\n",
        "# Context\n\nFirst.\n\nSecond.\n",
    ):
        assert part in first
    assert first.rstrip().endswith("Verdict: TIE")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"file": " \n"}, "quality: its rubric: it is empty"),
        ({"file": "{{ answer_a }}"}, "its rubric: it uses only one of answer_a and answer_b"),
        ({"file": "{{ input }} is it good?"}, "its rubric: it uses variables, but not answer_a and answer_b"),
        ({"file": "a\n{{ reference }}"}, "its rubric: unknown variable 'reference'; a rubric may use input, answer_a"),
        ({"file": "a\n{% for i in input %}{% endfor %}"}, "its rubric: line 2: a rubric cannot use 'for'"),
        ({"file": "{{ 'a' * 10 ** 9 }}"}, "its rubric: line 1: a rubric cannot use 'mul'"),
        ({"file": "x {{ input"}, "its rubric: line 1: "),
        ({"labels": "{"}, "quality: its labels: line 1: not valid JSON"),
        ({"labels": labels(("x", "y", "a"))}, "its labels: it has 1 labelled pairs, and agreement needs at least 2"),
        (
            {"labels": labels(("x", "y", "a"), ("x", "y", "left"))},
            "its labels: line 2: label: Input should be 'a', 'b'",
        ),
        ({"labels": labels(("x", "y", "a")) + "[1]\n"}, "its labels: line 2: it: Input should be"),
    ],
)
def test_a_rubric_or_labels_that_cannot_be_used_are_one_error_with_their_line(
    server: JudgeServer, options: dict[str, Any], told: str
) -> None:
    with pytest.raises(BadInput) as refused:
        check_metrics([spec(server.url, **options)])
    assert told in str(refused.value) and not server.asked


def test_a_real_llama_cpp_server_judges(model_file: Path, tmp_path: Path) -> None:
    """A random model says nothing readable, and verdicts if the endpoint constrains it: the value is no default."""
    serve = ServeSpec(
        model=str(model_file), alias="judge", port=0, serving={"parallel": 2, "context_length": 2048, "threads": 1},
        chat_template="{% for m in messages %}{{ m.content }}{% endfor %}", api_key="k3y",
    )  # fmt: skip
    with running_engine(serve, tmp_path) as engine, pytest.MonkeyPatch.context() as patch:
        patch.setenv("THE_JUDGES_KEY", "k3y")
        url = f"{engine.client.base_url}".rstrip("/") + "/v1"  # type: ignore[attr-defined]
        endpoint = {"api_key": {"env": "THE_JUDGES_KEY"}, "parameters": {"max_tokens": 256}}
        free = score([spec(url, "Prefer short answers.", endpoint)], ROWS)
        assert not free.metrics and "got no readable verdict" in free.refused["quality"]
        one = spec(url, "Prefer short answers.", {**endpoint, "constrained": True}, labels=labels(*PEOPLE))
        check_metrics([one], rows=ROWS)
        found = score([one], ROWS)
    assert len(found.metrics) == 1 and {row["quality"] for row in found.rows} <= {0.0, 0.5, 1.0}
    assert "0 rows without a readable verdict; agreement with 10 labelled pairs" in found.facts["LLM judge (quality)"]
    assert np.array([row["quality"] for row in found.statistics])[:, 1].sum() == len(ROWS)


def stored(folder: Path, *answers_: tuple[str, str]) -> str:
    """A report with these (reference, prediction), in reverse order."""
    made = [
        Answer(prediction=p, reference=r, row={"input": f"q{i}", "output": r}) for i, (r, p) in enumerate(answers_)
    ][::-1]
    folder.mkdir()
    scored = score([MetricSpec(name="length")], made)
    write_rows_file(folder, made, scored)
    lines = (json.dumps({"prediction": one.prediction}) for one in made)
    (folder / "predictions.jsonl").write_text("\n".join(lines) + "\n")
    return str(folder)


def test_two_reports_answers_to_the_same_rows_are_compared_in_both_orders(server: JudgeServer, tmp_path: Path) -> None:
    """A judge scored each model against the references only: two that both miss them could not be told apart."""
    champion = stored(tmp_path / "champion", ("r", "good"), ("r", "bad"), ("r", "bad"), ("r", "good 1"), ("r", "same"))
    data = tmp_path / "data"
    data.mkdir()
    rows = [{"input": f"q{i}", "output": "r"} for i in range(5)]
    (data / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def compared(*mine: str, **options: Any) -> dict[str, Any]:
        name = f"of-{len(list(tmp_path.iterdir()))}"
        metric = spec(server.url, **options).model_copy(update={"name": "preferred", "metric": "llm_preference"})
        candidate = stored(tmp_path / name, *(("r", text) for text in mine))
        asked = JudgePairsSpec(candidate=candidate, champion=champion, data=str(data), metric=metric)
        return judge_pairs(asked, ProgramRun(tmp_path / name)).model_dump()

    found = compared("bad", "good", "bad 2", "good 2", "same")
    assert [found[name] for name in ("won", "tied", "lost", "unreadable")] == [1, 3, 1, 0]
    assert "1 answers better than the champion's, 2 ties, 1 worse" in found["facts"] and found["refused"] == ""
    # Besides the word that is asked for first: both orders of four pairs. Equal answers cost nothing.
    assert len(server.asked) == 1 + 2 * 4
    server.judge = lambda prompt: "Both are nice."
    assert "got no readable verdict" in compared("other", "one", "two", "three", "same")["refused"]
    server.judge = prefers_good
    with pytest.raises(BadInput, match=r"test.jsonl, row 3: one of the reports has no answer to it"):
        compared("bad", "good")
