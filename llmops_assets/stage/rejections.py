"""How a stage ends without an error: the evidence failed, or a person must decide."""

from collections.abc import Mapping
from typing import Literal

import dagster as dg

from llmops_assets.domain.verdict import Verdict


class Rejected(Exception):
    """The evidence failed. An outcome, not an error: the run ends without a failure, and is never retried."""

    def __init__(self, verdict: Verdict):
        super().__init__("; ".join(verdict.against))
        self.verdict = verdict


class AwaitingApproval(Exception):
    """A person must decide before this stage can act, or decided against it: the run ends without an error.

    Args:
        why: what it waits for, and how to decide.
        metadata: of the stage's check, for the UI.
    """

    def __init__(
        self,
        why: str,
        outcome: Literal["waiting", "rejected"] = "waiting",
        metadata: Mapping[str, dg.MetadataValue] | None = None,
    ):
        super().__init__(why)
        self.outcome: Literal["waiting", "rejected"] = outcome
        self.metadata = dict(metadata or {})


class OverBudget(AwaitingApproval):
    """What a stage would compute costs more than the budget allows, and a person must decide."""
