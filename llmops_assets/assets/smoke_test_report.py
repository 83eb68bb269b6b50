"""smoke_test_report and endpoint_health: what is asked of a release that is already served.

Each is an event: it happens anew for every release that a run brings, and is never reused.
"""

import re
from collections.abc import Mapping
from typing import Any

import dagster as dg

from llmops_assets.assets.ci_report import checks_metadata
from llmops_assets.config.project import SmokeTest
from llmops_assets.config.settings import ProjectSource, Settings
from llmops_assets.domain.gate import Verdict, judge_checks
from llmops_assets.domain.keys import short
from llmops_assets.domain.records import Check, EndpointHealth, SmokeTestReport
from llmops_assets.stage.asset import stage_asset
from llmops_assets.stage.execution import StageRun
from llmops_assets.stage.gate_evidence import release_now
from resources.serving.client import Answer, ask

ANSWER_TOKENS = 128
"""Upper limit of a smoke test's answer; a model that never stops would hold the run for minutes."""
DEFAULT_TESTS = (SmokeTest(name="answers", input="Hello"),)
"""Asked when a project names no smoke tests of its own: an endpoint that cannot say anything is never released."""


# -- smoke tests ----------------------------------------------------------------------------------------------------


def make_smoke(run: StageRun) -> SmokeTestReport:
    release = release_now(run)
    tests = [SmokeTest.model_validate(t) for t in run.at.smoke_tests] or list(DEFAULT_TESTS)
    url = run.serving.base_url(run.project.name, "staging")
    headers = run.serving.candidate_headers(release.digest)
    checks = tuple(
        check_answer(t, ask(url, run.project.name, t.input, headers=headers, max_tokens=ANSWER_TOKENS), release.digest)
        for t in tests
    )
    return SmokeTestReport(**run.header, release=release.digest, checks=checks)


def check_answer(test: SmokeTest, answer: Answer, release: str | None = None) -> Check:
    """What one answer did not fulfil, all of it."""
    expect = test.expect
    wrong: list[str] = []
    if answer.status != expect.status:
        wrong.append(
            f"status {answer.status}, expected {expect.status}" + (f" ({answer.error[:200]})" if answer.error else "")
        )
    elif expect.status == 200:
        if answer.broken:
            wrong.append(f"the answer broke off: {answer.error[:200]}")
        if not answer.text.strip():
            wrong.append("the answer is empty")
        if release and answer.release != release:
            wrong.append(f"release {short(answer.release or 'unknown')} answered")
    if expect.contains is not None and expect.contains not in answer.text:
        wrong.append(f"it does not contain {expect.contains!r}")
    if expect.matches is not None and not re.search(expect.matches, answer.text):
        wrong.append(f"it does not match {expect.matches!r}")
    if expect.max_latency is not None and answer.latency_s > expect.max_latency:
        wrong.append(f"it took {answer.latency_s:.2f} s, at most {expect.max_latency:g} s were allowed")
    summary = "; ".join(wrong) or f"answered in {answer.latency_s:.2f} s: {answer.text.strip()[:80]!r}"
    return Check(name=test.name, passed=not wrong, summary=summary, detail=answer.text, seconds=answer.latency_s)


def describe_checks(run: StageRun, record: SmokeTestReport | EndpointHealth) -> Mapping[str, Any]:
    return {"release": short(record.release), **checks_metadata(record.checks)}


def verdict_smoke(run: StageRun, record: SmokeTestReport) -> Verdict:
    return judge_checks(f"the staged release {short(record.release)}", record.key, record.checks)


def build_smoke(project: ProjectSource, settings: Settings) -> dg.AssetsDefinition:
    return stage_asset(
        project,
        settings,
        "smoke_test_report",
        make_smoke,
        describe_checks,
        kinds={"openai"},
        checks={"answers": verdict_smoke},
    )


# -- health ---------------------------------------------------------------------------------------------------------


def make_health(run: StageRun) -> EndpointHealth:
    checks: list[Check] = []
    release = ""
    for environment in ("staging", "production"):
        serving = run.ledger.serving(run.project.name, environment)
        if serving is None:
            checks.append(Check(name=environment, passed=True, severity="warn", summary="serves nothing yet"))
            continue
        release = serving.release
        answer = ask(run.serving.base_url(run.project.name, environment), run.project.name, "Hello", max_tokens=8)
        checks.append(check_answer(SmokeTest(name=environment, input="Hello"), answer, serving.release))
    return EndpointHealth(**run.header, release=release, checks=tuple(checks))


def verdict_health(run: StageRun, record: EndpointHealth) -> Verdict:
    return judge_checks(f"the endpoints of {run.project.name}", record.key, record.checks)


def build_health(project: ProjectSource, settings: Settings) -> dg.AssetsDefinition:
    return stage_asset(
        project,
        settings,
        "endpoint_health",
        make_health,
        describe_checks,
        kinds={"openai"},
        checks={"healthy": verdict_health},
    )
