"""The one comment on a pull request, as Markdown: the plan first, then how far it is, then the verdict. Pure.

The comment begins with a marker that no reader sees. The code host finds by it what an earlier attempt has posted.
Texts of commits, rows and configurations come from other people: all of them are escaped or fenced, and mention nobody.
"""

from collections.abc import Sequence
from typing import NamedTuple

from llmops_assets.domain.answers import GroupAnswer, Progress, State
from llmops_assets.domain.keys import digest, short
from llmops_assets.domain.markdown import escaped, fenced, table, without_references
from llmops_assets.domain.models import Frozen
from llmops_assets.domain.requests import BRANCH_PLAN
from llmops_assets.domain.review import Link

LONGEST = 60_000
"""Characters. GitHub refuses a comment of more than 65,536."""
SIGN: dict[State, str] = {
    "queued": "⏳", "running": "🔄", "waiting": "✋", "success": "✅", "failure": "❌", "neutral": "➖",
    "cancelled": "⏹️",
}  # fmt: skip
_CELL = 400
_SAID = {
    "queued": "🔄 is queued", "running": "🔄 is running", "waiting": "✋ waits for a person",
    "released": "✅ is released", "done": "✅ is done", "rejected": "❌ is rejected", "failed": "❌ failed",
    "cancelled": "⏹️ was cancelled", "superseded": "⏹️ was superseded", "skipped": "➖ needs nothing",
}  # fmt: skip


class Section(NamedTuple):
    """A part of the comment that is left out as a whole where the comment would become too long."""

    title: str
    text: str
    folded: bool = False


class CommentAnswer(Frozen):
    """The comment on one pull request."""

    project: str
    number: int
    body: str

    @property
    def marker(self) -> str:
        """How the body begins."""
        return marker(self.project)

    @property
    def context(self) -> str:
        """What it is, for messages."""
        return f"the comment on pull request {self.number}"

    @property
    def subject(self) -> str:
        """Identifies it in the ledger."""
        return f"comment/{self.number}"

    @property
    def digest(self) -> str:
        return digest(self.body)


def marker(project: str) -> str:
    return f"<!-- llmops:{project} -->"


def comment(
    progress: Progress,
    groups: Sequence[GroupAnswer],
    number: int,
    subject: str = "",
    command: str = "",
    verdicts: Sequence[Section] = (),
    links: Sequence[Link] = (),
) -> CommentAnswer:
    """The comment on the commit's present state.

    Args:
        subject: the commit's first line and author.
        command: what a person would run next; empty while nobody is asked.
        verdicts: a section for each report that was judged.
    """
    request = progress.request
    why = request.detail if request.status in ("done", "failed", "superseded", "cancelled", "skipped") else ""
    planned = request.asked_by == BRANCH_PLAN
    said = "📋 is planned" if planned else _SAID[request.status]
    head = [
        marker(request.project),
        f"### {escaped(request.project)}: {short(request.revision)} {said}",
        escaped(subject, 300),
        escaped(why or f"Asked for because: {request.reason}", 1_500),
        "\n".join(
            table(("", "group", "found"), [(SIGN[g.state], g.group, escaped(g.headline, _CELL)) for g in groups])
        ),
        f"Next:\n\n{fenced(command, 'sh')}" if command else "",
    ]
    sections = [*verdicts, *([Section("Plan", progress.plan, folded=not planned)] if progress.plan is not None else [])]
    end = " · ".join(f"[{escaped(link.name, 80)}]({address(link.url)})" for link in links)
    return CommentAnswer(project=request.project, number=number, body=_fitted(head, sections, end))


def _fitted(head: Sequence[str], sections: Sequence[Section], end: str) -> str:
    """All parts that fit, in their order; one line names those that do not."""
    parts, omitted = [without_references(part) for part in head if part], []
    length = sum(len(part) + 2 for part in parts) + len(end) + 500
    for section in sections:
        text = without_references(_shown(section))
        if length + len(text) + 2 > LONGEST:
            omitted.append(section.title)
            continue
        length += len(text) + 2
        parts.append(text)
    if omitted:
        parts.append(f"Too long to be shown here: {escaped(', '.join(omitted), 400)}.")
    return "\n\n".join([*parts, *([end] if end else [])])


def _shown(section: Section) -> str:
    title = escaped(section.title, 200)
    if section.folded:
        return f"<details><summary>{title}</summary>\n\n{section.text}\n\n</details>"
    return f"#### {title}\n\n{section.text}"


def address(url: str) -> str:
    """A URL that ends where its link ends."""
    return "".join(c if c.isprintable() and c not in ' ()<>[]\\"`' else f"%{ord(c):02X}" for c in url)
