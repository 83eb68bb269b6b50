"""`llmops code-host`: says whether a project's commits can be answered on its code host, and what its token lacks."""

import typer

from llmops_assets.cli.context import AsJson, CommandContext, CommandRefused, OptionalProject, answers, emit
from llmops_assets.cli.tables import say
from llmops_assets.config.yaml_validation import ConfigError

app = typer.Typer()


@app.command("code-host")
def code_host(project: OptionalProject = None, as_json: AsJson = False) -> None:
    """Try what the code host's token may do, and say what it lacks. Nothing is posted."""
    from llmops_assets.delivery.code_host import CodeHostAnswers
    from resources.code_hosts.interface import HostRefuses, HostUnavailable

    with answers():
        here = CommandContext(project, fetch=False)
        name = here.project.name
        if here.project.code_host is None:
            raise CommandRefused(f"{name} has no code host; add `code_host` to it in the settings")
        told = CodeHostAnswers(here.project, here.clients)
        try:
            found = told.verify()
        except (HostUnavailable, HostRefuses) as error:
            raise ConfigError([f"{told.place}: {error}"]) from error
        if as_json:
            emit({"place": told.place, "permissions": [p.model_dump() for p in found]})
        else:
            say(told.place, style="bold")
            for one in found:
                mark = {True: "yes", False: "no", None: "unknown"}[one.granted]
                say(f"{one.what}: {mark}" + (f": {one.detail}" if one.detail else ""), 2, "red" if mark == "no" else "")
        if lacking := [p.what for p in found if p.granted is False and p.needed]:
            raise CommandRefused(f"the token may not {', '.join(lacking)}")
