"""endpoint_health: health-checks staging and production with one request each.

The question is ours, so only the endpoint is judged: that the expected release gives a whole answer. A small or narrow
model may end its answer to "Hello" at once; whether answers have text is judged on the project's own questions, by its
smoke tests and the rollout's `empty_rate`.
"""

import dagster as dg

from llmops_assets.assets.smoke_test_report import describe_checks
from llmops_assets.config.settings import Settings
from llmops_assets.config.smoke_tests import SmokeTest
from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.delivery.smoke_tests import check_answer
from llmops_assets.domain.records import Check, EndpointHealth
from llmops_assets.domain.verdict import Verdict, judge_checks
from llmops_assets.stage.asset import stage_asset
from llmops_assets.stage.execution import StageExecution
from resources.serving.client import ask


def make(run: StageExecution) -> EndpointHealth:
    checks: list[Check] = []
    release = ""
    for environment in ("staging", "production"):
        serving = run.ledger.serving(run.project.name, environment)
        if serving is None:
            checks.append(Check(name=environment, passed=True, severity="warn", summary="serves nothing yet"))
            continue
        release = serving.release
        url, headers = run.serving.base_url(run.project.name, environment), run.serving.own_headers()
        answer = ask(url, run.project.name, "Hello", headers=headers, max_tokens=8)
        asked = SmokeTest(name=environment, input="Hello")
        checks.append(check_answer(asked, answer, serving.release, may_be_empty=True))
    return EndpointHealth(**run.header, release=release, checks=tuple(checks))


def verdict(run: StageExecution, record: EndpointHealth) -> Verdict:
    return judge_checks(f"the endpoints of {run.project.name}", record.key, record.checks)


def build(project: ProjectSource, settings: Settings) -> dg.AssetsDefinition:
    return stage_asset(
        project,
        settings,
        "endpoint_health",
        make,
        describe_checks,
        kinds={"openai"},
        judge=verdict,
    )
