"""An LLM judge that cannot be asked is found before anything is computed, however the run is launched.

The story of one project whose evaluation asks a judge. Each test continues from the one before.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llmops_assets.config.judges import Judge
from llmops_assets.config.secrets import FromEnvironment
from llmops_assets.domain.chain import WORK
from tests.support.judge_server import RUBRIC, JudgeServer, answers_in, judge_server
from tests.support.ports import free_port
from tests.support.projects import LIGHT, Outcome, Project, Watched, World, merge

KEY = "THE_KEY_OF_THIS_JUDGE"
METRIC = {"metric": "llm_judge", "name": "quality", "judge": "main", "file": "rubric.txt"}


@pytest.fixture(scope="module")
def url() -> str:
    return f"http://127.0.0.1:{free_port()}/v1"


@pytest.fixture(scope="module")
def case(make_project: Callable[[], Project], make_world: Callable[..., World], computed: object, url: str) -> Watched:
    project = make_project()
    judged = merge(LIGHT, {"evaluation": {"metrics": ["rougeL", METRIC]}, "ci": {"tests": False, "ruff": False}})
    project.configure({**judged, "training": {"max_steps": 3}})
    project.write("rubric.txt", RUBRIC)
    main = Judge(name="main", base_url=url, model="judge", api_key=FromEnvironment(env=KEY), retries=0)
    return Watched(project, make_world(project, computed=computed, judges=(main,), dagster_on_disk=True))


def test_a_missing_api_key_ends_the_run_before_anything_is_computed(case: Watched) -> None:
    """It used to be found by the evaluation: after hours of training."""
    case.project.ship("Judged")
    outcome = case.world.settle()
    assert outcome.materialized == set() and case.request.status == "failed"
    told = f"judge main (api_key): its API key is missing; set the environment variable {KEY} where"
    assert told in case.request.detail and case.request.detail.endswith("then `llmops retry zoo`")
    assert told in outcome.failures
    assert case.world.settle().runs == [], "it is not tried again by itself"


def test_commands_name_the_missing_key_and_the_plan_has_it_for_scripts(case: Watched) -> None:
    told = f"judge main (api_key): its API key is missing; set the environment variable {KEY}"
    for words, code in ((("check",), 1), (("retry",), 1), (("plan",), 0), (("plan", "--markdown"), 0)):
        found, said = case.world.llmops(*words)
        assert (found, told in said.replace("\\", "")) == (code, True), said
    found, said = case.world.llmops("check", "--path", str(case.project.folder))
    assert found == 0 and f"still to do: {told}" in said, said
    assert told in json.loads(case.world.llmops("plan", "--json")[1])["lacks"][0]
    assert case.request.generation == 1, "the refused retry opened no request"


def test_an_endpoint_that_does_not_exist_is_found_before_the_training(
    case: Watched, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY, "s3cret")
    code, said = case.world.llmops("check")
    assert code == 0, said
    outcome = Outcome.of(case.world.materialize("zoo", *(stage.name for stage in WORK)))
    assert outcome.computed == set()
    assert f"judge main (base_url): no connection to {url}: " in outcome.failures
    assert "start it or correct base_url in the settings; then `llmops retry zoo`" in outcome.failures


# -- compared with the champion ---------------------------------------------------------------------------------------

PREFERRED = {"metric": "llm_preference", "name": "preferred", "judge": "main", "file": "rubric.txt"}


@pytest.fixture(scope="module")
def judge() -> Iterator[JudgeServer]:
    with judge_server() as made:
        yield made


@pytest.fixture(scope="module")
def compared(
    make_project: Callable[[], Project], make_world: Callable[..., World], computed: Path, judge: JudgeServer
) -> Watched:
    project = make_project()
    gate = {"metric": "preferred", "at_least": 0.5}
    project.configure(
        merge(LIGHT, {"evaluation": {"metrics": ["rougeL", PREFERRED]}, "gates": [gate, {**gate, "of": "served"}],
                      "ci": {"tests": False, "ruff": False}})
    )  # fmt: skip
    project.write("rubric.txt", RUBRIC)
    main = Judge(name="main", base_url=judge.url, model="judge", retries=0, parallel=1)
    return Watched(project, make_world(project, computed=computed, judges=(main,)))


def gates(case: Watched, stage: str) -> str:
    verdicts = case.world.ledger.verdicts("zoo", case.request.revision)
    return next(v.text for _, v in reversed(verdicts) if v.check == f"{stage}:gates")


def test_a_first_release_has_nobody_to_be_compared_with(compared: Watched, judge: JudgeServer) -> None:
    compared.project.ship("Compared")
    assert compared.world.settle().failures == "" and compared.request.status == "released", compared.request.detail
    assert "preferred against the champion: skipped: there is no champion yet" in gates(compared, "evaluation_report")
    assert judge.asked == []


def test_a_release_is_judged_by_the_answers_of_the_champion_before_and_after_quantization(
    compared: Watched, judge: JudgeServer
) -> None:
    champion = compared.production[:12]
    first = "Say it in other words:"
    judge.judge = lambda prompt: "ready" if "<a>" not in prompt else "Verdict: TIE"
    compared.project.write("prompts/ask.jinja", first + " {{ input }}\n")
    compared.project.ship("Another prompt")
    outcome = compared.world.settle()
    assert outcome.failures == "" and compared.request.status == "released", compared.request.detail
    for stage in ("evaluation_report", "served_evaluation_report"):
        assert f"0 rows won, 2 tied, 0 lost against the champion {champion}" in gates(compared, stage)
    shown = [body["messages"][0]["content"] for body in judge.asked]
    assert all(first not in text for text in shown), "the rows are shown, not the prompt"
    asked = len(judge.asked)
    compared.world.materialize("zoo", "evaluation_report")
    assert len(judge.asked) == asked, "two reports are compared once"


def answers_of_champion(case: Watched) -> set[str]:
    """What the reports of what production serves have stored."""
    serving = case.world.ledger.serving("zoo", "production")
    assert serving is not None
    records, found = case.world.ledger.records_of("zoo", serving.revision), set[str]()
    for stage in ("evaluation_report", "served_evaluation_report"):
        folder = case.world.clients.store.fetch(records[stage].uri)  # type: ignore[union-attr]
        lines = (folder / "predictions.jsonl").read_text().splitlines()
        found |= {json.loads(line)["prediction"] for line in lines}
    return found


def test_a_release_that_the_judge_likes_less_is_rejected_and_the_champion_stays(
    compared: Watched, judge: JudgeServer
) -> None:
    champion, stored = compared.production, answers_of_champion(compared)
    judge.judge = lambda prompt: (
        "ready" if "<a>" not in prompt else f"Verdict: {'A' if answers_in(prompt)[0] in stored else 'B'}"
    )
    compared.project.ship("Trained to say something else", {"training": {"learning_rate": 0.05, "max_steps": 12}})
    compared.world.settle()
    assert compared.request.status == "rejected" and compared.production == champion, compared.request.detail
    assert f"lost against the champion {champion[:12]}" in compared.request.detail, compared.request.detail
    assert "0 rows won" in compared.request.detail and ", 0 lost" not in compared.request.detail
