"""smoke_test_report: sends the project's smoke tests to staging.

It is an event: it runs for every release of a run, and is never reused.
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from llmops_assets.config.settings import Settings
from llmops_assets.config.smoke_tests import SmokeTest
from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.delivery.gate_evidence import release_now
from llmops_assets.delivery.smoke_tests import check_answer
from llmops_assets.domain.keys import short
from llmops_assets.domain.records import EndpointHealth, SmokeTestReport
from llmops_assets.domain.verdict import Verdict, judge_checks
from llmops_assets.stage.asset import stage_asset
from llmops_assets.stage.execution import StageExecution
from llmops_assets.stage.metadata import checks_metadata
from resources.serving.client import ask

ANSWER_TOKENS = 128
"""Token limit of a smoke test's answer; a model that never stops would block the run for minutes."""
DEFAULT_TESTS = (SmokeTest(name="answers", input="Hello"),)
"""Used if a project has no smoke tests: an endpoint that cannot answer at all is never released."""


def make(run: StageExecution) -> SmokeTestReport:
    release = release_now(run)
    tests = [SmokeTest.model_validate(t) for t in run.at.smoke_tests] or list(DEFAULT_TESTS)
    url = run.serving.base_url(run.project.name, "staging")
    headers = run.serving.candidate_headers(release.digest)
    checks = tuple(
        check_answer(t, ask(url, run.project.name, t.input, headers=headers, max_tokens=ANSWER_TOKENS), release.digest)
        for t in tests
    )
    return SmokeTestReport(**run.header, release=release.digest, checks=checks)


def describe_checks(run: StageExecution, record: SmokeTestReport | EndpointHealth) -> Mapping[str, Any]:
    return {"release": short(record.release), **checks_metadata(record.checks)}


def verdict(run: StageExecution, record: SmokeTestReport) -> Verdict:
    return judge_checks(f"the staged release {short(record.release)}", record.key, record.checks)


def build(project: ProjectSource, settings: Settings) -> dg.AssetsDefinition:
    return stage_asset(
        project,
        settings,
        "smoke_test_report",
        make,
        describe_checks,
        kinds={"openai"},
        judge=verdict,
    )
