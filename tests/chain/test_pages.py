"""What Dagster's and MLflow's pages show: the commit and its reason, links that work, and no false "out of date",
"failed" or "done". Each test continues from the one before.
"""

import asyncio
import json
import os
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest

from llmops_assets.delivery.asset_events import MaterializationHistory
from llmops_assets.delivery.references import PlannedRevision
from llmops_assets.delivery.review import review_of
from llmops_assets.delivery.run_tags import OUTCOME_TAG, REQUEST_TAG
from llmops_assets.domain.chain import CHAIN, CHECKS, EVIDENCE_CHECK, STAGES
from llmops_assets.domain.formatting import figure
from llmops_assets.domain.keys import short
from llmops_assets.domain.records import Measured
from llmops_assets.domain.review import FILE, REGRESSIONS, Review
from llmops_assets.domain.rollout import Judgement, RolloutPolicy, advance, begin
from llmops_assets.programs.evaluation.report import PAGE
from tests.support.ports import free_port
from tests.support.projects import Outcome, Project, World
from tests.support.waiting import CEILING_S, wait_for


class Pages:
    """A released project, its history in Dagster, and a real MLflow server."""

    def __init__(self, make_world: Callable[..., World], project: Project):
        self.project = project
        self.mlflow = f"http://127.0.0.1:{free_port()}"
        self.world = make_world(project, mlflow_ui=self.mlflow)
        port = self.mlflow.rsplit(":", 1)[1]
        self.server = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", self.world.settings.mlflow_uri,
             "--host", "127.0.0.1", "--port", port, "--workers", "1"],
            env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def ship(self, subject: str) -> Outcome:
        self.project.ship(subject)
        return self.world.settle()

    def shown(self, name: str) -> dg.AssetMaterialization:
        event = self.world.instance.get_latest_materialization_event(dg.AssetKey(["zoo", name]))
        assert event is not None and event.asset_materialization is not None, name
        return event.asset_materialization

    def not_fresh(self) -> dict[str, str]:
        """Assets that Dagster shows as out of date, each with the causes."""
        graph = self.world.defs.get_repository_def().asset_graph
        resolver = CachingStaleStatusResolver(self.world.instance, graph, LoadingContextForTest(self.world.instance))
        return {
            stage.name: str([cause.reason for cause in resolver.get_stale_causes(key)])
            for stage in CHAIN
            if resolver.get_status(key := dg.AssetKey(["zoo", stage.name])) != StaleStatus.FRESH
        }

    def run_page(self) -> tuple[dg.DagsterRun, set[str]]:
        """The newest run, and the types of its events."""
        run = self.world.instance.get_runs(limit=1)[0]
        told = (entry.dagster_event for entry in self.world.instance.all_logs(run.run_id))
        return run, {event.event_type_value for event in told if event}

    def failed(self) -> set[str]:
        """Assets that Dagster shows as failed: their last run failed, and no materialization followed."""
        found = set()
        for stage in CHAIN:
            entry = self.world.instance.get_asset_records([dg.AssetKey(["zoo", stage.name])])[0].asset_entry
            run = self.world.instance.get_run_record_by_id(entry.last_run_id or "")
            last = entry.last_materialization_record
            if run is None or run.dagster_run.status != dg.DagsterRunStatus.FAILURE or last is None:
                continue
            if last.run_id != run.dagster_run.run_id and last.timestamp < (run.end_time or 0.0):
                found.add(stage.name)
        return found

    def judged(self, name: str, check: str | None = None) -> tuple[bool, bool]:
        """A stage's check: (whether it targets the latest materialization, whether it passed)."""
        instance = self.world.instance
        key = dg.AssetCheckKey(dg.AssetKey(["zoo", name]), check or CHECKS[name])
        record = instance.event_log_storage.get_latest_asset_check_execution_by_key([key])[key]
        evaluation = record.evaluation
        assert evaluation is not None
        current = asyncio.run(record.targets_latest_materialization(LoadingContextForTest(instance)))
        return current, evaluation.passed

    def get(self, url: str) -> int:
        """The HTTP status of a URL, as a browser sees it; for MLflow's pages, that of their script's API call."""
        address, _, route = url.partition("#")
        if route:
            path = route.split("?")[0].strip("/").split("/")
            api = f"{address}api/2.0/mlflow"
            if path[0] == "models":
                return self._status(f"{api}/model-versions/get?name={path[1]}&version={path[3]}")
            if "artifacts" not in path:
                return self._status(f"{api}/runs/get?run_id={path[3]}")
            artifact = urllib.parse.quote("/".join(path[5:]))
            return self._status(f"{address}get-artifact?path={artifact}&run_uuid={path[3]}")
        return self._status(address)

    def html(self, url: str) -> str:
        """The artifact that MLflow's page at this address shows."""
        address, _, route = url.partition("#")
        path = route.split("?")[0].strip("/").split("/")
        file = f"{address}get-artifact?path={urllib.parse.quote('/'.join(path[5:]))}&run_uuid={path[3]}"
        with urllib.request.urlopen(file, timeout=CEILING_S) as answer:
            return str(answer.read().decode())

    def review(self, url: str) -> Review:
        """The review beside the page at this address, for programs."""
        return Review.model_validate_json(self.html(url.replace(PAGE, FILE)))

    def _status(self, url: str) -> int:
        try:
            with urllib.request.urlopen(url, timeout=CEILING_S) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    def mlflow_answers(self) -> None:
        def answers() -> bool:
            assert self.server.poll() is None, "it lives"
            with suppress(OSError):
                return self._status(f"{self.mlflow}/health") == 200
            return False

        wait_for("MLflow", answers)

    @property
    def production(self) -> str:
        serving = self.world.ledger.serving("zoo", "production")
        assert serving is not None
        return serving.release

    def version(self, number: int) -> Any:
        return self.api(f"model-versions/get?name=zoo&version={number}")["model_version"]

    def mlflow_run(self, run_id: str) -> "MlflowRun":
        run = self.api(f"runs/get?run_id={run_id}")["run"]
        tags, params, metrics = (
            {p["key"]: p["value"] for p in run["data"].get(name, [])} for name in ("tags", "params", "metrics")
        )
        used = {
            d["dataset"]["name"]: next(t["value"] for t in d["tags"] if t["key"] == "mlflow.data.context")
            for d in run["inputs"].get("dataset_inputs", [])
        }
        return MlflowRun(tags, params, metrics, used)

    def evaluation(self, stage: str, revision: str | None = None) -> "MlflowRun":
        """The MLflow run of a revision's evaluation."""
        record = self.world.ledger.records_of("zoo", revision or self.project.head)[stage]
        return self.mlflow_run(self.world.clients.tracking.find("zoo", record.key))

    def check(self, name: str) -> dg.AssetCheckEvaluation:
        """The newest evaluation of a stage's check."""
        key = dg.AssetCheckKey(dg.AssetKey(["zoo", name]), CHECKS[name])
        found = self.world.instance.event_log_storage.get_latest_asset_check_execution_by_key([key])[key].evaluation
        assert found is not None
        return found

    def api(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.mlflow}/api/2.0/mlflow/{path}", timeout=CEILING_S) as answer:
            return json.load(answer)


