"""Which commits outside of the watched branch run, and how far: other branches and pull requests. Pure.

None of them is ever deployed. They run one at a time, and only while the watched branch has nothing to do.
"""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Literal, get_args

from pydantic import Field

from llmops_assets.domain.chain import AFTER_APPROVAL, STAGES
from llmops_assets.domain.formatting import quoted, time_span
from llmops_assets.domain.keys import short
from llmops_assets.domain.models import Frozen, Strict
from llmops_assets.domain.requests import BRANCH_CI, BRANCH_EVALUATION, BRANCH_PLAN, Request, Skip, another_generation

OLD_S = 7 * 86_400.0
"""A branch without a commit for so long is left alone: else the first tick would run all that were ever abandoned."""
Extent = Literal["nothing", "plan", "ci", "evaluation"]
EXTENTS: tuple[Extent, ...] = get_args(Extent)
"""From the shortest to the furthest."""
ASKED_BY: dict[Extent, str] = {"plan": BRANCH_PLAN, "ci": BRANCH_CI, "evaluation": BRANCH_EVALUATION}
_DEPLOYING = frozenset({*AFTER_APPROVAL, *(name for name, stage in STAGES.items() if stage.kind == "event")})


class BranchRule(Strict):
    match: str = Field(
        min_length=1,
        max_length=200,
        description="Pattern of branch names, such as feature/*; * also matches a slash. The first rule that matches "
        "a branch holds.",
    )
    run: Extent = Field(
        default="evaluation",
        description="How far its commits run: `evaluation`, up to served_evaluation_report; `ci`, only ci_report; "
        "`plan`, nothing runs, and the plan is shown on the code host; or `nothing`.",
    )


class PullRequests(Strict):
    run: Extent = Field(default="ci", description="How far they run: `evaluation`, `ci`, `plan`, or `nothing`.")
    forks: Literal["off", "after_approval", "on"] = Field(
        default="off",
        description="Whether those from forks run, whose authors have no right to push here. `after_approval`: once a "
        "person has started that commit by `llmops run`. A pull request counts as from a fork unless its commit is "
        "also the head of a branch here.",
    )


class Tip(Frozen):
    """The newest commit of a branch or pull request, or that of a tag."""

    revision: str
    committed: float
    """Epoch seconds, as its author's machine says; of an annotated tag, when that was made."""


class Candidate(Frozen):
    name: str
    tip: Tip
    run: Extent
    held: str = ""
    """Why a person must start it."""


def candidates(
    rules: Sequence[BranchRule],
    pull_requests: PullRequests | None,
    branches: Mapping[str, Tip],
    pulls: Mapping[str, Tip],
) -> list[Candidate]:
    """The commits that rules name, the furthest first, then the newest; one that several name runs as far as the
    furthest says.

    Args:
        branches: all branches of the repository but the one that deploys.
        pulls: pull requests by their number.
    """
    found: list[Candidate] = []
    for name, tip in branches.items():
        run = next((rule.run for rule in rules if fnmatchcase(name, rule.match)), "nothing")
        found.append(Candidate(name=f"branch {quoted(name)}", tip=tip, run=run))
    own = {tip.revision for tip in branches.values()}
    for number, tip in pulls.items() if pull_requests is not None else ():
        assert pull_requests is not None
        fork, name = tip.revision not in own, f"pull request {number}"
        if fork and pull_requests.forks == "off":
            continue
        held = "it may be from a fork" if fork and pull_requests.forks == "after_approval" else ""
        found.append(Candidate(name=name, tip=tip, run=pull_requests.run, held=held))
    named = (c for c in found if c.run != "nothing")
    return sorted(named, key=lambda c: (-EXTENTS.index(c.run), -c.tip.committed, c.name))


class StartCandidate(Frozen):
    candidate: Candidate
    generation: int
    reason: str

    @property
    def asked_by(self) -> str:
        return ASKED_BY[self.candidate.run]


def next_candidate(
    project: str, requests: Sequence[Request], found: Sequence[Candidate], now: float, watched: str | None = None
) -> StartCandidate | Skip:
    """Decides which commit outside of the watched branch runs next.

    Args:
        requests: the project's requests, oldest first.
        found: in the order in which they run.
        now: epoch seconds.
        watched: why the watched branch comes first; None if it has nothing to do.
    """
    told: list[str] = []
    for candidate in found:
        sha, tip = short(candidate.tip.revision), candidate.tip
        shorter = {ASKED_BY[one] for one in EXTENTS[1 : EXTENTS.index(candidate.run)]}
        seen = {r.revision for r in requests if r.asked_by not in shorter}
        if tip.revision in seen or now - tip.committed > OLD_S:
            continue
        if candidate.held:
            told.append(
                f"{candidate.name}: {sha} waits for a person: {candidate.held}; read it, then "
                f"`llmops run {project} --revision {sha}`"
            )
            continue
        generation = another_generation(requests, tip.revision)
        if candidate.run == "plan":  # which waits for nothing, for it runs nothing
            return StartCandidate(candidate=candidate, generation=generation, reason=f"{candidate.name}: plan only")
        if active := [r for r in requests if r.active]:
            told.append(f"{candidate.name}: {sha} waits for {short(active[-1].revision)}, which is {active[-1].status}")
        elif watched is not None:
            told.append(f"{candidate.name}: {sha} waits: {watched}")
        else:
            what = "ci_report only" if candidate.run == "ci" else "evaluated, not deployed"
            return StartCandidate(candidate=candidate, generation=generation, reason=f"{candidate.name}: {what}")
    limit = time_span(OLD_S)
    nothing = f"no commit of the last {limit} outside of the watched branch has not run"
    return Skip(reason="; ".join(told) or nothing, waits=bool(told))


def stages_within(asked_by: str, stages: Sequence[str]) -> list[str]:
    """Those of a plan's stages that a request may run: for one of a branch or pull request, none that deploys."""
    if asked_by == BRANCH_PLAN:
        return []
    if asked_by == BRANCH_CI:
        return [stage for stage in stages if stage == "ci_report"]
    if asked_by == BRANCH_EVALUATION:
        return [stage for stage in stages if stage not in _DEPLOYING]
    return list(stages)
