"""ci_report: checks the project's code, configuration and prompts before any expensive work."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from llmops_assets.config.settings import ProjectSource, Settings
from llmops_assets.domain.keys import short
from llmops_assets.domain.prompt import render_prompt
from llmops_assets.domain.records import Check, CiReport
from llmops_assets.domain.verdict import Verdict, judge_checks
from llmops_assets.programs.runtime.specs import CiResult, CiSpec
from llmops_assets.stage.asset import stage_asset
from llmops_assets.stage.code_rules import code_rules
from llmops_assets.stage.execution import StageExecution
from llmops_assets.stage.metadata import checks_metadata


def make(run: StageExecution) -> CiReport:
    config = run.at.config
    spec = CiSpec(
        work_tree=str(run.source.work_tree(run.revision)),
        ruff=config.ci.ruff,
        tests=config.ci.tests is not False,
        tests_required=config.ci.tests == "required",
        timeout_s=run.settings.compute.ci_timeout,
        code=code_rules(run.settings.compute),
    )
    done = run.program("ci", spec)
    result = done.read(CiResult)
    # The revision resolved, so its configuration is valid; rendering shows that the prompts can be served.
    own = [Check(name="configuration", passed=True, summary="llmops.yaml and the files that it names are valid")]
    for name in ("prompt", "training.prompt"):
        if template := run.at.values[name]:
            text = render_prompt(template, "example input")
            own.append(Check(name=name, passed=True, summary=f"renders to {len(text)} characters", detail=text))
    return CiReport(**run.header, checks=(*own, *result.checks))


def describe(run: StageExecution, record: CiReport) -> Mapping[str, Any]:
    return checks_metadata(record.checks)


def verdict(run: StageExecution, record: CiReport) -> Verdict:
    return judge_checks(f"the code of {short(run.revision)}", record.key, record.checks)


def build(project: ProjectSource, settings: Settings) -> dg.AssetsDefinition:
    return stage_asset(
        project,
        settings,
        "ci_report",
        make,
        describe,
        kinds={"python", "pytest"},
        judge=verdict,
    )
