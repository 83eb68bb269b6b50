"""A judge's preferences between a model's answers and the champion's to the same rows, as gates read them. Pure.

Asking the judge belongs in `programs.judge_pairs`, finding what was judged in `delivery.preferences`.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from llmops_assets.domain.evaluated_rows import EvaluatedRows
from llmops_assets.domain.keys import stage_key
from llmops_assets.domain.models import Frozen


def preference_key(metric: Mapping[str, Any], report: str, champion: str) -> str:
    """The key of a judge's preferences.

    Args:
        metric: its resolved entry: judge, rubric, labels.
        report, champion: the keys of the two reports.
    """
    return stage_key("judged_preference", 1, {"metric": dict(metric)}, {"report": report, "champion": champion})


class Preference(Frozen):
    """How many rows a model won against the champion. A row that the judge contradicts itself on is tied."""

    won: int
    tied: int
    lost: int
    unreadable: int = Field(default=0, description="Rows without a readable verdict; they do not count.")
    refused: str = Field(default="", description="Why it is no evidence; empty: it is.")
    facts: str = Field(default="", description="Judge, rubric, agreement.")

    @property
    def judged(self) -> int:
        return self.won + self.tied + self.lost

    @property
    def value(self) -> float:
        """The share of the rows that it won, ties as half; 0.5 if both are equally good."""
        return (self.won + self.tied / 2) / self.judged

    def rows(self, name: str) -> EvaluatedRows:
        """The same as rows of a metric, for its interval."""
        import numpy as np

        points = np.repeat([1.0, 0.5, 0.0], [self.won, self.tied, self.lost])
        statistics = np.stack([points, np.ones(len(points))], axis=1)
        digests = tuple(map(str, range(len(points))))
        return EvaluatedRows(digests, {name: statistics}, {name: lambda sums: sums[..., 0] / sums[..., 1]})

    @property
    def text(self) -> str:
        left = f", {self.unreadable} without a verdict" if self.unreadable else ""
        return f"{self.won} rows won, {self.tied} tied, {self.lost} lost{left}"
