"""Whether a training diverges, judged by its logged losses. Pure.

A learning rate that is too high does not recover: in 20 steps of a small model the loss went 4.2, 3.7, 15, 27, 61, and
the rest of the training only cost time. Noise is not divergence: batches differ, and a damaged one can have ten times
the loss. So the median of several logged losses is judged, almost as many times in a row, by a bound far above the
best one.
"""

import math
import statistics
from collections import deque
from dataclasses import dataclass, field

WINDOW, WINDOWS, MOST = 5, 20, 50
"""Logged losses of one median: at least 5, which two outliers do not move; a 20th of a longer training, at most 50."""
FACTOR = 3.0
ABOVE_NATS = 2.0
"""The bound is the best median times FACTOR, or the best median and ABOVE_NATS, whichever is higher: the second lets
the loss of a memorized data set, which is near 0, jump."""

REMEDY = "lower training.learning_rate or raise training.warmup_ratio, and look for damaged training rows"


@dataclass
class Divergence:
    """Reads the losses of a training one after another, in nats per token.

    Attributes:
        steps: how many losses it will log.
        best: the lowest median so far.
    """

    steps: int
    best: float = math.inf
    above: int = 0
    _recent: deque[float] = field(init=False)

    def __post_init__(self) -> None:
        self._recent = deque(maxlen=max(WINDOW, min(MOST, self.steps // WINDOWS)))

    def read(self, loss: float) -> str | None:
        """Why the training diverges at this loss; None if it does not."""
        if not math.isfinite(loss):
            return "the loss is not a finite number" + (
                f", its best was {self.best:.4g}" if self.best < math.inf else ""
            )
        self._recent.append(loss)
        if len(self._recent) < WINDOW:
            return None
        median = statistics.median(self._recent)
        self.best = min(self.best, median)
        self.above = self.above + 1 if median > max(FACTOR * self.best, self.best + ABOVE_NATS) else 0
        window = self._recent.maxlen or 0
        if self.above < window - 1:
            return None
        return f"the loss is {loss:.4g}, and its median over {window} steps {median:.4g}; the best was {self.best:.4g}"