class MlflowRun(NamedTuple):
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]
    datasets: dict[str, str]


@pytest.fixture(scope="module")
def pages(make_world: Callable[..., World], make_project: Callable[[], Project]) -> Iterator[Pages]:
    made = Pages(make_world, make_project())
    made.mlflow_answers()  # two processes that create MLflow's database at once conflict
    made.project.push()
    assert made.world.settle().failures == ""
    yield made
    made.server.terminate()
    made.server.wait()


def test_a_run_shows_its_commit_and_its_reason(pages: Pages) -> None:
    tags = pages.world.instance.get_runs()[-1].tags
    assert tags["llmops/commit"] == f"{pages.project.head[:12]} First commit"
    assert tags["llmops/why"] == "first run of this project"
    assert tags["llmops/revision"] == pages.project.head


def test_every_materialization_shows_its_commit_and_author(pages: Pages) -> None:
    for name in (*STAGES, "repository", "data"):
        told = {k: v.value for k, v in pages.shown(name).metadata.items()}
        assert (told["commit"], told["subject"]) == (pages.project.head, "First commit"), name
        assert told["author"] == "Ada <ada@example.com>", name
        assert name not in STAGES or told["made_by"] == "this run", name


def test_every_link_leads_somewhere(pages: Pages) -> None:
    pages.mlflow_answers()
    links = {
        f"{name}.{key}": str(value.value)
        for name in STAGES
        for key, value in pages.shown(name).metadata.items()
        if isinstance(value, dg.UrlMetadataValue)
    }
    assert {"evaluation_report.report", "served_evaluation_report.report", "fine_tuned_checkpoint.mlflow_run",
            "registered_model.mlflow_model", "staging_endpoint.models_page"} <= set(links)  # fmt: skip
    assert {name: pages.get(url) for name, url in links.items()} == dict.fromkeys(links, 200)


