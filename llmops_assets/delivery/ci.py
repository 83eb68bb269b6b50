"""The CI stage's checks of one tree of a project's files: what the stage `ci_report` and `llmops ci` share.

llmops.yaml, and the prompts and smoke tests that it names, are checked here; tools run in the program `ci`.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from llmops_assets.catalog import TRAINING_METHODS
from llmops_assets.config.ci import Ci
from llmops_assets.config.compute import ComputeSettings
from llmops_assets.config.documents import CONFIG_BYTES, PROMPT_BYTES, DocumentError, read_text
from llmops_assets.config.project import CONFIG_FILE, ProjectConfig, load_config
from llmops_assets.config.smoke_tests import parse_smoke_tests
from llmops_assets.config.yaml_validation import ConfigError
from llmops_assets.delivery.ci_kubernetes import check_manifests
from llmops_assets.delivery.ci_licences import check_licences
from llmops_assets.delivery.code_rules import code_rules
from llmops_assets.domain.findings import MOST_RECORDED, Finding, finding, located
from llmops_assets.domain.junit import junit_of
from llmops_assets.domain.prompt import PromptError, render_prompt
from llmops_assets.domain.records import Check
from llmops_assets.domain.sarif import sarif_of
from llmops_assets.machine.redaction import redacted
from llmops_assets.programs.ci import check as program
from llmops_assets.programs.ci_checks.check_run import listed
from llmops_assets.programs.ci_checks.tests import JUNIT as OF_TESTS
from llmops_assets.programs.runtime.entry import ProgramRun, prepare_environment
from llmops_assets.programs.runtime.errors import BadInput
from llmops_assets.programs.runtime.specs import CiCommandSpec, CiResult, CiSpec
from resources.project_environments.environments import Environment, ProjectEnvironments
from resources.project_environments.requirements import REQUIREMENTS, UV_LOCK
from resources.project_environments.uv import NotBuilt
from resources.project_source.folder_check import check_folder

SARIF, JUNIT = "report.sarif", "junit.xml"
ENVIRONMENT = "environment"
CONFIGURATION, PROMPT, TRAINING_PROMPT, SMOKE_TESTS = "configuration", "prompt", "training.prompt", "smoke_tests"


def ci_spec(
    ci: Ci,
    compute: ComputeSettings,
    tree: Path,
    base_tree: Path | None = None,
    base: str = "",
    untracked: bool = False,
) -> CiSpec:
    """The specification of the program `ci`.

    Args:
        tree: the project's files, as `CiSpec.work_tree`.
        base_tree: the files of the revision whose secrets are not new.
        base: its name.
        untracked: also check files that Git would add.
    """
    return CiSpec(
        work_tree=str(tree),
        untracked=untracked,
        ignore=ci.ignore,
        ruff=ci.ruff,
        tests=ci.tests is not False,
        tests_required=ci.tests == "required",
        secrets=ci.secrets,
        types=ci.types,
        commands=tuple(CiCommandSpec.model_validate(c.model_dump(mode="json")) for c in ci.commands),
        base_tree=str(base_tree) if base_tree is not None else None,
        base=base,
        timeout_s=compute.ci_timeout,
        code=code_rules(compute),
    )


def in_environment(spec: CiSpec, built: Environment | None) -> CiSpec:
    return spec if built is None else spec.model_copy(update={"environment": str(built.folder)})


@contextmanager
def project_environment(
    ci: Ci, tree: Path, environments: ProjectEnvironments | None
) -> Iterator[tuple[Check, Environment | None]]:
    """The environment for the project's own code, and the check that says which one it is.

    Args:
        environments: where they are built; None: nowhere.

    Raises:
        IndexUnreachable: its packages could not be fetched now.
    """
    own = "tests run in our own environment: "
    started = time.monotonic()
    with ExitStack() as stack:
        built, found = None, []
        if environments is None:
            summary = own + "none is built for projects here (compute.project_environments)"
        else:
            try:
                built = stack.enter_context(environments.of(tree, ci.ignore))
                summary = own + f"the project has neither {UV_LOCK} nor a {REQUIREMENTS} with hashes"
            except NotBuilt as error:
                # In another environment than the locked one, tests that pass would show nothing.
                found = [finding(ENVIRONMENT, "not-built", error.why, error.file, error.line)]
                summary = f"{found[0].text}; {own.removesuffix(': ')}"
        if built is not None:
            summary = f"{built.lock}: {built.packages} packages, environment {built.digest[:12]}"
        check = Check(
            name=ENVIRONMENT,
            passed=not found,
            summary=summary,
            detail=listed(found),
            seconds=time.monotonic() - started,
            findings=tuple(found),
        )
        yield check, built


def ci_of(tree: Path) -> Ci:
    """The `ci` of a tree's llmops.yaml; the defaults if that is invalid, which `configuration_checks` reports."""
    try:
        return load_config(tree / CONFIG_FILE).ci
    except ConfigError:
        return Ci()


