"""One project's life cycle in order: each test continues from the one before, as commits do.

Guards the project's main promise: each change has the right effect, and only the necessary stages are computed.
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import httpx
import pytest
from dagster import AssetKey, RunsFilter
from huggingface_hub import ModelCard

from llmops_assets.cli.execution import execute
from llmops_assets.delivery.run_tags import REQUEST_TAG
from llmops_assets.domain.chain import EVIDENCE
from llmops_assets.domain.formatting import figure
from llmops_assets.domain.records import Checkpoint, EvaluationReport, RegisteredModel, ServedEvaluationReport
from llmops_assets.domain.verdict import Verdict
from tests.support.projects import Outcome, Project, Watched, World, rows, write_rows
from tests.support.waiting import CEILING_S

ALL = {
    "ci_report", "container_image", "dataset_version", "fine_tuned_checkpoint", "evaluation_report", "registered_model",
    "quantized_artifact", "served_evaluation_report", "staging_endpoint", "smoke_test_report", "release_approval",
    "production_endpoint", "endpoint_health",
}  # fmt: skip
RELEASING = {"staging_endpoint", "smoke_test_report", "release_approval", "production_endpoint", "endpoint_health"}
EVALUATING = {"evaluation_report", "served_evaluation_report"}


class Story(Watched):
    """A project, the world that watches it, and the releases that production served after each step."""

    def __init__(self, project: Project, world: World):
        super().__init__(project, world)
        self.releases: list[str] = []

    def ship(self, message: str) -> Outcome:
        self.project.commit(message)
        self.project.push()
        return self.world.settle()

    def ask(self, text: str = "cat number 3 says") -> tuple[str, str]:
        """Asks production; returns (answer, release that gave it)."""
        url = self.world.clients.serving.base_url("zoo", "production")
        body = {"model": "zoo", "messages": [{"role": "user", "content": text}], "max_tokens": 8, "temperature": 0}
        answer = httpx.post(f"{url}/chat/completions", json=body, timeout=CEILING_S)
        answer.raise_for_status()
        return answer.json()["choices"][0]["message"]["content"], answer.headers["x-llmops-release"]


@pytest.fixture(scope="module")
def story(make_project: Callable[[], Project], make_world: Callable[..., World]) -> Iterator[Story]:
    project = make_project()
    yield Story(project, make_world(project))


def test_before_the_first_push_every_sensor_says_why_it_waits(story: Story) -> None:
    for kind, expected in {
        "git": "branch 'main' does not exist",
        "dvc": "branch 'main' does not exist",
        "recovery": "no active request",
    }.items():
        skip, requests = story.world.tick(f"zoo_{kind}")
        assert requests == []
        assert expected in (skip or "")


def test_a_first_push_becomes_a_model_in_production(story: Story) -> None:
    story.project.push()
    outcome = story.world.settle()
    assert outcome.failures == ""
    assert outcome.materialized == ALL
    assert len(outcome.runs) == 1
    assert story.request.status == "released"
    _, release = story.ask()
    assert release == story.production
    story.releases.append(story.production)


def test_users_who_set_nothing_get_the_answer_that_was_evaluated(story: Story) -> None:
    """Eight equal requests got five texts, none of them the evaluated one: clients got the engine's temperature."""
    report = story.world.ledger.records_of("zoo", story.project.head)["served_evaluation_report"]
    assert isinstance(report, ServedEvaluationReport)
    row = json.loads((story.world.clients.store.fetch(report.uri) / "predictions.jsonl").read_text().splitlines()[0])
    url = story.world.clients.serving.base_url("zoo", "production")
    body = {"model": "zoo", "messages": [{"role": "user", "content": row["input"]}], "max_tokens": 8}
    answers = [httpx.post(f"{url}/chat/completions", json=body, timeout=CEILING_S).json() for _ in range(8)]
    assert {a["choices"][0]["message"]["content"].strip() for a in answers} == {row["prediction"]}


def test_its_lineage_names_commit_data_and_checkpoint(story: Story) -> None:
    records = story.world.ledger.records_of("zoo", story.project.head)
    assert set(records) == ALL
    checkpoint, report = records["fine_tuned_checkpoint"], records["evaluation_report"]
    assert isinstance(checkpoint, Checkpoint) and isinstance(report, EvaluationReport)
    assert report.checkpoint_digest == checkpoint.digest
    assert checkpoint.made_by.revision == story.project.head
    assert checkpoint.steps == 4