def test_mlflow_shows_what_a_run_trained_on_and_who_changed_it(pages: Pages) -> None:
    pages.mlflow_answers()
    experiment = pages.api("experiments/get-by-name?experiment_name=zoo")["experiment"]
    assert {"key": "mlflow.experimentKind", "value": "custom_model_development"} in experiment["tags"]
    record = pages.world.ledger.records_of("zoo", pages.project.head)["fine_tuned_checkpoint"]
    run = pages.mlflow_run(record.mlflow_run_id)  # type: ignore[union-attr]
    assert "loss" in run.metrics and {"learning_rate", "lora.r", "base_model", "data_version"} <= set(run.params)
    assert "First commit" in run.tags["mlflow.note.content"] and run.tags["mlflow.user"] == "Ada <ada@example.com>"
    assert run.tags["mlflow.source.name"] == str(pages.project.remote)
    assert run.datasets == {"data/train.jsonl": "training", "validation rows": "validation"}
    assert "First commit" in pages.version(1)["description"]
    assert pages.api("registered-models/get?name=zoo")["registered_model"]["description"]


def test_each_evaluation_is_a_run_of_its_own_with_its_outcome(pages: Pages) -> None:
    """A checkpoint's evaluations all wrote into the run of its training: figures of a rejected commit replaced those of
    the released one."""
    records = pages.world.ledger.records_of("zoo", pages.project.head)
    release = pages.production
    for stage, metric in (
        ("evaluation_report", "evaluation/perplexity"),
        ("served_evaluation_report", "served/rougeL"),
    ):
        run = pages.evaluation(stage)
        assert run.tags["mlflow.parentRunId"] == records["fine_tuned_checkpoint"].mlflow_run_id  # type: ignore[union-attr]
        assert metric in run.metrics and run.datasets == {"data/test.jsonl": "evaluation"}
        told = tuple(run.tags[f"llmops.{name}"] for name in ("commit", "release", "outcome"))
        assert told == (pages.project.head, release, "released")
    tags = {t["key"]: t["value"] for t in pages.version(1)["tags"]}
    assert (tags["llmops.release"], tags["llmops.outcome"]) == (release, "released")
    aliases = pages.api("registered-models/get?name=zoo")["registered_model"]["aliases"]
    assert {a["alias"]: a["version"] for a in aliases} == {"champion": "1", "staging": "1"}


