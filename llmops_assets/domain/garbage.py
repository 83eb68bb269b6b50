"""Decides what garbage collection must keep, and what may go. Pure: the ledger supplies what is in use, and by whom.

A root is a revision or a release that someone still needs. Every result that a root's revision uses is live, with all
its artifacts. Results without artifacts are small and are never collected, and neither are releases, decisions,
verdicts and the audit trail.
"""

from collections.abc import Iterable, Sequence

from pydantic import Field

from llmops_assets.domain.keys import short
from llmops_assets.domain.models import Frozen, Strict
from llmops_assets.domain.rollout import Duration

DAY_S = 86400.0


class Keep(Strict):
    """How much is kept. Everything that is served, held, approved, pending or running is kept in any case."""

    keep_served: int = Field(
        default=5, ge=1, description="The newest releases that each environment served: rollbacks can go back to them."
    )
    keep_unused: Duration = Field(
        default=14 * DAY_S, ge=3600.0, description="How long a result is kept after its last use by a revision: 14d."
    )
    keep_approved: Duration | None = Field(
        default=None, description="How long a release that a person approved is kept; None: forever."
    )


class Use(Frozen):
    """A lineage edge: this revision uses the result with this key."""

    project: str
    revision: str
    key: str
    at: float = Field(description="Epoch seconds of the last use.")


class Served(Frozen):
    """An environment began to serve this release."""

    project: str
    environment: str
    release: str
    revision: str


class Claim(Frozen):
    """Someone needs this revision, this release, or both."""

    why: str
    project: str
    revision: str | None = None
    release: str | None = None


class Approved(Frozen):
    project: str
    revision: str
    release: str
    at: float


class Result(Frozen):
    """A committed record."""

    key: str
    stage: str
    project: str
    revision: str
    artifacts: tuple[str, ...] = Field(description="Digests of the artifacts that it keeps alive.")
    made: str | None = Field(description="Digest of the artifact that the stage itself made, if any.")
    at: float
    readable: bool = True
    """False: newer code wrote it. It is kept, because it cannot be judged."""
    collected: bool = False


class ReleaseArtifact(Frozen):
    project: str
    release: str
    revision: str
    artifact: str


class Inventory(Frozen):
    """What the ledger knows."""

    uses: tuple[Use, ...] = ()
    served: tuple[Served, ...] = Field(default=(), description="Oldest first.")
    approved: tuple[Approved, ...] = ()
    claims: tuple[Claim, ...] = Field(default=(), description="Holds, open requests, running rollouts, engines.")
    results: tuple[Result, ...] = ()
    releases: tuple[ReleaseArtifact, ...] = ()


class Live(Frozen):
    """What must stay."""

    roots: tuple[Claim, ...]
    keys: frozenset[str]
    artifacts: frozenset[str]

    @property
    def reasons(self) -> tuple[str, ...]:
        """The roots as text, for people."""
        named = (short(r.release or r.revision or "") for r in self.roots)
        return tuple(dict.fromkeys(f"{r.project}: {n}: {r.why}" for r, n in zip(self.roots, named, strict=True)))


def find_roots(inventory: Inventory, keep: Keep, now: float) -> tuple[Claim, ...]:
    """Everything that someone still needs, each with the reason."""
    found = [*_served(inventory.served, keep.keep_served), *inventory.claims]
    for given in inventory.approved:
        if keep.keep_approved is None or now - given.at <= keep.keep_approved:
            claim = Claim(why="approved", project=given.project, revision=given.revision, release=given.release)
            found.append(claim)
    recent = {(u.project, u.revision): u for u in inventory.uses if now - u.at <= keep.keep_unused}
    found += [Claim(why="used recently", project=p, revision=r) for p, r in sorted(recent)]
    return tuple(found)


def _served(served: Sequence[Served], count: int) -> Iterable[Claim]:
    environments = dict.fromkeys((s.project, s.environment) for s in served)
    for project, environment in environments:
        of_this = [s for s in reversed(served) if (s.project, s.environment) == (project, environment)]
        newest = list(dict.fromkeys(s.release for s in of_this))[:count]
        for row in of_this:
            if row.release in newest:
                what = "serves" if row.release == newest[0] else "served"
                yield Claim(why=f"{what} {environment}", project=project, revision=row.revision, release=row.release)


def find_live(
    inventory: Inventory, keep: Keep, now: float, needed: Iterable[str] = (), touched: Iterable[str] = ()
) -> Live:
    """Everything that must stay.

    Args:
        needed: keys of results that an open request is about to use, and that no revision uses yet.
        touched: artifacts that someone has used just now: their results stay, with everything that these need.
    """
    roots = find_roots(inventory, keep, now)
    revisions = {(r.project, r.revision) for r in roots if r.revision}
    releases = {r.release for r in roots if r.release}
    made_it = [r for r in inventory.releases if r.release in releases]
    revisions |= {(r.project, r.revision) for r in made_it}
    keys = {u.key for u in inventory.uses if (u.project, u.revision) in revisions} | set(needed)
    # What was made for a root without being its own result: the champion's figures on its rows, to compare with.
    keys |= {r.key for r in inventory.results if (r.project, r.revision) in revisions}
    keys |= {r.key for r in inventory.results if now - r.at <= keep.keep_unused or not r.readable}
    artifacts = {a for r in inventory.results if r.key in keys for a in r.artifacts}
    artifacts |= {r.artifact for r in made_it} | set(touched)
    # A result whose artifact stays for another reason stays usable: equal content is one artifact.
    keys |= {r.key for r in inventory.results if r.made in artifacts}
    artifacts |= {a for r in inventory.results if r.key in keys for a in r.artifacts}
    return Live(roots=roots, keys=frozenset(keys), artifacts=frozenset(artifacts))


def find_unused(inventory: Inventory, live: Live) -> tuple[Result, ...]:
    """The results that nobody needs and whose artifact may go, oldest first."""
    unused = (r for r in inventory.results if r.key not in live.keys and r.made and not r.collected)
    return tuple(sorted(unused, key=lambda r: r.at))


def known_artifacts(inventory: Inventory) -> frozenset[str]:
    """Every artifact that the ledger has ever recorded. Others are remains of killed runs, or not ours."""
    of_results = {a for r in inventory.results for a in r.artifacts}
    return frozenset(of_results | {r.artifact for r in inventory.releases})