def test_dagster_shows_the_commit_and_the_verdicts(story: Story) -> None:
    instance = story.world.instance
    event = instance.get_latest_materialization_event(AssetKey(["zoo", "evaluation_report"]))
    assert event is not None and event.asset_materialization is not None
    metadata = event.asset_materialization.metadata
    assert metadata["commit"].value == story.project.head
    assert metadata["perplexity"].value > 0
    source = instance.get_latest_materialization_event(AssetKey(["zoo", "repository"]))
    assert source is not None and source.asset_materialization is not None
    assert (source.asset_materialization.tags or {})["dagster/data_version"] == story.project.head


def test_the_registered_version_can_be_loaded_by_mlflow(story: Story) -> None:
    import mlflow

    record = story.world.ledger.records_of("zoo", story.project.head)["registered_model"]
    assert isinstance(record, RegisteredModel)
    mlflow.set_tracking_uri(story.world.settings.mlflow_uri)
    mlflow.set_registry_uri(story.world.settings.mlflow_uri)
    pipeline = mlflow.transformers.load_model("models:/zoo@champion")
    answer = pipeline([{"role": "user", "content": "cat"}], max_new_tokens=4)
    assert answer[0]["generated_text"]
    function = mlflow.pyfunc.load_model("models:/zoo@champion")
    question = {"messages": [{"role": "user", "content": "cat"}], "max_tokens": 4}
    assert function.predict(question)[0]["choices"][0]["message"]["content"]
    weights = [f for f in story.world.clients.store.manifest(record.uri).files if f.path.endswith(".safetensors")]
    assert weights == [], "a version points at the weights, it does not copy them"
    readme = (story.world.clients.store.fetch(record.uri) / "README.md").read_text()
    results = {r.metric_name: r.metric_value for r in ModelCard(readme).data.eval_results}  # type: ignore[attr-defined]
    report = story.world.ledger.records_of("zoo", story.project.head)["evaluation_report"]
    assert isinstance(report, EvaluationReport) and results == {m.name: m.value for m in report.metrics}


def test_a_change_of_the_readme_runs_nothing_and_the_tick_says_why(story: Story) -> None:
    story.project.write("README.md", "# A project\n\nNow with words.\n")
    outcome = story.ship("Words")
    assert outcome.runs == []
    request = story.request
    assert (request.status, request.revision) == ("skipped", story.project.head)
    assert "README.md" in request.reason
    assert "README.md" in outcome.skips["zoo:git"]


def test_a_lint_fix_runs_the_projects_checks_only(story: Story) -> None:
    story.project.write("tests/test_nothing_is_broken.py", "def test_three():\n    assert 1 + 2 == 3\n")
    outcome = story.ship("Another test")
    assert outcome.materialized == {"ci_report"}
    assert story.request.status == "done"
    assert story.production == story.releases[0]


def test_a_stricter_gate_is_a_new_verdict_on_the_old_measurement(story: Story) -> None:
    story.project.configure({"gates": [{"metric": "perplexity", "at_most": 1.0e8}]})
    outcome = story.ship("Stricter")
    assert outcome.materialized == {"ci_report"} | EVALUATING
    edges = story.world.ledger.edges("zoo", story.project.head)
    assert edges["evaluation_report"].reused and edges["served_evaluation_report"].reused, "nothing is measured again"
    checks = {e.asset_key.path[-1] for r in outcome.runs for e in r.get_asset_check_evaluations()}
    assert checks >= EVALUATING
    assert story.production == story.releases[0]


def test_a_new_serving_prompt_is_evaluated_and_released_but_not_trained(story: Story) -> None:
    story.project.write("prompts/ask.jinja", "Tell me: {{ input }}\n")
    outcome = story.ship("Another prompt")
    assert outcome.failures == ""
    assert outcome.materialized == {"ci_report"} | EVALUATING | RELEASING
    assert story.request.status == "released"
    edges = story.world.ledger.edges("zoo", story.project.head)
    assert {s for s, e in edges.items() if e.reused} == {
        "container_image", "dataset_version", "fine_tuned_checkpoint", "registered_model", "quantized_artifact",
    }  # fmt: skip
    assert story.production != story.releases[-1]
    assert story.ask()[1] == story.production
    story.releases.append(story.production)


