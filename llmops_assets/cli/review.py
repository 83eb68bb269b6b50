"""`llmops review`: the report that a reviewer or an approver decides by, in a terminal.

`llmops_assets.delivery.review_summary` gathers it; here it is printed, verdicts first and the commands last.
"""

from typing import Annotated

import typer

from llmops_assets.cli.context import AsJson, CommandContext, CommandRefused, answers, emit, own_settings
from llmops_assets.cli.tables import say, show
from llmops_assets.delivery.review_summary import Decidable, ReportSummary, ReviewSummary, revision_of_report, summarize
from llmops_assets.domain.formatting import figure
from llmops_assets.domain.keys import short
from llmops_assets.domain.requests import newest_planned
from llmops_assets.domain.review import Regressions, Review
from llmops_assets.domain.review_markdown import estimate

app = typer.Typer()
SHOWN_CHARACTERS = 400
"""Of each text of a regression. The report's page has more."""
_SIGNS = (("failed", "failures", "red"), ("undecided", "undecided", "yellow"), ("held", "reasons", "green"),
          ("did not apply", "skipped", "dim"), ("note", "warnings", "yellow"))  # fmt: skip
_OUTCOMES = {"passed": "green", "failed": "red", "undecided": "yellow"}
_STATES = {"approved": "green", "rejected": "red", "waiting": "yellow"}


@app.command()
def review(
    project: Annotated[str | None, typer.Argument(help="Name of the project; optional if there is only one.")] = None,
    what: Annotated[
        str | None,
        typer.Argument(help="A request, a commit, a release, or an evaluation report; default: what waits."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the report that a reviewer decides by, and the commands that approve and reject."""
    with answers():
        here, subject = _which(project, what)
        found = summarize(here.clients, here.source, _revision(here, subject))
        if as_json:
            emit(found.model_dump(mode="json"))
            return
        show_review(found)


def _which(first: str | None, second: str | None) -> tuple[CommandContext, str | None]:
    """The project and what to show. A single word is a project if one has that name; a request names its project."""
    known = [p.name for p in own_settings().projects]
    if second is None and first is not None and first not in known:
        named = first.partition(":")[0]
        return CommandContext(named if named in known else None, fetch=False), first
    return CommandContext(first, fetch=False), second


def _revision(here: CommandContext, subject: str | None) -> str:
    """The revision that is meant: what waits, otherwise the newest planned commit."""
    ledger, name = here.ledger, here.project.name
    requests = ledger.requests(name)
    if subject is None:
        waiting = [r for r in requests if r.status == "waiting"]
        newest = waiting[-1] if waiting else newest_planned(requests)
        if newest is None:
            raise CommandRefused(f"{name} has no request yet, so there is nothing to review")
        return newest.revision
    if (request := ledger.request(subject)) is not None:
        return request.revision
    if (found := ledger.revision_of_release(name, subject)) is not None:
        return found[0]
    if (revision := revision_of_report(here.clients, here.source, subject)) is not None:
        return revision
    return here.source.git.resolve(subject)


def show_review(found: ReviewSummary) -> None:
    say(f"{found.project} at {short(found.revision)}: {found.subject}", style="bold")
    say(f"by {', '.join(found.authors) or 'nobody: the champion has all of its commits'}", 2)
    if not found.reports:
        say("no evaluation report exists yet", 2)
    for report in found.reports:
        _show_report(report)
    _show_changes(found)
    for one in found.decisions:
        _show_decision(one)


def _show_report(report: ReportSummary) -> None:
    review = report.review
    say("")
    say(f"{review.stage}: {review.outcome}", style=_OUTCOMES[review.outcome])
    told = [(word, text, style) for word, field, style in _SIGNS for text in getattr(review, field)]
    for word, text, style in told or [("held", "no gate applies", "dim")]:
        say(f"{word}: {text}", 2, style)
    say(f"{review.rows} rows, measured by {short(report.made_by)}; report {short(report.digest)}", 2, "dim")
    _show_figures(review)
    if review.regressions is not None:
        _show_regressions(
            review.regressions, f"llmops must-pass ROW {review.project} --revision {short(report.made_by)}"
        )
    for note in review.notes:
        say(f"not compared: {note}", 2, "dim")
    show([("page", report.page), *((link.name, link.url) for link in review.links)], indent=2)


def _show_figures(review: Review) -> None:
    champion = f"champion {short(review.champion.release)}" if review.champion else "champion"
    columns = [("this model", "value"), (champion, "champion"), ("unquantized", "unquantized"),
               ("difference", "difference")]  # fmt: skip
    shown = [(name, field) for name, field in columns if any(getattr(f, field) is not None for f in review.figures)]
    rows = [
        (
            f.metric,
            *(estimate(getattr(f, field)) for _, field in shown),
            f"{'high' if f.higher_is_better else 'low'}er",
        )
        for f in review.figures
    ]
    show(rows, ("metric", *(name for name, _ in shown), "better"), indent=2)


def _show_regressions(found: Regressions, keep: str) -> None:
    say(f"by {found.metric}: {found.lost} rows lost, {found.won} won, {found.equal} equal", 2)
    for row in found.worst:
        place = f", {row.place}" if row.place else ""
        say(f"row {row.row}{place}: {figure(row.score)}, the champion's {figure(row.other_score)}", 4, "red")
        texts = (("input", row.input), ("expected", row.reference), ("this model", row.prediction),
                 ("champion", row.other))  # fmt: skip
        show([(name, _short(text)) for name, text in texts], indent=6)
    if found.worst:
        say(f"`{keep}`, in a clone of the project, makes a row one that every release must pass", 4, "dim")


def _show_changes(found: ReviewSummary) -> None:
    """What the commit changes: data, configuration, policy. The pages have the details."""
    review = found.reports[0].review if found.reports else None
    rows = [("data", review.data.text)] if review and review.data else []
    for change in (review.configuration if review else None) or ():
        rows.append((change.key, f"{change.before or 'unset'} → {change.after or 'unset'}"))
    rows += [(prompt.name, "changed") for prompt in (review.prompts if review else None) or ()]
    rows += [("loosened", text) for text in found.loosened]
    rows += [("staging", found.staging)] if found.staging else []
    if rows:
        say("")
        say("changes since the champion", style="bold")
        show([(name, _short(text)) for name, text in rows], indent=2)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHOWN_CHARACTERS else f"{line[:SHOWN_CHARACTERS]} …"


def _show_decision(one: Decidable) -> None:
    if not one.required:
        return
    say("")
    says = {"approved": "done", "waiting": f"waiting for {one.who}"}.get(one.state, one.state)
    say(f"{one.what}: {says}", style=_STATES.get(one.state, ""))
    for reason in one.reasons:
        say(reason, 2)
    show([(word, command) for word, command in (("approve", one.approve), ("reject", one.reject)) if command], indent=2)
