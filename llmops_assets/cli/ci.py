"""`llmops ci`: the checks of the stage ci_report on a working copy or a commit, without a home, for any CI system."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from platformdirs import user_cache_path

from llmops_assets.cli.context import AsJson, CommandRefused, answers, emit, out
from llmops_assets.cli.tables import say, show
from llmops_assets.config.project import CONFIG_FILE
from llmops_assets.config.settings_file import load_settings
from llmops_assets.config.yaml_validation import ConfigError
from llmops_assets.domain.formatting import time_span
from llmops_assets.domain.keys import short
from llmops_assets.domain.records import Check
from resources.project_source.errors import SourceError

app = typer.Typer()
MOST_SHOWN = 50
"""Findings of one check on the terminal."""


@app.command()
def ci(
    path: Annotated[Path, typer.Option(help="The project's folder, with uncommitted changes.")] = Path(),
    revision: Annotated[
        str | None, typer.Option(help="Check this commit, branch or tag of its repository instead.")
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            help="Scan only files that differ from this commit or branch for secrets, for example the branch that a "
            "pull request goes to; default: all files."
        ),
    ] = None,
    junit: Annotated[Path | None, typer.Option(help="Write the checks and the project's tests as JUnit XML.")] = None,
    sarif: Annotated[Path | None, typer.Option(help="Write all findings as SARIF 2.1.0.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run the checks of the stage ci_report here: code, secrets, tests, llmops.yaml, prompts. Needs no home.

    Exit code 0 if all passed, 1 if one failed, 2 if they could not be run.
    """
    with answers():
        _check_targets(junit, sarif)
        if not (path / CONFIG_FILE).is_file() and revision is None:
            raise ConfigError([f"{path / CONFIG_FILE}: no such file; name the project's folder with --path"])
        with TemporaryDirectory(prefix="llmops-ci-") as scratch:
            _run(path, revision, base, junit, sarif, as_json, Path(scratch).resolve())


def _run(
    path: Path,
    revision: str | None,
    base: str | None,
    junit: Path | None,
    sarif: Path | None,
    as_json: bool,
    scratch: Path,
) -> None:
    from llmops_assets.delivery.ci import JUNIT, SARIF, check_tree, ci_of, ci_spec
    from resources.project_environments.environments import ENVIRONMENTS, ProjectEnvironments
    from resources.project_source.snapshots import Checkout

    tree, base_tree, of_base = path.resolve(), None, None
    if revision is not None or base is not None:
        checkout = Checkout(path)
        commit = checkout.commit(revision or "HEAD")
        if base is not None:
            of_base = checkout.fork_point(checkout.commit(base), commit)
            base_tree = checkout.export(of_base, scratch / "base")
        if revision is not None:
            tree = checkout.export(commit, scratch / "tree")
            if not (tree / CONFIG_FILE).is_file():
                raise ConfigError([f"{CONFIG_FILE}: no such file at {short(commit)}"])
    compute = load_settings().compute
    own = ci_of(tree)
    environments = (
        ProjectEnvironments(user_cache_path("llmops") / ENVIRONMENTS) if compute.project_environments else None
    )
    spec = ci_spec(own, compute, tree, base_tree, short(of_base) if of_base else "", untracked=revision is None)
    with _progress():
        checks, tools, reports = check_tree(spec, own, scratch / "run", environments)
    for target, made in ((junit, reports / JUNIT), (sarif, reports / SARIF)):
        if target is not None:
            _write(target, made.read_bytes())
    failed = [c.name for c in checks if not c.passed and c.severity == "error"]
    if as_json:
        emit(
            {
                "passed": not failed,
                "revision": commit if revision is not None else None,
                "base": of_base,
                "tools": tools,
                "checks": [c.model_dump(mode="json") for c in checks],
            }
        )
    else:
        _show(checks)
    if failed:
        raise CommandRefused(f"failed: {', '.join(failed)}")


@contextmanager
def _progress() -> Iterator[None]:
    """What the program prints of its progress goes to the terminal, never into the result."""
    with redirect_stdout(sys.stderr):
        yield


def _check_targets(*targets: Path | None) -> None:
    """Says before any work if a report cannot be written.

    Raises:
        ConfigError: it cannot.
    """
    for target in filter(None, targets):
        there = next(p for p in target.absolute().parents if p.exists())
        if target.is_dir() or not there.is_dir() or not os.access(there, os.W_OK):
            raise ConfigError([f"{target}: cannot be written; name a file in a folder that you may write to"])


def _write(target: Path, content: bytes) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    except OSError as error:
        raise SourceError(f"{target}: cannot be written: {error.strerror}") from error


def _result(check: Check) -> str:
    if check.severity == "warn":
        return "warning"
    return "passed" if check.passed else "failed"


def _show(checks: tuple[Check, ...]) -> None:
    show(
        [(c.name, _result(c), time_span(round(c.seconds, 1)), c.summary) for c in checks],
        ("check", "result", "time", "summary"),
    )
    for check in checks:
        if not check.findings and not check.passed and check.detail:
            say(f"\n{check.name}:", style="bold")
            out.print(check.detail, markup=False, soft_wrap=True)
        elif check.findings:
            say(f"\n{check.name}:", style="bold")
            for found in check.findings[:MOST_SHOWN]:
                say(found.text, indent=2)
            if more := len(check.findings[MOST_SHOWN:]) + check.omitted:
                say(f"and {more} more; --sarif writes up to a thousand of them", indent=2)
