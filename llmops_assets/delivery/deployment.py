"""Brings a release to production: restores what an interruption left there, then rolls the release out."""

from llmops_assets.delivery.reconciliation import Reconciler
from llmops_assets.delivery.rollout import Rollout
from llmops_assets.domain.rollout import RolloutState, begin


def deliver(rollout: Rollout, reconciler: Reconciler) -> RolloutState | None:
    """Rolls a release out; returns how that ended, or None if production serves the release already.

    Raises:
        Conflict: another run changed this rollout, or its request was closed.
    """
    ledger, serving, project, digest = rollout.ledger, rollout.serving, rollout.project, rollout.release.digest
    found = reconciler.run(["production"], start_stopped=True)
    for done in found.done:
        rollout.say(done)
    for fault in found.faults:
        # The new release may be the way out, so it is not stopped: it is probed before it gets any traffic.
        rollout.say(f"production cannot be restored first: {fault}")
    champion = ledger.serving(project, "production")
    if champion and champion.release == digest:
        ledger.serve(project, "production", digest, rollout.revision)
        rollout.restore()
        return None
    up = champion is not None and champion.release in serving.deployed(project, "production")
    return rollout.run(begin(digest, champion.release if champion and up else None, rollout.policy))
