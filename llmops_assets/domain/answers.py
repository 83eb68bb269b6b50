"""Decides what a code host shows about a commit: one check per group of stages. Pure.

The desired state follows from the ledger alone, so an answer that is derived again is the same.
`llmops_assets.delivery.code_host` compares it with what was posted, and posts the differences.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from llmops_assets.domain.chain import CHAIN, CHECKS, EVIDENCE_CHECK, STAGES, check_names
from llmops_assets.domain.findings import Finding
from llmops_assets.domain.formatting import excerpt
from llmops_assets.domain.keys import digest, short
from llmops_assets.domain.markdown import without_references
from llmops_assets.domain.models import Frozen
from llmops_assets.domain.records import Check
from llmops_assets.domain.requests import BRANCH_PLAN, CLICK, PARTIAL, ROLLBACK, Request
from llmops_assets.domain.rollout import RolloutState
from llmops_assets.domain.verdict import Verdict

State = Literal["queued", "running", "waiting", "success", "failure", "neutral", "cancelled"]
"""waiting: for a person. neutral: reused, or not needed. cancelled: not reached, which must not look like a pass."""
GROUPS: Mapping[str, tuple[str, ...]] = {
    "ci": ("ci_report",),
    "image": ("container_image",),
    "data": ("dataset_version",),
    "training": ("fine_tuned_checkpoint",),
    "evaluation": ("evaluation_report", "registered_model"),
    "serving": ("quantized_artifact", "served_evaluation_report"),
    "staging": ("staging_endpoint", "smoke_test_report"),
    "release": ("release_approval", "production_endpoint"),
}
"""Group → its stages. A stage that is in none, such as one that is added to the chain, is a group of its own."""
UNANSWERED = frozenset({"endpoint_health"})
"""Runs after the outcome, and says nothing about the commit."""
UNPLANNED = frozenset({ROLLBACK, CLICK, PARTIAL})
"""`asked_by` of requests that do not answer for a whole commit."""
MOST_FINDINGS = 200
HEADLINE = 300
"""Characters of the one line that says why. Hosts cut it further."""


class Annotation(Frozen):
    """A finding at a line of a file of the commit."""

    path: str
    line: int
    message: str
    level: Literal["warning", "failure"] = "failure"


class Progress(Frozen):
    """What the ledger shows of a commit's newest request, and of those that it continues; nothing of earlier ones."""

    request: Request
    done: Mapping[str, str | None] = {}
    """Stage with a result → the commit that made it, if it is reused; else None."""
    verdicts: tuple[Verdict, ...] = ()
    """Of this commit, oldest first; `check` names the stage."""
    rollout: RolloutState | None = None
    """The newest one of this commit."""
    findings: Mapping[str, tuple[Annotation, ...]] = {}
    """Stage → what its tools found."""
    plan: str | None = None
    """As it was when the request was first seen, as Markdown; None if it had ended by then, or cannot be made."""


class GroupAnswer(Frozen):
    """The check that a code host shows for one group of stages of a commit."""

    project: str
    revision: str
    group: str
    state: State
    headline: str
    """One line: what it found."""
    summary: str = ""
    """Markdown, where the host shows any."""
    annotations: tuple[Annotation, ...] = ()
    url: str | None = None

    @property
    def context(self) -> str:
        """The check's name on the host, which identifies it there: a branch protection rule can require it."""
        return f"llmops/{self.project}/{self.group}"

    @property
    def subject(self) -> str:
        """Identifies the answer in the ledger."""
        return f"check/{self.revision}/{self.group}"

    @property
    def digest(self) -> str:
        return digest(self.model_dump(mode="json"))


def groups() -> dict[str, tuple[str, ...]]:
    """The groups in the chain's order, with every stage that is answered."""
    named = {stage: group for group, stages in GROUPS.items() for stage in stages}
    found: dict[str, list[str]] = {}
    for stage in CHAIN:
        if stage.name not in UNANSWERED:
            found.setdefault(named.get(stage.name, stage.name), []).append(stage.name)
    return {group: tuple(stages) for group, stages in found.items()}


def is_answered(request: Request) -> bool:
    """Whether a request answers for a whole commit."""
    return request.asked_by not in UNPLANNED


def newest_of_each(requests: Sequence[Request]) -> dict[str, Request]:
    """Revision → its newest request that is answered, in the order of these requests."""
    found: dict[str, Request] = {}
    for request in requests:
        if is_answered(request):
            found.pop(request.revision, None)
            found[request.revision] = request
    return found


def group_answers(progress: Progress, url: str | None = None) -> tuple[GroupAnswer, ...]:
    """One answer per group. At most one is running; none that was not reached looks like a pass."""
    request, found = progress.request, []
    failed = _failed(progress)
    ahead = request.status in ("running", "waiting")
    """Whether the first unfinished group is still to be found."""
    for group, stages in groups().items():
        state, headline = _group(progress, stages, failed, ahead)
        if state in ("running", "waiting"):
            ahead = False
        found.append(
            GroupAnswer(
                project=request.project,
                revision=request.revision,
                group=group,
                state=state,
                headline=excerpt(headline, HEADLINE),
                summary=_summary(progress, stages),
                annotations=tuple(one for stage in stages for one in progress.findings.get(stage, ())),
                url=url,
            )
        )
    return tuple(found)