def test_more_training_data_is_the_dvc_sensors_and_retrains(story: Story) -> None:
    write_rows(story.project.folder / "data/train.jsonl", rows(32))
    story.project.dvc_add("data/train.jsonl")
    story.project.commit("More rows")
    story.project.push()
    skip, requests = story.world.tick("zoo_git")
    assert requests == [] and "DVC sensor" in (skip or "")
    outcome = story.world.settle()
    assert outcome.failures == ""
    assert outcome.materialized == ALL - {"ci_report", "container_image"}
    assert story.request.status == "released"
    assert story.production not in story.releases
    told = story.world.instance.get_latest_materialization_event(dg.AssetKey(["zoo", "dataset_version"]))
    assert told is not None and told.asset_materialization is not None
    metadata = told.asset_materialization.metadata
    added, kept = (metadata[name].value for name in ("data_diff_train_added", "data_diff_test_added"))
    assert added and kept == 0 and "data/train.jsonl, line 25" in str(metadata["data_diff"].value)
    story.releases.append(story.production)


def test_the_revert_of_a_commit_reuses_everything_and_brings_the_earlier_release_back(story: Story) -> None:
    before = len(list((story.world.home / "jobs").glob("*")))
    story.project.git("revert", "--no-edit", "HEAD")
    story.project.push()
    outcome = story.world.settle()
    assert outcome.failures == ""
    assert outcome.materialized == RELEASING
    assert story.production == story.releases[-2]
    assert len(list((story.world.home / "jobs").glob("*"))) == before, "no program was started"
    shown = story.world.instance.get_latest_materialization_event(AssetKey(["zoo", "fine_tuned_checkpoint"]))
    assert shown is not None and shown.asset_materialization is not None
    record = story.world.ledger.records_of("zoo", story.project.head)["fine_tuned_checkpoint"]
    tags = shown.asset_materialization.tags or {}
    assert tags["dagster/data_version"] == record.key, "Dagster shows the reused checkpoint, not the reverted one"
    assert tags["reused"] == "true"
    metadata = shown.asset_materialization.metadata
    assert metadata["steps"].value == 4, "its figures go on in the plots"
    assert metadata["commit"].value == story.project.head
    story.releases.append(story.production)


def test_a_release_that_passes_its_evaluation_but_cuts_answers_short_loses_its_traffic_again(story: Story) -> None:
    canary = {"analysis": [{"metric": "cut_rate", "at_most": "5%"}]}
    story.project.configure({"deployment": {"serving": {"max_tokens": 2}, "rollout": canary}})
    outcome = story.ship("Answer in two tokens")
    assert {"served_evaluation_report", "staging_endpoint", "smoke_test_report"} <= outcome.computed
    assert story.request.status == "rejected"
    assert "production_endpoint" in story.request.detail and "cut_rate 1, limit 0.05" in story.request.detail
    assert "max_tokens" in story.request.detail, "it names the setting"
    observed = story.world.instance.fetch_observations(AssetKey(["zoo", "production_endpoint"]), 1).records
    assert observed and observed[0].asset_observation, "it leaves a trace on production's page"
    steps = observed[0].asset_observation.metadata["rollout"].records  # type: ignore[union-attr]
    assert steps[-1].data["outcome"] == "failed" and "cut_rate" in str(steps[-1].data["figures"])
    serving, champion = story.world.clients.serving, story.releases[-1]
    assert story.production == champion
    assert serving.weights("zoo", "production") == {champion: 1.0}
    assert serving.deployed("zoo", "production") == (champion,)
    assert story.ask()[1] == champion
    assert story.world.settle().runs == [], "what evidence refused is not tried again"
    story.project.git("revert", "--no-edit", "HEAD")
    story.project.push()
    assert story.world.settle().failures == ""
    assert story.production == champion


def judged_by_staging(story: Story) -> dict[str, Verdict]:
    """The verdicts that staging acted on, by what they judge; the one that combines them all is left out."""
    verdicts = [v for s, v in story.world.ledger.verdicts("zoo", story.project.head) if s == "staging_endpoint"]
    return {v.subject.split()[0]: v for v in verdicts if not v.subject.startswith("the evidence for")}


