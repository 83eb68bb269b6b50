"""Gathers from the ledger what a code host should show of a project's newest commits. Posts nothing."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache

from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.config.yaml_validation import ConfigError
from llmops_assets.delivery.plan_report import plan_report
from llmops_assets.delivery.planning import plan_revision, planned_revision
from llmops_assets.delivery.review import review_of
from llmops_assets.domain.answer_comment import CommentAnswer, Section, address, comment
from llmops_assets.domain.answers import (
    Annotation,
    GroupAnswer,
    Progress,
    annotations,
    findings_of,
    group_answers,
    newest_of_each,
)
from llmops_assets.domain.chain import CHECKS, COMPARED
from llmops_assets.domain.deployment_answers import DeploymentAnswer, rollout_answer, staging_answer
from llmops_assets.domain.dockerfile import from_line
from llmops_assets.domain.findings import Finding
from llmops_assets.domain.images import vulnerability_findings
from llmops_assets.domain.models import Frozen
from llmops_assets.domain.notification_baseline import Baseline
from llmops_assets.domain.notification_messages import next_command
from llmops_assets.domain.notifications import Closing, derive
from llmops_assets.domain.plan_markdown import body
from llmops_assets.domain.records import AnyRecord, CiReport, ContainerImage, Measured
from llmops_assets.domain.requests import BRANCH_PLAN, Request
from llmops_assets.domain.review import Link
from llmops_assets.domain.review_markdown import markdown
from llmops_assets.domain.verdict import Verdict
from llmops_assets.machine.redaction import redacted
from resources.artifact_store.store import StoreDenied, StoreError
from resources.assembly import Clients
from resources.project_source.errors import SourceError

RECENT = 10
"""Commits whose answers are kept up to date. Those before have ended, or were superseded."""
_UNREADABLE = (ConfigError, SourceError, StoreError, StoreDenied, OSError, ValueError)


class Gathered(Frozen):
    """What is to be shown of one commit, but for its comment."""

    progress: Progress
    groups: tuple[GroupAnswer, ...]
    at: float
    """When its request last changed, in epoch seconds."""
    command: str
    """What a person would run next."""

    @property
    def revision(self) -> str:
        return self.progress.request.revision


def gather(project: ProjectSource, clients: Clients, baseline: Baseline) -> list[Gathered]:
    """The answers of the newest commits, the newest first.

    Args:
        baseline: requests and rollouts before it are not answered.
    """
    ledger, name = clients.ledger, project.name
    closings, rollouts = ledger.closings(name), ledger.rolled(name)
    events = derive(name, closings, rollouts, {})
    recent = [c for c in closings if c.id > baseline.request or c.id in baseline.open]
    newest = newest_of_each([c.request for c in recent])
    found = []
    for request in list(reversed(newest.values()))[:RECENT]:
        closing = next(c for c in recent if c.request == request)
        url = _run_page(project, clients, request)
        same = [c.request for c in recent if c.request.revision == request.revision]
        progress = progress_of(project, clients, request, same)
        event = next((e for e in reversed(events) if _is_about(e.request_id, e.revision, closing)), None)
        found.append(
            Gathered(
                progress=progress,
                groups=group_answers(progress, url),
                at=closing.at,
                command=next_command(event) if event is not None else "",
            )
        )
    return found


def deployments(
    project: ProjectSource, clients: Clients, baseline: Baseline, found: Sequence[Gathered]
) -> list[DeploymentAnswer]:
    """The newest deployments, the oldest first: those to staging of the gathered commits, and all to production."""
    ledger, name = clients.ledger, project.name
    pages = {one.revision: one.groups[0].url for one in found}
    staged = [
        (row, staging_answer(name, one.revision, release, row, pages[one.revision]))
        for one in found
        for row, release in ledger.staged(name, one.revision)
    ]
    rolled = [r for r in ledger.rolled(name) if r.id > baseline.rollout or r.id in baseline.running]
    return [
        *(answer for _, answer in sorted(staged, key=lambda pair: pair[0])[-RECENT:]),
        *(rollout_answer(name, r, pages.get(r.revision) or project.commit_page(r.revision)) for r in rolled[-RECENT:]),
    ]


def _is_about(request_id: int | None, revision: str | None, closing: Closing) -> bool:
    return request_id == closing.id or (request_id is None and revision == closing.request.revision)


def _run_page(project: ProjectSource, clients: Clients, request: Request) -> str | None:
    ui = clients.settings.ui("dagster")
    return f"{ui}/runs/{request.run_id}" if ui and request.run_id else project.commit_page(request.revision)


def progress_of(project: ProjectSource, clients: Clients, request: Request, same: Sequence[Request]) -> Progress:
    """What the ledger shows of a request.

    Args:
        same: the requests of this commit, oldest first: those that it continues belong to it.
    """
    ledger, name, revision = clients.ledger, request.project, request.revision
    times, used = ledger.answering_times(name, revision)
    since = dict(times).get(_first(same), 0.0)
    edges, records = ledger.edges(name, revision), ledger.records_of(name, revision)
    records = {s: record for s, record in records.items() if s in edges and used.get(s, 0.0) >= since}
    done: Mapping[str, str | None] = {
        stage: record.made_by.revision if edges[stage].reused else None for stage, record in records.items()
    }
    verdicts = (Verdict.model_validate_json(body) for body in ledger.verdicts_since(name, revision, since))
    rollout = ledger.rollout(name)
    found = {stage: _findings(project, clients, revision, record) for stage, record in records.items()}
    return Progress(
        request=request.model_copy(update={"detail": redacted(request.detail), "reason": redacted(request.reason)}),
        done=done,
        verdicts=tuple(map(_redacted, verdicts)),
        rollout=rollout[3] if rollout and rollout[2] == revision else None,
        findings={stage: some for stage, some in found.items() if some},
    )


def _findings(project: ProjectSource, clients: Clients, revision: str, record: AnyRecord) -> tuple[Annotation, ...]:
    """What the tools of a stage found in the project's files."""
    if isinstance(record, CiReport):
        return findings_of(record.checks, project.folder)
    if not isinstance(record, ContainerImage):
        return ()
    of_checks = (one for check in record.checks for one in check.findings)  # warnings too: a Dockerfile has few
    return annotations([*of_checks, *_vulnerabilities(project, clients, revision, record)], project.folder)