def _failed(progress: Progress) -> dict[str, str]:
    """Stage → why it failed. A stage that only refuses what an earlier one failed has not failed itself."""
    newest = {verdict.check: verdict for verdict in progress.verdicts}
    own = {
        stage: newest[f"{stage}:{check}"].text
        for stage, check in CHECKS.items()
        if f"{stage}:{check}" in newest and not newest[f"{stage}:{check}"].passed and stage not in UNANSWERED
    }
    if own:
        return own
    refused = {
        stage: verdict.text
        for stage in STAGES
        if (verdict := newest.get(f"{stage}:{EVIDENCE_CHECK}")) is not None and not verdict.passed
    }
    if refused:
        first = next(stage for stage in STAGES if stage in refused)
        return {first: refused[first]}
    request = progress.request
    if request.status not in ("rejected", "failed"):
        return {}
    named, separator, why = request.detail.partition(": ")
    if separator and named in STAGES:
        return {named: why}
    lacking = [s.name for s in CHAIN if s.name not in progress.done and s.name not in UNANSWERED]
    at = lacking[0] if lacking else "production_endpoint"
    return {at: request.detail or f"it {request.status}"}


def _group(progress: Progress, stages: Sequence[str], failed: Mapping[str, str], ahead: bool) -> tuple[State, str]:
    request = progress.request
    if whys := [failed[stage] for stage in stages if stage in failed]:
        return "failure", "; ".join(whys)
    if all(stage in progress.done for stage in stages):
        makers = {maker for stage in stages if (maker := progress.done[stage])}
        if all(progress.done[stage] for stage in stages):
            return "neutral", f"reused from {', '.join(short(maker) for maker in sorted(makers))}: no input has changed"
        return "success", _passed(progress, stages)
    match request.status:
        case "queued":
            return "queued", "waits for its run"
        case "running" if failed:
            return "cancelled", f"not reached: {', '.join(failed)} failed"
        case "running":
            return ("running", _doing(progress, stages)) if ahead else ("queued", "waits for the stages before it")
        case "waiting":
            return ("waiting", request.detail) if ahead else ("queued", "continues after the decision")
        case "rejected" | "failed":
            return "cancelled", f"not reached: {', '.join(failed)} failed"
        case "cancelled" | "superseded":
            return "cancelled", f"{request.status}: {request.detail}"
        case _ if request.asked_by == BRANCH_PLAN:
            return "neutral", "planned only, by the settings"
        case _:
            return "neutral", f"not needed: {request.detail or request.reason}"


def findings_of(checks: Sequence[Check], folder: str | None = None) -> tuple[Annotation, ...]:
    """The findings of failed checks that have a file and a line; arguments as `annotations`."""
    return annotations((one for check in checks if not check.passed for one in check.findings), folder)


def annotations(findings: Iterable[Finding], folder: str | None = None) -> tuple[Annotation, ...]:
    """The findings that have a file and a line.

    Args:
        folder: of the project within its repository.
    """
    found = []
    for finding in findings:
        if finding.file and finding.line:
            path = f"{folder}/{finding.file}" if folder else finding.file
            message = excerpt(f"{finding.tool}: {finding.rule}: {finding.message}", HEADLINE)
            level: Literal["warning", "failure"] = "failure" if finding.severity == "error" else "warning"
            found.append(Annotation(path=path, line=finding.line, message=message, level=level))
    return tuple(dict.fromkeys(found))[:MOST_FINDINGS]


def _summary(progress: Progress, stages: Sequence[str]) -> str:
    """Markdown: the verdicts on the results of these stages, with every reason."""
    newest = {verdict.check: verdict for verdict in progress.verdicts}
    shown = []
    for stage in stages:
        for check in check_names(STAGES[stage]):
            verdict = newest.get(f"{stage}:{check}")
            if verdict is not None and (check != EVIDENCE_CHECK or not verdict.passed):
                shown.append(f"**{stage}**\n\n{verdict.markdown()}")
    return without_references("\n\n".join(shown))


def _passed(progress: Progress, stages: Sequence[str]) -> str:
    newest = {verdict.check: verdict for verdict in progress.verdicts}
    texts = [
        newest[f"{stage}:{CHECKS[stage]}"].text
        for stage in stages
        if stage in CHECKS and f"{stage}:{CHECKS[stage]}" in newest
    ]
    return "; ".join(dict.fromkeys(texts)) or f"{', '.join(stages)}: done"


def _doing(progress: Progress, stages: Sequence[str]) -> str:
    rollout = progress.rollout
    if "production_endpoint" in stages and rollout is not None and rollout.status == "running":
        return f"canary: {rollout.weight:.0%} of the traffic, step {rollout.step + 1} of {len(rollout.weights)}"
    return f"{next(stage for stage in stages if stage not in progress.done)} is running"
