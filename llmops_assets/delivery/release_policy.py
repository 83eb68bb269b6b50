"""Compares a revision's policy with the champion's: what it loosens, and whether and under whose rules people must
approve its release and review its evaluation report.

`llmops_assets.domain.policy` compares; it is pure. `llmops_assets.delivery.approvals` and `delivery.report_reviews`
evaluate people's decisions.
"""

from collections.abc import Iterator
from contextlib import suppress

from llmops_assets.config.yaml_validation import ConfigError
from llmops_assets.domain.approval import Rules
from llmops_assets.domain.budget import Budget, loosened_budget, stricter_budget
from llmops_assets.domain.keys import short
from llmops_assets.domain.models import Frozen
from llmops_assets.domain.must_pass import dropped_rows
from llmops_assets.domain.policy import Policy, loosened, loosened_approval, loosened_review, newest_policy
from llmops_assets.domain.records import DatasetVersion
from llmops_assets.domain.report_review import ReviewRules
from llmops_assets.domain.requests import unreleased
from resources.ledger import Ledger
from resources.project_source.errors import SourceError
from resources.project_source.revisions import ProjectRepository

MOST_MERGED = 40
"""How many commits since the last release are compared with: each is read once and kept in memory."""


class ReleasePolicy(Frozen):
    """What applies to a revision's release."""

    needed: bool
    """Whether a person must approve it."""
    rules: Rules
    loosened: tuple[str, ...] = ()
    guarded: bool = False
    """Whether it loosens a policy that required a person: then that holds even if production serves the release."""
    because: str = ""
    """Why a person must approve, if its own llmops.yaml is not the reason."""
    review: ReviewRules | None = None
    """Under which rules people must review the evaluation report; None: no review is required."""
    review_because: str = ""
    """Why a review is required, if its own llmops.yaml is not the reason."""
    budget: Budget = Budget()
    """What its run may cost: never more than under the champion's policy."""
    budget_where: str = "llmops.yaml"
    budget_because: str = ""
    """Why this budget applies, if its own llmops.yaml is not the reason."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What it loosens and who must approve that, as lines for a plan."""
        loosened = (f"loosened since the champion: {text}" for text in self.loosened)
        review = f"the evaluation report must be accepted by {self.review.who}" if self.review else ""
        return (*loosened, *filter(None, [self.because, review, self.review_because, self.budget_because]))


def release_policy(source: ProjectRepository, ledger: Ledger, revision: str) -> ReleasePolicy:
    """The policy of a revision's release, beside that of the champion.

    Where the champion's policy asked for a person and this one loosens anything, a person must approve under rules at
    least as strict as the champion's: otherwise a commit could abolish its own approval. A policy that was merged since
    and not released counts too, but names nobody: see `_merged_since`.
    """
    own = source.at(revision).policy
    rules, because = _rules(own, "llmops.yaml"), ""
    review, review_because = _review_rules(own, "llmops.yaml") if own.review.needed else None, ""
    budget, budget_where, budget_because = own.budget, "llmops.yaml", ""
    found: list[str] = []
    guarded = False
    for sha, before in reversed(list(_standing(source, ledger, revision))):  # the champion's decides, so it is last
        if before is None:
            found.append(f"the policy of {short(sha)} cannot be read, so nothing can be compared with it")
            guarded, because = True, because or f"a person must approve: the policy of {short(sha)} cannot be read"
            continue
        texts = (*loosened(before, own), *_dropped(source, ledger, (sha, before), (revision, own)))
        found += texts
        guarded = guarded or bool(texts and before.approval.needed)
        if any(loosened_approval(before.approval, own.approval)):
            rules = _rules(before, f"{short(sha)}, the champion's policy")
            because = f"a person must approve it under the rules of the champion's policy ({short(sha)})"
        if any(loosened_review(before.review, own.review)):
            review = _review_rules(before, f"{short(sha)}, the champion's policy")
            review_because = f"its report is reviewed under the rules of the champion's policy ({short(sha)})"
        if loosened_budget(before.budget, own.budget):
            budget, budget_where = stricter_budget(own.budget, before.budget), f"{short(sha)}, the champion's policy"
            budget_because = f"the budget of the champion's policy applies ({short(sha)})"
    for sha, before in _merged_since(source, ledger, revision):
        # Nobody could decide under its rules yet: a misspelt approver must not lock the project. So it counts whether
        # it asked for a person, and the commit's own rules, or the champion's, say who.
        texts = loosened(before, own, measured=False)
        found += [
            f"{text} (since {short(sha)}, which was merged and not released)" for text in texts if text not in found
        ]
        if texts and before.approval.needed and not (own.approval.needed or guarded):
            guarded, because = True, f"a person must approve it, as {short(sha)} of the watched branch asks"
        if review is None and before.review.needed and texts:
            review = _review_rules(own, "llmops.yaml")
            review_because = f"its report is reviewed, as {short(sha)} of the watched branch asks"
    return ReleasePolicy(
        needed=own.approval.needed or guarded,
        rules=rules,
        loosened=tuple(dict.fromkeys(found)),
        guarded=guarded,
        because=because,
        review=review,
        review_because=review_because,
        budget=budget,
        budget_where=budget_where,
        budget_because=budget_because,
    )


