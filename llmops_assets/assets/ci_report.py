"""ci_report: checks the project's code, configuration and prompts before any expensive work.

It is the first stage of every run, so a run that costs more than its budget is decided on here, in Dagster's launchpad.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from llmops_assets.assets.decision_config import (
    BY,
    CHOICES,
    REASON,
    DecisionConfig,
    LaunchpadDecision,
    record_decision,
)
from llmops_assets.config.settings import Settings
from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.delivery.budgets import decide_budget, waiting_for_budget
from llmops_assets.delivery.ci import (
    JUNIT,
    SARIF,
    all_checks,
    ci_spec,
    in_environment,
    project_environment,
    recorded,
    write_reports,
)
from llmops_assets.delivery.ci_licences import licences_found
from llmops_assets.delivery.gate_evidence import verdict_on_ci
from llmops_assets.domain.keys import short
from llmops_assets.domain.records import CiReport
from llmops_assets.domain.verdict import Verdict
from llmops_assets.programs.runtime.specs import CiResult
from llmops_assets.stage.asset import stage_asset
from llmops_assets.stage.execution import StageExecution
from llmops_assets.stage.metadata import checks_metadata
from resources.ledger import Ledger
from resources.project_environments.environments import ENVIRONMENTS, ProjectEnvironments
from resources.project_source.errors import SourceError
from resources.project_source.revisions import ProjectRepository


class BudgetConfig(DecisionConfig):
    """Launchpad config of ci_report: a decision on the run that costs more than its budget."""

    decision: LaunchpadDecision = Field(
        default=LaunchpadDecision.none,
        description="Decision on the commit that waits because its run costs more than its budget. approve: it may "
        "cost what was asked, and proceeds. reject: its request is closed. none: this run decides nothing; earlier "
        "decisions apply.",
    )
    budget: str = Field(
        default="",
        description="Commit that waits for the decision, or at least its first 6 characters, as its message names it. "
        "Required for a decision.",
    )
    reason: str = REASON
    by: str = BY

    def waiting_revision(self, source: ProjectRepository, ledger: Ledger) -> str:
        return waiting_for_budget(ledger, source.project.name, self.budget).revision


def decide(run: StageExecution) -> None:
    """Records a decision of the launchpad on a run's budget, if there is one.

    Raises:
        AwaitingApproval: the decision is a rejection.
    """
    config = run.config
    if not isinstance(config, BudgetConfig) or (choice := CHOICES.get(config.decision)) is None:
        return

    def on_budget(by: str) -> tuple[str, str]:
        done = decide_budget(run.source, run.ledger, run.store, choice, by, config.reason, config.budget).decision
        return f"the budget of {short(done.ask.revision)}", f"{choice} by {done.by}: {done.reason}"

    record_decision(run, config, choice, on_budget)


def make(run: StageExecution) -> CiReport:
    tree = run.source.work_tree(run.revision)
    base, base_tree = _base(run)
    ci, settings = run.at.config.ci, run.settings
    spec = ci_spec(ci, settings.compute, tree, base_tree, short(base) if base else "")
    builds = settings.compute.project_environments and settings.profile == "local"
    environments = ProjectEnvironments(settings.home / ENVIRONMENTS) if builds else None
    with project_environment(ci, tree, environments) as (environment, built):
        done = run.program("ci", in_environment(spec, built))
        result = done.read(CiResult)
        checks = all_checks(spec, environment, built, result)
        licences = licences_found(run.at.config, tree, built)
    write_reports(done.artifact, checks, result)
    artifact = run.store.put(done.artifact)
    return CiReport(
        **run.header,
        checks=recorded(checks),
        base=base or "",
        tools=result.tools,
        licences=licences,
        uri=artifact.uri,
        digest=artifact.digest,
    )


def _base(run: StageExecution) -> tuple[str | None, Path | None]:
    """The commit that production serves and its files: the secrets in it are not new. None: all files are scanned."""
    serving = run.ledger.serving(run.project.name, "production")
    if serving is None:
        return None, None
    try:
        return serving.revision, run.source.work_tree(serving.revision)
    except SourceError as error:
        run.log.warning(f"all files are scanned for secrets, because the commit in production is gone: {error}")
        return None, None


def describe(run: StageExecution, record: CiReport) -> Mapping[str, Any]:
    files = {"sarif": SARIF, "junit": JUNIT} if record.uri else {}
    return {
        **checks_metadata(record.checks),
        **{name: dg.MetadataValue.path(f"{record.uri}/{file}") for name, file in files.items()},
    }


def verdict(run: StageExecution, record: CiReport) -> Verdict:
    return verdict_on_ci(run, record, f"the code of {short(run.revision)}")


def build(project: ProjectSource, settings: Settings) -> dg.AssetsDefinition:
    return stage_asset(
        project,
        settings,
        "ci_report",
        make,
        describe,
        kinds={"python", "pytest"},
        judge=verdict,
        before=decide,
        waits=True,
        config_type=BudgetConfig,
    )