def test_a_check_shows_its_reasons_also_when_it_passes(pages: Pages) -> None:
    events = pages.world.instance.all_logs(
        pages.world.instance.get_runs()[-1].run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION
    )
    said = {}
    for entry in events:
        assert entry.dagster_event is not None
        evaluation = entry.dagster_event.asset_check_evaluation_data
        if evaluation.check_name != EVIDENCE_CHECK:
            said[evaluation.asset_key.path[-1]] = evaluation.description or ""
    assert "limit 1,000,000,000" in said["evaluation_report"]
    assert "token ids equal those of training" in said["served_evaluation_report"]
    assert "tests: 1 passed" in said["ci_report"]


def test_after_a_release_nothing_is_out_of_date(pages: Pages) -> None:
    assert pages.not_fresh() == {}


def test_a_commit_that_no_stage_reads_makes_nothing_out_of_date(pages: Pages) -> None:
    pages.project.write("README.md", "# Words\n")
    assert pages.ship("Words").runs == []
    assert pages.not_fresh() == {}
    assert pages.shown("repository").metadata["subject"].value == "Words"
    ci = pages.shown("ci_report")
    assert (ci.tags or {})["reused"] == "true" and ci.metadata["subject"].value == "Words"
    assert str(ci.metadata["made_by"].value).startswith("reused from ")
    assert pages.judged("ci_report") == (True, True), "its verdict is still shown"


def test_a_commit_whose_own_tests_fail_is_rejected_and_says_why(pages: Pages) -> None:
    """Its run completes all selected stages, and none of them depends on the report: the request was closed as done."""
    pages.project.write("tests/test_nothing_is_broken.py", "def test_it():\n    assert 2 + 2 == 5\n")
    outcome = pages.ship("Break a test")
    request = pages.world.ledger.requests("zoo")[-1]
    assert request.status == "rejected" and request.detail == "ci_report: tests: 1 failed"
    assert outcome.materialized == {"ci_report"}
    assert "ci_report: tests: 1 failed" in outcome.skips["zoo:git"]
    assert pages.not_fresh() == {}, "what stands on it and was not asked for is no worse than it was"
    pages.project.git("revert", "--no-edit", "HEAD")
    pages.project.push()
    pages.world.settle()
    assert pages.world.ledger.requests("zoo")[-1].status == "done"


def test_a_rejected_run_is_no_crash_and_its_page_says_why(pages: Pages) -> None:
    """A rejection was a failed run: red, with STEP_FAILURE and a stack trace, like a crash in the list of runs."""
    pages.project.configure({"gates": [{"metric": "perplexity", "at_most": 1.0}]})
    pages.project.write("prompts/ask.jinja", "Another question: {{ input }}\n")
    outcome = pages.ship("Too strict")
    assert list(outcome.refusals) == ["staging_endpoint"] and "limit 1" in outcome.refusals["staging_endpoint"]
    assert pages.world.ledger.requests("zoo")[-1].status == "rejected"
    run, events = pages.run_page()
    assert (run.status, run.tags[OUTCOME_TAG]) == (dg.DagsterRunStatus.SUCCESS, "rejected")
    assert "STEP_FAILURE" not in events and "STEP_SKIPPED" in events, "and what stands on it does not run"
    assert pages.failed() == set()
    assert pages.judged("staging_endpoint", EVIDENCE_CHECK) == (True, False)
    assert pages.evaluation("evaluation_report").tags["llmops.outcome"] == "rejected"
    before = pages.evaluation("evaluation_report", pages.project.git("rev-parse", "HEAD~1"))
    assert before.tags["llmops.outcome"] == "released" and before.metrics, "the released evaluation is another run"
    assert pages.world.settle().runs == [], "it is not retried"


def test_what_a_rejected_commit_left_red_is_whole_again_with_its_revert(pages: Pages) -> None:
    """Production served the restored commit's release throughout, yet its page stayed red until the next release. The
    checks of the stages that the rejected run had planned and skipped are those of the result that is used again."""
    pages.project.git("revert", "--no-edit", "HEAD")
    pages.project.push()
    outcome = pages.world.settle()
    assert outcome.failures == "" and "smoke_test_report" not in outcome.materialized, "it is reused without a run"
    assert pages.failed() == set()
    for stage in ("evaluation_report", "smoke_test_report", "release_approval"):
        assert pages.judged(stage) == (True, True), stage
    assert pages.judged("staging_endpoint", EVIDENCE_CHECK) == (True, True)
    assert pages.not_fresh() == {}
    assert pages.shown("production_endpoint").metadata["outcome"].value == "promoted"


