"""Commands about a project's files: check, init, schema."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from llmops_assets.cli.context import CommandContext, CommandRefused, OptionalProject, Revision, answers, out
from llmops_assets.cli.tables import say
from llmops_assets.config.settings import Settings
from llmops_assets.config.settings_file import load_settings
from llmops_assets.config.yaml_validation import ConfigError
from llmops_assets.delivery.code_rules import code_rules
from llmops_assets.delivery.judges import missing_keys
from llmops_assets.delivery.release_policy import release_policy
from llmops_assets.domain.keys import short
from llmops_assets.domain.policy import Policy
from llmops_assets.domain.policy_floor import PolicyFloor, below_floor, floor_in_words
from llmops_assets.programs.checks.project_code import not_isolated
from llmops_assets.programs.runtime.errors import BadInput

app = typer.Typer()


@app.command()
def check(
    project: OptionalProject = None,
    revision: Revision = None,
    path: Annotated[
        Path | None,
        typer.Option(help="Check this folder with an llmops.yaml, including uncommitted changes."),
    ] = None,
) -> None:
    """Validate llmops.yaml, its prompts, smoke tests and data pointers."""
    with answers():
        if path is not None:
            from resources.project_source.folder_check import check_folder, still_to_do

            config = check_folder(path)
            out.print(f"{path / 'llmops.yaml'} is valid: project {config.name}, {len(config.gates)} gates")
            for text in still_to_do(path, config):
                say(f"still to do: {text}")
            try:
                settings = load_settings()
            except ConfigError as error:  # the settings are not needed to check a folder
                say(f"the settings' policy floor was not checked: {error}")
                return
            _warn_of_port(settings)
            for text in missing_keys(settings, config):
                say(f"still to do: {text}")
            stated = config.policy("", {"metrics": config.evaluation.names}, ())
            _say_floor(settings.floors(config.name), stated, str(path / "llmops.yaml"))
            return
        here = CommandContext(project)
        sha = here.revision(revision)
        at = here.source.at(sha)
        if lacking := [problem for part in at.config.parts if (problem := part.missing())]:
            raise ConfigError([f"llmops.yaml at {short(sha)}: {problem}" for problem in lacking])
        missing = here.source.missing_data(at)
        if missing:
            raise CommandRefused(
                f"{short(sha)} is valid, but {', '.join(missing)} is not in the DVC remote yet; run `dvc push`"
            )
        if here.settings.profile == "local" and (keys := missing_keys(here.settings, at.config)):
            raise CommandRefused(f"{short(sha)} is valid, but cannot be evaluated: {'; '.join(keys)}")
        out.print(
            f"{here.project.name} at {short(sha)} is valid: {len(at.config.gates)} gates, "
            f"{len(at.tracked)} data versions"
        )
        _warn_of_port(here.settings)
        say(_isolation(here.settings))
        for text in release_policy(here.source, here.ledger, sha).notes:
            say(f"policy: {text}")
        stated = at.config.policy("", at.values["evaluation"], ())
        _say_floor(here.settings.floors(here.project.name), stated, f"llmops.yaml at {short(sha)}")


def _say_floor(floors: Sequence[PolicyFloor], stated: Policy, where: str) -> None:
    """Prints the floor that applies beside what the project states.

    Raises:
        CommandRefused: the project states less than the floor.
    """
    for text in (text for floor in floors for text in floor_in_words(floor)):
        say(f"policy floor of the settings: {text}")
    if below := [text for floor in floors for text in below_floor(stated, floor)]:
        told = "\n".join(f"{where}: {text}" for text in below)
        raise CommandRefused(f"below the policy floor of the settings, which applies anyway:\n{told}")


def _warn_of_port(settings: Settings) -> None:
    """Says now what would otherwise end the first run, after all its work."""
    from resources.assembly import build_clients

    if problem := build_clients(settings).serving.port_problem():
        say(f"still to do: {problem}")


def _isolation(settings: Settings) -> str:
    """How code of projects runs on this machine.

    Raises:
        CommandRefused: it must be isolated, and cannot be where it runs.
    """
    where = ", in the pod of its step; this is about the machine here" if settings.profile == "cluster" else ""
    try:
        why = not_isolated(code_rules(settings.compute))
    except BadInput as error:
        if where:
            return (
                f"its own code, tests and metrics, {error}{where}: where a pod cannot isolate it either, its run fails"
            )
        raise CommandRefused(str(error)) from error
    return f"its own code, tests and metrics, runs {f'not isolated: {why}' if why else 'isolated'}{where}"


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The project's folder; may be new.")] = Path(),
    name: Annotated[str | None, typer.Option(help="The project's name; default: the folder's name.")] = None,
    base: Annotated[Path | None, typer.Option(help="A model folder, copied to the path in llmops.yaml.")] = None,
    add: Annotated[
        bool, typer.Option("--register", help="Add the project to the settings, so that it is watched.")
    ] = False,
) -> None:
    """Create a runnable project, or add what a folder lacks. Changes no existing file and commits nothing."""
    from llmops_assets.scaffold.next_steps import make_project

    with answers():
        make_project(folder, name, base, add, lambda text: out.print(text, markup=False, soft_wrap=True))


@app.command()
def schema(
    settings: Annotated[bool, typer.Option("--settings", help="The schema of the settings file instead.")] = False,
) -> None:
    """Print the JSON Schema of llmops.yaml, for editors."""
    from llmops_assets.config.json_schema import as_text, project_schema, settings_schema

    with answers():
        print(as_text(settings_schema() if settings else project_schema()), end="")
