"""Output of `llmops init`: created files, unchanged files, and the next commands."""

import shlex
from collections.abc import Callable
from pathlib import Path

from llmops_assets.config.serving import ServingSettings
from llmops_assets.config.settings_file import load_settings, settings_file
from llmops_assets.config.yaml_validation import ConfigError
from llmops_assets.machine.ports import free_port, is_free
from llmops_assets.scaffold.project import Scaffolded, init
from llmops_assets.scaffold.settings_entry import is_registered, line_for, register
from resources.project_source.folder_check import check_folder, still_to_do


def make_project(folder: Path, name: str | None, base: Path | None, add: bool, say: Callable[[str], None]) -> None:
    """Runs `llmops init` and prints the result.

    Raises:
        ConfigError, SourceError: as `scaffold.project.init` and `settings_entry.register`.
    """
    done = init(folder, name, base, _converter())
    say(f"project {done.name} in {done.folder}")
    if done.within:
        say(f"  it is the folder {done.within} of the Git repository {done.folder.parents[done.within.count('/')]}")
    if done.made:
        say(f"  created: {', '.join(done.made)}")
    if done.kept:
        say(f"  already exists, unchanged: {', '.join(done.kept)}")
    for text in done.did:
        say(f"  {text}")
    watched = (done.name, done.repository, done.branch, done.within)
    if add:
        say(f"  settings: {register(*watched, _another_port())}")
    elif not is_registered(*watched):
        say(f"\nTo watch it, add this to `projects` in {settings_file()} (`llmops init --register` does this):")
        say(f"  {line_for(*watched)}")
    if lacking := what_lacks(done.folder):
        say("\nStill to do before it can run:")
        for text in lacking:
            say(f"  {text}")
    say("\nNext:")
    for command in next_commands(done):
        say(f"  {command}")


def what_lacks(folder: Path) -> list[str]:
    """The problems and missing parts that `llmops check --path` reports."""
    try:
        return still_to_do(folder, check_folder(folder))
    except ConfigError as error:
        return error.problems


def next_commands(done: Scaffolded) -> list[str]:
    """The commands from here to a first release."""
    commands = [] if done.folder == Path.cwd() else [f"cd {shlex.quote(str(done.folder))}"]
    if done.to_add:
        commands += [f"git add {shlex.join(done.to_add)}", 'git commit -m "A project that llmops can run"']
    commands.append("dvc push")
    if done.pushes:
        commands.append(f"git push -u origin {shlex.quote(done.branch)}")
    return [*commands, f"llmops run {done.name} --wait"]


def _another_port() -> int | None:
    """A free port for the gateway if its default one is in use, for example by the demo's; None if it is free."""
    default = ServingSettings()
    return None if is_free(default.host, default.port) else free_port(default.host, default.port + 1, ())


def _converter() -> str | None:
    try:
        return load_settings().compute.llama_cpp
    except ConfigError:
        return None  # `--register` and later commands report missing or invalid settings
