"""What ci_report's verdict says when the settings change after the report was made."""

from collections.abc import Callable

import dagster as dg

from llmops_assets.domain.policy_floor import PolicyFloor
from tests.support.projects import Outcome, Project, World


def passes(run: dg.ExecuteInProcessResult) -> tuple[bool, str]:
    assert run.success, Outcome.of(run).failures
    [check] = [c for c in run.get_asset_check_evaluations() if c.check_name == "passes"]
    return check.passed, str(check.description)


def test_a_licence_floor_of_the_settings_holds_for_reports_that_exist_and_no_commit_widens_it(
    make_project: Callable[[], Project], make_world: Callable[..., World]
) -> None:
    project = make_project()
    licences = {"allow": ["MIT", "GPL-3.0-only"]}
    checks = {"tests": False, "ruff": False, "secrets": False, "licences": licences}
    project.ship("Its own list", {"ci": checks, "model": {"license": "gpl-3.0-only"}})
    world = make_world(project)
    world.source().git.fetch()
    assert passes(world.materialize("zoo", "ci_report"))[0]
    made = world.ledger.edges("zoo", project.head)["ci_report"].key

    floor = PolicyFloor.model_validate({"licences": {"allow": ["MIT", "Apache-2.0"]}})
    floored = World(world.home, project, policy=floor)
    passed, said = passes(floored.materialize("zoo", "ci_report"))
    why = "licences: the base model: its licence gpl-3.0-only is not in policy.licences.allow of the settings"
    assert not passed and why in said, said
    assert floored.ledger.edges("zoo", project.head)["ci_report"].key == made, "nothing was checked again"
    refused = Outcome.of(floored.materialize("zoo", "container_image")).refusals
    assert why in refused["container_image"], refused
    beyond = "ci.licences.allow: GPL-3.0-only may not be used; allowed: MIT, Apache-2.0"
    code, told = floored.llmops("check")
    assert code == 1 and beyond in told and "licences of base model and locked packages: MIT, Apache-2.0" in told
    code, told = floored.llmops("plan")
    assert f"the settings' policy floor applies: {beyond}" in told, told
