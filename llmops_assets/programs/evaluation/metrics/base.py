"""The interface of a metric: sufficient statistics of each row, and the value as a function of their sums.

A value over any set of rows follows from the sums over these rows. So intervals, slices and paired comparisons of two
models need no model and no second inference: the evaluation stores the statistics in `rows.jsonl`. Stages import these
classes to compute values again, so nothing heavy may be imported here or at the top of a metric's module.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a metric may read of one evaluated row."""

    prediction: str
    reference: str
    row: Mapping[str, Any] = field(default_factory=dict)
    """The row of the test data, with its further columns."""
    nll: float | None = None
    """Negative log-likelihood of the reference in nats; None if no metric of this evaluation reads likelihoods."""
    tokens: int = 0
    """Tokens of the reference that `nll` is summed over."""
    cut: bool = False
    """The answer ended because of its length limit."""


class NoEvidence(Exception):
    """The metric was computed, and its value is not fit to judge by; the message says why.

    The report leaves it out and says so, and a gate on it fails.
    """


class MetricBase:
    """What all metrics share: `name` is the project's, `options` are those of its entry in llmops.yaml."""

    def __init__(self, name: str, options: Mapping[str, Any] | None = None):
        self.name = name
        self.options = dict(options or {})
        """What llmops.yaml sets for it: `model` is a folder on this machine, `file` the text of a file."""

    def check_file(self) -> None:
        """Called with the options as llmops.yaml and its files have them, on each commit and by `llmops check`.

        Raises:
            BadInput: a file's content cannot be used.
        """

    def check(self, rows: Sequence[Answer]) -> None:
        """Called before any inference with the rows, whose predictions are empty.

        Raises:
            BadInput: the options cannot be used, or it measures nothing on these rows.
        """

    def facts(self) -> Mapping[str, str]:
        """Further lines of the report, once the rows are measured: label → text."""
        return {}

    def measured_with(self) -> Mapping[str, str]:
        """What has changed its values besides model, rows and options: see `domain.records.Measured`."""
        return {}


class RowMetric(MetricBase):
    """A metric whose value over rows is a function of the sum of each row's statistics.

    Implement `statistics`, or `statistics_of` where all rows at once are cheaper; and `value`, unless it is a mean.
    """

    def statistics(self, answer: Answer) -> Sequence[float]:
        """The row's sufficient statistics, finite numbers, equally many for each row. For a mean: [value, 1]."""
        if type(self).statistics_of is RowMetric.statistics_of:
            raise TypeError(f"{type(self).__name__} implements neither statistics nor statistics_of")
        return self.statistics_of([answer])[0]

    def statistics_of(self, answers: Sequence[Answer]) -> list[Sequence[float]]:
        """The statistics of each row."""
        return [self.statistics(answer) for answer in answers]

    @classmethod
    def value(cls, sums: "Array") -> "Array":
        """The metric of summed statistics, vectorized.

        Args:
            sums: shape (..., k) for k statistics.

        Returns:
            Shape (...); NaN where the rows have no value.
        """
        return ratio(sums)

    def row_value(self, answer: Answer, statistics: Sequence[float]) -> float:
        """The value shown for a single row; usually that of its own statistics."""
        import numpy as np

        return float(self.value(np.asarray(statistics, dtype=float)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is evaluated: a loaded model, or a running engine that serves it."""

    model: Any = None
    tokenizer: Any
    batch_size: int = 1
    engine: Any = None
    """An `engines.interface.EngineClient`; None: the model is asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRow:
    """One row of a metric that has rows of its own."""

    digest: str
    """Of the row's content, see `digest_of`."""
    input: str
    reference: str
    prediction: str
    value: float
    statistics: Sequence[float]
    columns: Mapping[str, Any] = field(default_factory=dict)
    """Those that can name a slice, see `domain.evaluated_rows.slice_columns`."""


class TaskMetric(RowMetric, ABC):
    """A metric that asks the model itself, on rows of its own: `reads` of its part is "model".

    It is asked of the loaded model, and, if its part is `asks_engine`, of the served one too.
    """

    @abstractmethod
    def measure(self, subject: Subject, most: int | None = None) -> list[TaskRow]:
        """Its rows with their statistics, in an order that does not depend on the model.

        Args:
            most: only the first so many rows; None: all.
        """

    def longest(self, tokenizer: Any) -> int:
        """Tokens of its longest request, with the answer: the context that an engine needs."""
        raise TypeError(f"{type(self).__name__} asks an engine, by its entry in the catalog, and has no `longest`")


class CorpusMetric(MetricBase, ABC):
    """A metric with one value for all rows: without statistics, it has no interval and no value of a slice."""

    @abstractmethod
    def whole(self, answers: Sequence[Answer]) -> float:
        """The value over all rows."""


AnyMetric = RowMetric | CorpusMetric


def digest_of(content: str) -> str:
    """Identifies a row's content: equal rows have equal digests in any report."""
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def ratio(sums: "Array") -> "Array":
    """The first sum over the second: a mean if the second counts the rows."""
    import numpy as np

    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(sums[..., 1] > 0, sums[..., 0] / sums[..., 1], np.nan)