def all_checks(spec: CiSpec, environment: Check, built: Environment | None, result: CiResult) -> tuple[Check, ...]:
    """The checks of the program, and before them those that read files and run nothing.

    Args:
        environment: see `project_environment`.
    """
    tree = Path(spec.work_tree)
    try:
        config = load_config(tree / CONFIG_FILE)
    except ConfigError:
        config = None
    manifests = check_manifests(tree, spec.ignore, spec.untracked)
    return (
        *configuration_checks(tree),
        *([manifests] if manifests is not None else []),
        check_licences(config, tree, built),
        environment,
        *result.checks,
    )


def configuration_checks(tree: Path) -> tuple[Check, ...]:
    """Checks llmops.yaml and what it names; prompts are rendered, and smoke tests parsed."""
    try:
        config = load_config(tree / CONFIG_FILE)
    except ConfigError as error:
        return (_failed(CONFIGURATION, [_located(tree, p, CONFIGURATION, (CONFIG_FILE,)) for p in error.problems]),)
    named = _named(config)
    found: list[Finding] = []
    try:
        check_folder(tree)
    except ConfigError as error:
        files = (CONFIG_FILE, *named.values(), *_other_files(config))
        found = [_located(tree, problem, CONFIGURATION, files) for problem in error.problems]
    checks = [_checked(tree, check, file, found) for check, file in named.items()]
    own = [f for f in found if f.file not in named.values()]
    valid = Check(name=CONFIGURATION, passed=True, summary="llmops.yaml and the files that it names are valid")
    return (_failed(CONFIGURATION, own) if own else valid, *checks)


def check_tree(
    spec: CiSpec, ci: Ci, folder: Path, environments: ProjectEnvironments | None
) -> tuple[tuple[Check, ...], dict[str, str], Path]:
    """Runs all checks in this process: the checks, the versions of their tools, and the folder with both reports.

    Args:
        folder: for logs and reports; it may not exist.
        environments: see `project_environment`.

    Raises:
        ConfigError: isolation is required, and cannot be had.
        SourceError: the packages of the project's lock could not be fetched now.
    """
    prepare_environment()
    folder.mkdir(parents=True)
    job = ProgramRun(folder)
    tree = Path(spec.work_tree)
    with project_environment(ci, tree, environments) as (environment, built):
        try:
            result = program(in_environment(spec, built), job)
        except BadInput as error:
            raise ConfigError([str(error)]) from error
        checks = all_checks(spec, environment, built, result)
    write_reports(job.artifact, checks, result)
    return checks, result.tools, job.artifact


def _named(config: ProjectConfig) -> dict[str, str]:
    """Check → file, of the files that have a check of their own."""
    files = {
        PROMPT: config.prompt,
        TRAINING_PROMPT: config.training_prompt if TRAINING_METHODS[config.training.method].trains else None,
        SMOKE_TESTS: config.deployment.smoke_tests,
    }
    return {check: str(file) for check, file in files.items() if file is not None}


def _other_files(config: ProjectConfig) -> tuple[str, ...]:
    metrics = (m.file for m in config.evaluation.metrics if not isinstance(m, str) and m.file)
    data = (config.data.train, config.data.validation, config.data.test)
    return tuple(str(path) for path in (*metrics, *data) if path)


def _located(tree: Path, problem: str, check: str, files: Sequence[str]) -> Finding:
    return located(problem.removeprefix(f"{tree}/").removeprefix(f"{tree}: "), check, "invalid", files)


def _checked(tree: Path, check: str, file: str, found: Sequence[Finding]) -> Check:
    """The check of a prompt or the smoke tests; with the problems that were found in their file."""
    if wrong := [f.model_copy(update={"tool": check}) for f in found if f.file == file]:
        return _failed(check, wrong)
    try:
        if check == SMOKE_TESTS:
            tests = parse_smoke_tests(read_text(tree / file, CONFIG_BYTES), file).tests
            return Check(name=check, passed=True, summary=f"{len(tests)} tests")
        text = render_prompt(read_text(tree / file, PROMPT_BYTES), "example input")
        return Check(name=check, passed=True, summary=f"renders to {len(text)} characters", detail=text)
    except (DocumentError, PromptError) as error:
        return _failed(check, [located(f"{file}: {error}", check, "invalid", (file,))])
    except ConfigError as error:
        return _failed(check, [located(p, check, "invalid", (file,)) for p in error.problems])


def _failed(check: str, found: Sequence[Finding]) -> Check:
    summary = f"{found[0].text}" if len(found) == 1 else f"{len(found)} problems: {found[0].text}"
    return Check(name=check, passed=False, summary=summary, detail=listed(found), findings=tuple(found))


def write_reports(folder: Path, checks: Sequence[Check], result: CiResult) -> None:
    """Writes report.sarif and junit.xml to the program's artifact folder; again, if a run was killed after that."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SARIF).write_text(redacted(sarif_of(checks, result.tools)), encoding="utf-8")
    tests = folder / OF_TESTS
    (folder / JUNIT).write_bytes(junit_of(checks, tests.read_bytes() if tests.is_file() else None))


def recorded(checks: Sequence[Check]) -> tuple[Check, ...]:
    """Checks as a record holds them: with the first findings of each; all are in the artifact."""
    return tuple(
        c.model_copy(
            update={"findings": c.findings[:MOST_RECORDED], "omitted": c.omitted + len(c.findings[MOST_RECORDED:])}
        )
        for c in checks
    )
