"""python -m llmops_assets.programs.ci --spec SPEC.json --output DIR

Runs the tools of the CI stage on a project's own code, in a private copy of its revision, isolated where the machine
allows it, and reports their findings. Each check is a module of `ci_checks`. Validating llmops.yaml and what it names
needs no process and belongs in `delivery.ci`.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from llmops_assets.config.ignore_patterns import ignoring
from llmops_assets.domain.records import Check
from llmops_assets.programs.checks.project_code import ISOLATED, files_in_git, not_isolated, private_copy
from llmops_assets.programs.ci_checks.check_run import CheckRun, version_of
from llmops_assets.programs.ci_checks.own_command import check_command
from llmops_assets.programs.ci_checks.ruff import check_ruff
from llmops_assets.programs.ci_checks.secret_scan import check_secrets
from llmops_assets.programs.ci_checks.tests import check_tests
from llmops_assets.programs.ci_checks.types import check_types
from llmops_assets.programs.runtime.entry import ProgramRun, run
from llmops_assets.programs.runtime.errors import BadInput
from llmops_assets.programs.runtime.specs import CiResult, CiSpec, CodeRules

PACKAGES = {"ruff": "ruff", "secrets": "detect-secrets", "tests": "pytest"}
"""Check → the package that is its tool."""


def check(spec: CiSpec, job: ProgramRun) -> CiResult:
    """The whole program.

    Raises:
        BadInput: the work tree does not exist, or isolation is required and cannot be had.
    """
    tree = Path(spec.work_tree)
    if not tree.is_dir():
        raise BadInput("the work tree does not exist", spec.work_tree)
    artifact = job.new_artifact()
    if not (spec.ruff or spec.tests or spec.secrets or spec.types or spec.commands):
        return CiResult(checks=())
    checks = [_isolation(spec.code)]
    ignored = ignoring(spec.ignore)
    names = [name for name in files_in_git(tree, spec.untracked) if not ignored.match_file(name)]
    with private_copy(job.output / "project", tree, names, spec.code) as code:
        copy = CheckRun(code, job.output, spec, artifact)
        # Tools that only read come first: what they read and write, no code of the project has touched.
        steps: tuple[tuple[bool, str, Callable[[], Check]], ...] = (
            (spec.ruff, "ruff", lambda: check_ruff(copy)),
            (spec.secrets, "secrets", lambda: check_secrets(copy, names)),
            (spec.types, "types", lambda: check_types(copy)),
            *((True, command.name, partial(check_command, copy, command)) for command in spec.commands),
            (spec.tests, "tests", lambda: check_tests(copy)),
        )
        for wanted, phase, step in steps:
            if wanted:
                job.progress(phase)
                checks.append(step())
    tools = {c.name: found for c in checks if (found := version_of(PACKAGES.get(c.name, c.name)))}
    return CiResult(checks=tuple(checks), tools=tools)


def _isolation(rules: CodeRules) -> Check:
    why = not_isolated(rules)
    return Check(
        name="isolation",
        passed=why is None,
        summary=ISOLATED if why is None else f"not isolated: {why}",
        severity="error" if why is None else "warn",
    )


if __name__ == "__main__":
    run("ci", CiSpec, check)