def test_after_a_revert_the_gates_show_the_verdict_that_counted(pages: Pages) -> None:
    """The check of a reused report was copied from the run that had computed it, and the report kept that run's column
    of the champion: after a revert both named another champion, with other figures, than the verdict in the ledger."""
    gate = {"metric": "perplexity", "no_worse_than": "champion", "margin": "100000%"}
    pages.project.write("prompts/ask.jinja", "Another question: {{ input }}\n")
    pages.project.configure({"gates": [gate, {**gate, "of": "served"}]})
    assert pages.ship("The other question").failures == ""
    replaced, revision = pages.production, pages.project.head
    pages.project.write("prompts/ask.jinja", "Question: {{ input }}\n")
    pages.project.configure({"evaluation": {"slices": ["kind"]}})  # what is shown is no part of what is measured
    outcome = pages.ship("The first question again")
    assert outcome.failures == "" and not outcome.computed & {"evaluation_report", "served_evaluation_report"}
    for stage in ("evaluation_report", "served_evaluation_report"):
        verdicts = pages.world.ledger.verdicts("zoo", pages.project.head)
        acted_on = [v for by, v in verdicts if by == "production_endpoint" and v.check == f"{stage}:gates"][-1]
        check = pages.check(stage)
        assert acted_on.champion == replaced
        assert check.metadata["champion"].value == short(replaced) and check.description == acted_on.text
        champion = pages.world.ledger.records_of("zoo", revision)[stage].value("perplexity")  # type: ignore[union-attr]
        [row] = [r for r in check.metadata["comparison"].records if r.data["metric"] == "perplexity"]  # type: ignore[union-attr]
        assert row.data["champion"] == figure(champion)
        assert pages.judged(stage) == (True, True)
        page, report = (str(m["report"].value) for m in (check.metadata, pages.shown(stage).metadata))
        assert MaterializationHistory(pages.world.instance, "zoo").judged_page(stage) == page
        assert "Champion" in pages.html(page) and "Champion" not in pages.html(report)
        assert "No test row has the column kind" in pages.html(page)
        review = pages.review(page)
        assert review.champion and (review.champion.release, review.champion.revision) == (replaced, revision)
        assert (review.outcome, review.reasons) == ("passed", acted_on.reasons)
        compared = {f.metric: f for f in review.figures}["rougeL"]
        assert compared.champion and compared.champion.low is not None and compared.difference
        assert review.regressions and review.regressions.metric == "rougeL"
        assert review.regressions.lost + review.regressions.won + review.regressions.equal == 6
        lines = pages.html(page.replace(PAGE, REGRESSIONS)).splitlines()
        assert len(lines) == review.regressions.lost + review.regressions.won
        assert review.data and review.data.text == "the same rows in the same splits"
        assert review.prompts and "-Another question: {{ input }}\n+Question: {{ input }}" in review.prompts[0].diff
        assert [(c.key, c.after) for c in review.configuration or ()] == [("evaluation.slices", "kind")]
        assert [c.subject for c in review.commits] == ["The first question again"]
        assert review.authors == ("Ada <ada@example.com>",)
        assert review.cost and review.cost.cost is None and "no price configured" in review.cost.note
        links = {link.name: link.url for link in review.links}
        assert pages.get(links["MLflow run"]) == 200 and any(name.startswith("staging") for name in links)
        assert "Another question" in str(check.metadata["review"].value)


