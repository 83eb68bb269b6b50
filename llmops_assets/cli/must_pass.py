"""`llmops must-pass`: turns a row of a report into one that every later release must answer, in a clone of the project.

It changes files of the clone and pushes nothing: the commit is proposed and reviewed like any other.
"""

import json
from pathlib import Path
from typing import Annotated

import typer

from llmops_assets.cli.context import CommandContext, CommandRefused, OptionalProject, Revision, answers, out
from llmops_assets.config.project import CONFIG_FILE, ProjectConfig, load_config
from llmops_assets.config.yaml_validation import ConfigError
from llmops_assets.domain.keys import short
from llmops_assets.domain.records import DatasetVersion
from llmops_assets.machine.files import write_atomically
from resources.artifact_store.artifact import StoreError

app = typer.Typer(rich_markup_mode=None)
DEFAULT_FILE = "data/must_pass.jsonl"


@app.command("must-pass")
def must_pass(
    row: Annotated[int, typer.Argument(min=1, help="Number of the test row, as the report's regressions give it.")],
    project: OptionalProject = None,
    revision: Revision = None,
    path: Annotated[Path, typer.Option(help="Your clone of the project.")] = Path(),
) -> None:
    """Add a test row to the rows that each must pass: in your clone, as a change that you commit and push yourself."""
    with answers():
        config = load_config(path / CONFIG_FILE)
        here = CommandContext(project or config.name, fetch=False)
        if here.project.name != config.name:
            raise ConfigError([f"{path / CONFIG_FILE} is of the project {config.name!r}, not {here.project.name!r}"])
        sha = here.source.git.resolve(revision) if revision else _newest(here)
        found = _row(here, sha, row)
        file = _file(config)
        if not _add(path, file, found):
            out.print(f"{file} has this row already", markup=False)
            return
        _track(path, file)
        out.print(f"added row {row} of {short(sha)} to {file}", markup=False)
        if config.evaluation.must_pass is None:
            out.print(
                f"now name it in {CONFIG_FILE}, with the rule that each row must satisfy:\n"
                f"  evaluation:\n    must_pass: {{file: {file}, answer: contains}}",
                markup=False,
            )
        out.print(f"then: dvc push {file} && git add {file}.dvc {CONFIG_FILE} && git commit && git push", markup=False)


def _newest(here: CommandContext) -> str:
    for request in reversed(here.ledger.requests(here.project.name)):
        if "evaluation_report" in here.ledger.records_of(here.project.name, request.revision):
            return request.revision
    raise CommandRefused("no commit of this project was evaluated yet")


def _row(here: CommandContext, sha: str, number: int) -> str:
    """The canonical test row.

    Raises:
        CommandRefused: there is no such row.
    """
    data = here.ledger.resolve(here.source.at(sha).values).records.get("dataset_version")
    if not isinstance(data, DatasetVersion):
        raise CommandRefused(f"{short(sha)} has not been evaluated; name a commit that was, with --revision")
    try:
        folder = here.clients.store.fetch(data.uri)
    except StoreError as error:
        raise CommandRefused(f"the data of {short(sha)} cannot be read: {error}") from error
    lines = (folder / "test.jsonl").read_text(encoding="utf-8").splitlines()
    if number > len(lines):
        raise CommandRefused(f"there is no row {number}: the test data of {short(sha)} have {len(lines)} rows")
    return lines[number - 1]


def _file(config: ProjectConfig) -> str:
    rule = config.evaluation.must_pass
    return rule.file if rule is not None else DEFAULT_FILE


def _add(path: Path, file: str, row: str) -> bool:
    """Writes the row at the end of the file in the clone; False if it is there already.

    Raises:
        ConfigError: DVC tracks the file, and the clone does not have it.
    """
    if not file.endswith(".jsonl"):
        raise ConfigError([f"{file}: rows can be added to a .jsonl file only; evaluation.must_pass.file names it"])
    target = path / file
    if not target.is_file() and (path / f"{file}.dvc").is_file():
        raise ConfigError([f"{target} is not here; run `dvc pull {file}` in your clone first"])
    lines = target.read_text(encoding="utf-8").splitlines() if target.is_file() else []
    if any(line.strip() and json.loads(line) == json.loads(row) for line in lines):
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    # Replaced, never appended to: DVC may have linked the file to its cache.
    write_atomically(target, "".join(f"{line}\n" for line in [*lines, row]))
    return True


def _track(path: Path, file: str) -> None:
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(path)) as repo:
            repo.add([str(path / file)])
    except DvcException as error:
        raise ConfigError([f"{file} was written, but DVC does not track it: {error}"]) from error
