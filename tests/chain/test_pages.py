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
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest

from llmops_assets.domain.chain import CHAIN, STAGES
from tests.support.ports import free_port
from tests.support.projects import Outcome, Project, World
from tests.support.waiting import CEILING_S, wait_for

ENDS = {"staging_endpoint", "smoke_test_report", "release_approval", "production_endpoint", "endpoint_health"}


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

    def judged(self, name: str) -> tuple[bool, bool]:
        """A stage's check: (whether it targets the latest materialization, whether it passed)."""
        instance = self.world.instance
        [key] = [
            k for k in self.world.defs.get_repository_def().asset_graph.asset_check_keys if k.asset_key.path[-1] == name
        ]
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

    def api(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.mlflow}/api/2.0/mlflow/{path}", timeout=CEILING_S) as answer:
            return json.load(answer)


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


def test_mlflow_shows_what_a_run_trained_and_its_metrics(pages: Pages) -> None:
    pages.mlflow_answers()
    experiment = pages.api("experiments/get-by-name?experiment_name=zoo")["experiment"]
    assert {"key": "mlflow.experimentKind", "value": "custom_model_development"} in experiment["tags"]
    record = pages.world.ledger.records_of("zoo", pages.project.head)["fine_tuned_checkpoint"]
    run = pages.api(f"runs/get?run_id={record.mlflow_run_id}")["run"]["data"]  # type: ignore[union-attr]
    assert {m["key"] for m in run["metrics"]} >= {"loss", "evaluation/perplexity", "served/rougeL"}
    assert {p["key"] for p in run["params"]} >= {"learning_rate", "lora.r", "base_model", "data_version"}
    note = next(t["value"] for t in run["tags"] if t["key"] == "mlflow.note.content")
    assert "First commit" in note
    version = pages.api("model-versions/get?name=zoo&version=1")["model_version"]
    assert "First commit" in version["description"]
    assert pages.api("registered-models/get?name=zoo")["registered_model"]["description"]


def test_a_check_shows_its_reasons_also_when_it_passes(pages: Pages) -> None:
    events = pages.world.instance.all_logs(
        pages.world.instance.get_runs()[-1].run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION
    )
    said = {}
    for entry in events:
        assert entry.dagster_event is not None
        evaluation = entry.dagster_event.asset_check_evaluation_data
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


def test_what_a_rejected_commit_left_red_is_green_again_after_its_revert(pages: Pages) -> None:
    """Production served the restored commit's release throughout, yet its page stayed red until the next release."""
    pages.project.configure({"gates": [{"metric": "perplexity", "at_most": 1.0}]})
    pages.project.write("prompts/ask.jinja", "Another question: {{ input }}\n")
    assert "limit 1" in pages.ship("Too strict").failures
    assert pages.world.ledger.requests("zoo")[-1].status == "rejected"
    assert pages.failed() == ENDS
    pages.project.git("revert", "--no-edit", "HEAD")
    pages.project.push()
    assert pages.world.settle().failures == ""
    assert pages.failed() == set()
    assert pages.judged("evaluation_report") == pages.judged("release_approval") == (True, True)
    assert pages.not_fresh() == {}
    assert pages.shown("production_endpoint").metadata["outcome"].value == "promoted"