def _merged_since(source: ProjectRepository, ledger: Ledger, revision: str) -> Iterator[tuple[str, Policy]]:
    """(revision, policy) of what the watched branch has had since the last release, newest first.

    A commit that only tightens policy releases nothing. Compared with the champion alone, the next one could take the
    tightening back, and nothing would say so.
    """
    serving = ledger.serving(source.project.name, "production")
    if serving is None or serving.revision == revision:
        return  # nothing to be compared with, or it is the champion
    for sha in unreleased(ledger.requests(source.project.name))[:MOST_MERGED]:
        if sha in (revision, serving.revision):
            continue
        with suppress(ConfigError, SourceError):  # it cannot be read any more, and has no release
            if source.git.contains(sha):
                yield sha, source.at(sha).policy


def _dropped(
    source: ProjectRepository, ledger: Ledger, before: tuple[str, Policy], now: tuple[str, Policy]
) -> tuple[str, ...]:
    """Must-pass rows that a revision lacks; of each side (revision, policy)."""
    (sha, old), (revision, own) = before, now
    if old.must_pass is None or own.must_pass is None or old.must_pass.version == own.must_pass.version:
        return ()
    data = ledger.resolve(source.at(revision).values).records.get("dataset_version")
    if not isinstance(data, DatasetVersion):
        return ()  # nothing can be released before its rows were read
    champions = ledger.records_of(source.project.name, sha).get("dataset_version")
    if not isinstance(champions, DatasetVersion):
        return (f"must-pass rows changed, and those of {short(sha)} are unknown",)
    return tuple(dropped_rows(champions.must_pass, data.must_pass))


def _standing(source: ProjectRepository, ledger: Ledger, revision: str) -> Iterator[tuple[str, Policy | None]]:
    """(revision, policy) of the champion, and of the newest policy that reached production; None if unreadable."""
    served = [(release, sha) for release, sha, _ in ledger.served(source.project.name)]
    if served and served[-1][1] == revision:
        return  # it is the champion
    for sha in dict.fromkeys([*(s for _, s in served[-1:]), *filter(None, [newest_policy(served)])]):
        if sha == revision:
            continue
        try:
            yield sha, source.at(sha, served=True).policy
        except (ConfigError, SourceError):
            yield sha, None


def _rules(policy: Policy, where: str) -> Rules:
    return Rules(approvers=policy.approval.approvers, expires_after=policy.approval.expires_after, where=where)


def _review_rules(policy: Policy, where: str) -> ReviewRules:
    stated = policy.review
    return ReviewRules(approvers=stated.approvers, expires_after=stated.expires_after, count=stated.count, where=where)


def not_on_branch(source: ProjectRepository, revision: str) -> str | None:
    """Why a revision is not deployed: the watched branch does not contain it. None if it does."""
    if source.git.contains(revision):
        return None
    branch = source.project.branch
    return (
        f"{short(revision)} is not in the watched branch {branch!r}, so it is evaluated but not deployed. "
        f"Remedy: merge it into {branch} and push"
    )