def test_a_review_compares_with_the_champion_of_its_verdict_and_not_of_the_moment(pages: Pages) -> None:
    """The page of a verdict that was made before a promotion was compared with the release that had been promoted,
    which was often the judged one itself: no row was lost, none won."""
    world, head = pages.world, pages.project.head
    acted_on = next(v for _, v in world.ledger.verdicts("zoo", head) if v.check == "evaluation_report:gates")
    assert acted_on.champion is not None and acted_on.champion != pages.production
    source = world.clients.sources(world.settings.projects[0])
    at = source.at(head)
    resolved = world.ledger.resolve(at.values)
    run = PlannedRevision(source.project, source, world.ledger, world.clients.store, head, at, resolved)
    record = resolved.records["evaluation_report"]
    assert isinstance(record, Measured)
    review = review_of(run, record, acted_on).review
    assert review.champion and review.champion.release == acted_on.champion and review.regressions
    lost = resolved.records["dataset_version"].model_copy(update={"uri": "artifacts/" + "0" * 64})
    run.resolved = resolved.model_copy(update={"records": {**resolved.records, "dataset_version": lost}})
    review = review_of(run, record, acted_on).review
    assert review.outcome == acted_on.outcome and review.regressions and "cannot be read" in " ".join(review.notes)


def test_a_promoted_rollout_shows_each_step_with_its_weight_and_figures(pages: Pages) -> None:
    metadata = pages.shown("production_endpoint").metadata
    [step] = [row.data for row in metadata["rollout"].records]  # type: ignore[union-attr]
    assert (step["weight"], step["outcome"]) == ("50%", "passed") and "error_rate" in str(step["figures"])
    history = [row.data for row in metadata["rollouts"].records]  # type: ignore[union-attr]
    assert [row["outcome"] for row in history] == ["promoted"] * 3
    assert history[0]["commit"] == short(pages.project.head) and history[0]["release"] == short(pages.production)


def test_a_rollout_that_was_cancelled_leaves_a_trace_on_production_once(pages: Pages) -> None:
    """It materialized nothing, so the page of production_endpoint did not show that it had ever begun."""
    ledger, head, candidate = pages.world.ledger, pages.project.head, "f" * 64
    state = begin(candidate, pages.production, RolloutPolicy())
    identity, version = ledger.begin_rollout("zoo", head, state)
    state = advance(state, Judgement(status="passed", reasons=("error_rate 0% of 60",), answers=60))
    version = ledger.save_rollout(identity, version, state)
    cancelled = state.model_copy(update={"status": "returned", "reasons": ("cancelled by a person",)})
    ledger.save_rollout(identity, version, cancelled)
    for _ in range(2):
        pages.world.tick("zoo_recovery")
    records = pages.world.instance.fetch_observations(dg.AssetKey(["zoo", "production_endpoint"]), 10).records
    [observed] = [o for r in records if (o := r.asset_observation) is not None]
    assert observed.description == f"Release {short(candidate)} was returned: cancelled by a person"
    steps = [row.data for row in observed.metadata["rollout"].records]  # type: ignore[union-attr]
    assert [(s["weight"], s["outcome"], s["figures"]) for s in steps] == [
        ("10%", "passed", "error_rate 0% of 60"),
        ("50%", "interrupted", "cancelled by a person"),
    ]
    newest = observed.metadata["rollouts"].records[0].data  # type: ignore[union-attr]
    assert (newest["outcome"], newest["why"]) == ("returned", "cancelled by a person")


def test_each_run_is_tagged_with_its_outcome_in_the_ledger(pages: Pages) -> None:
    """Dagster's list of runs knew success and failure only: rejected commits could not be found in it."""
    requests = {r.name: r.status for r in pages.world.ledger.requests("zoo")}
    tagged = {run.tags[REQUEST_TAG]: run.tags.get(OUTCOME_TAG) for run in pages.world.instance.get_runs()}
    assert tagged == {name: status for name, status in requests.items() if name in tagged}
    assert {"released", "rejected", "done"} <= set(tagged.values())