def test_other_test_rows_have_the_champion_measured_on_them_first(story: Story) -> None:
    write_rows(story.project.folder / "data/test.jsonl", rows(8, start=2000))
    story.project.dvc_add("data/test.jsonl")
    story.project.write("prompts/ask.jinja", "Say it: {{ input }}\n")
    gate = {"metric": "perplexity", "no_worse_than": "champion", "margin": "50%"}
    speed = {"metric": "tokens_per_s", "of": "served", "no_worse_than": "champion", "margin": "99%"}
    size = {"metric": "size_mb", "of": "served", "no_worse_than": "champion"}
    story.project.configure({"gates": [gate, {**gate, "of": "served"}, speed, size]})
    outcome = story.ship("Other test rows")
    assert outcome.failures == ""
    assert not outcome.computed & {"fine_tuned_checkpoint", "quantized_artifact", "registered_model"}
    assert story.request.status == "released"
    assert story.production not in story.releases
    judged = judged_by_staging(story)
    assert set(judged) == {"policy", *EVIDENCE}
    for verdict in (judged["evaluation_report"], judged["served_evaluation_report"]):
        assert verdict.champion == story.releases[-1]
        assert re.search(r"perplexity [\d.,]+, champion [\d.,]+, margin 50%", verdict.reasons[0]), verdict.reasons
    _, by_speed, by_size, *_ = judged["served_evaluation_report"].reasons
    assert re.match(r"tokens_per_s [\d.,]+ tokens/s on cpu-\d+ with 8 clients, champion [\d.,]+, margin 99%", by_speed)
    assert re.match(r"size_mb [\d.,]+ MB, champion [\d.,]+, margin 0", by_size)
    # The champion's served report shows its own figures before quantization; it showed none.
    reports = [json.loads(p.read_text()) for p in (story.world.home / "store/artifacts").glob("*/report.json")]
    own = {r["what"].startswith("The checkpoint"): r for r in reports if ", the champion: " in r["title"]}
    before = next(m["value"] for m in own[True]["metrics"] if m["name"] == "perplexity")
    assert f"perplexity {figure(before)}" in own[False]["facts"]["Before quantization"]


def test_after_an_upgrade_the_champion_is_measured_again_before_it_is_compared(
    story: Story, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A library changed a figure, and the comparison took it for a change of the model.

    The upgrade is the version that the installed package states: a newer dist-info comes first on the path.
    """
    newer = tmp_path / "rouge_score-99.0.dist-info"
    newer.mkdir()
    (newer / "METADATA").write_text("Metadata-Version: 2.1\nName: rouge-score\nVersion: 99.0\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    champion = story.production
    story.project.write("prompts/ask.jinja", "Say it now: {{ input }}\n")
    outcome = story.ship("After an upgrade")
    assert outcome.failures == "" and story.request.status == "released"
    judged = judged_by_staging(story)
    for verdict in (judged["evaluation_report"], judged["served_evaluation_report"]):
        assert verdict.champion == champion
        assert "same libraries, dtype, device and engine" in verdict.reasons[0], verdict.reasons


def test_a_run_requested_when_all_is_done_runs_nothing(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two users asked at once; the second run had nothing left and an empty selection, so Dagster ran all stages."""
    world, sha = story.world, story.project.head
    monkeypatch.setenv("DAGSTER_HOME", str(world.home / "dagster"))
    request = world.ledger.open_request("zoo", sha, 2, "asked for again", asked_by="person")
    assert execute(world.clients, world.source(), request, None, lambda text: None)
    assert story.request.status == "done"
    assert list(world.instance.get_runs(filters=RunsFilter(tags={REQUEST_TAG: request.name}))) == []


def test_a_fixed_baseline_stops_the_losses_that_a_moving_champion_lets_pass(story: Story) -> None:
    """Each release lost less than the margin against the one before it, and nothing stopped them together.

    A release that was trained more, one that was hardly trained and is within the margin, and one no worse than that.
    """
    champion = {"metric": "perplexity", "no_worse_than": "champion", "margin": "50%"}
    story.project.configure({"training": {"learning_rate": 0.001}, "gates": [champion]})
    assert story.ship("Trained more").failures == ""
    best = story.production
    story.project.git("revert", "--no-edit", "HEAD")
    story.project.configure({"gates": [champion]})
    story.ship("Hardly trained")
    assert story.request.status == "released" and story.production != best
    worse = story.production
    story.project.write("prompts/ask.jinja", "Say it again: {{ input }}\n")
    fixed = {"metric": "perplexity", "no_worse_than": "baseline", "baseline": best[:12], "margin": "10%"}
    story.project.configure({"gates": [champion, fixed]})
    story.ship("No worse than the champion, which is worse than the best")
    assert story.request.status == "rejected" and story.production == worse
    failures = story.world.ledger.verdicts("zoo", story.project.head)[-1][1].failures
    (failure,) = [text for text in failures if "baseline" in text]
    assert f"baseline {best[:12]}" in failure and "margin 10%" in failure and "difference +" in failure, failure