def _vulnerabilities(
    project: ProjectSource, clients: Clients, revision: str, record: ContainerImage
) -> Sequence[Finding]:
    """The vulnerabilities that fail; none if the Dockerfile or the policy cannot be read now."""
    if not record.vulnerabilities:
        return ()
    try:
        source = clients.sources(project)
        at = source.at(revision)
        text = source.git.read(revision, at.config.image.file)
    except _UNREADABLE:
        return ()
    today = datetime.fromtimestamp(clients.ledger.clock(), UTC).date()
    line = from_line(text.decode(errors="replace")) if text is not None else None
    return vulnerability_findings(record, at.policy.image.scan, today, at.config.image.file, line or 1)


def _first(same: Sequence[Request]) -> int:
    """The generation with which the newest request began: it may continue one whose run died, or that waited."""
    at = len(same) - 1
    while at > 0 and (same[at].tries > 1 or same[at - 1].status == "done"):
        at -= 1
    return same[at].generation


def _redacted(verdict: Verdict) -> Verdict:
    texts = ("failures", "undecided", "reasons", "skipped", "loosened")
    return verdict.model_copy(update={name: tuple(map(redacted, getattr(verdict, name))) for name in texts})


# -- the comment ------------------------------------------------------------------------------------------------------


class Comments:
    """Writes the comments of one project. Keep it: it remembers plans and reviews, which take long to make."""

    def __init__(self, project: ProjectSource, clients: Clients):
        self._project, self._clients = project, clients
        self._review = lru_cache(maxsize=32)(self._reviewed)

    def write(self, found: Gathered, number: int) -> CommentAnswer:
        """The comment about a commit on a pull request."""
        revision = found.revision
        written = comment(
            found.progress.model_copy(update={"plan": self._plan(found)}),
            found.groups,
            number,
            subject=self._subject(revision),
            command=found.command,
            verdicts=[s for stage in COMPARED if (s := self._verdict(found.progress, stage)) is not None],
            links=self._links(found),
        )
        return written.model_copy(update={"body": redacted(written.body)})

    def _subject(self, revision: str) -> str:
        with suppress(SourceError, OSError):
            git = self._clients.sources(self._project).git
            return f"{git.message(revision)} ({git.author(revision)})"
        return ""  # the mirror may not have it, and the verdict matters more

    def _plan(self, found: Gathered) -> str | None:
        """The plan as it was before the run had a result, as Markdown; made once, and kept in the ledger."""
        request, ledger, store = found.progress.request, self._clients.ledger, self._clients.store
        name = f"plan-text:{found.revision[:32]}"
        if kept := ledger.projected(request.project, name):
            return kept
        plans_only = request.asked_by == BRANCH_PLAN
        if not plans_only and (not request.active or any(maker is None for maker in found.progress.done.values())):
            return None
        try:
            source = self._clients.sources(self._project)
            plan = plan_revision(source, ledger, store, found.revision, request.base)
            text = redacted(body(plan_report(planned_revision(source, ledger, store, found.revision), plan)))
        except _UNREADABLE:
            return None  # the run will say what is wrong
        ledger.note_projected(request.project, name, text)
        return text

    def _verdict(self, progress: Progress, stage: str) -> Section | None:
        judged = [v for v in progress.verdicts if v.check == f"{stage}:{CHECKS[stage]}"]
        if stage not in progress.done or not judged:
            return None
        verdict = judged[-1]
        text = verdict.markdown()
        try:
            text += f"\n\n{self._review(progress.request.revision, stage, verdict.model_dump_json())}"
        except _UNREADABLE as error:
            text += f"\n\nThe figures cannot be read now ({type(error).__name__})."
        return Section(f"{stage}: {verdict.outcome}", text)

    def _reviewed(self, revision: str, stage: str, verdict: str) -> str:
        """The figures beside the champion's, slices, lost rows and links of a report."""
        source = self._clients.sources(self._project)
        candidate = planned_revision(source, self._clients.ledger, self._clients.store, revision)
        record = candidate.resolved.records.get(stage)
        if not isinstance(record, Measured):
            return ""
        links = self._mlflow(record)
        text = markdown(review_of(candidate, record, Verdict.model_validate_json(verdict), links).review)
        return text + "".join(f"\n\n[{link.name}]({address(link.url)})" for link in links)

    def _mlflow(self, record: Measured) -> list[Link]:
        tracking, name = self._clients.tracking, self._project.name
        try:
            run = tracking.find(name, record.key)
            url = tracking.run_url(name, run) if run else None
        except Exception:
            return []  # any error of its client: a missing link must not cost the whole comment
        return [Link(name="MLflow run", url=url)] if url else []

    def _links(self, found: Gathered) -> list[Link]:
        request, ui = found.progress.request, self._clients.settings.ui("dagster")
        links: list[tuple[str, str | None]] = [
            ("Dagster run", f"{ui}/runs/{request.run_id}" if ui and request.run_id else None),
            ("evaluation report", f"{ui}/assets/{request.project}/evaluation_report" if ui else None),
            ("commit", self._project.commit_page(found.revision)),
        ]
        return [Link(name=name, url=url) for name, url in links if url]
