"""Decides whether users ask for something else than they did when production got its evaluation rows. Pure.

The gateway records no content, so what is compared is the size of users' requests: the population stability index (PSI)
of the last `window` against the first one since production serves a model that was evaluated on these test rows. Other
releases keep the reference: a release does not choose what users ask. New test rows begin a new one.

A change of subject or language at equal length is invisible here.
"""

import math
import random
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence

from pydantic import Field

from llmops_assets.domain.formatting import ago, at_time
from llmops_assets.domain.models import Frozen
from llmops_assets.domain.percentiles import percentile

BINS = 10
"""Of the reference, by its deciles, as is usual for the PSI; one more on each side for sizes that it did not have."""
MOST = 100_000
"""Sizes kept of a window; of a busier reference a random sample."""


class Reference(Frozen):
    """The sizes of the reference window as a histogram."""

    edges: tuple[float, ...] = Field(description="Upper ends of all bins but the last, in bytes, ascending.")
    counts: tuple[int, ...] = Field(description="Requests in each bin; one more than edges.")
    until: float = Field(description="Start of its last request, in epoch seconds.")


class DriftState(Frozen):
    """What the ledger keeps, so that a restart neither forgets nor repeats."""

    data: str = Field(description="Digest of the test rows of what production serves.")
    began: float = Field(description="When production was first seen to serve it, in epoch seconds.")
    reference: Reference | None = None
    since: float | None = Field(default=None, description="Start of the excess that lasts, in epoch seconds.")


class Measured(Frozen):
    """One comparison."""

    psi: float
    requests: int
    at: float = Field(description="Start of the newest request, in epoch seconds.")


def histogram(edges: Sequence[float], sizes: Sequence[float]) -> tuple[int, ...]:
    counts = [0] * (len(edges) + 1)
    for size in sizes:
        counts[bisect_left(edges, size)] += 1
    return tuple(counts)


def reference_of(sizes: Sequence[float], until: float) -> Reference:
    """Bins by the deciles of these sizes (not empty), and one below and one above all of them."""
    deciles = {float(percentile(sizes, share / BINS)) for share in range(1, BINS + 1)}
    edges = tuple(sorted({min(sizes) - 0.5, *deciles}))
    return Reference(edges=edges, counts=histogram(edges, sizes), until=until)


def psi(reference: Sequence[int], newest: Sequence[int]) -> float:
    """The population stability index of two histograms with equal bins, 0 for equal shares.

    Half a request is added to every bin, so that an empty one is finite. Without drift, the index of n and m
    independent requests is about (1/n + 1/m) times a chi-squared variable with one degree of freedom less than there
    are bins: B. Yurdakul, Statistical properties of the population stability index, 2018. For 500 on both sides and 12
    bins its mean is 0.04, and it exceeds 0.2 by chance once in a million.
    """
    pairs = list(zip(_shares(reference), _shares(newest), strict=True))
    return sum((after - before) * math.log(after / before) for before, after in pairs)


def _shares(counts: Sequence[int]) -> list[float]:
    whole = sum(counts) + 0.5 * len(counts)
    return [(count + 0.5) / whole for count in counts]


class Sizes:
    """Sizes of users' requests since `began`: first those of the reference, then the newest.

    Args:
        reference: None: it is still to be made of what is observed.
        window: in seconds.
        requests: the fewest that a side needs.
    """

    def __init__(self, began: float, reference: Reference | None, window: float, requests: int) -> None:
        self.reference = reference
        self._began, self._window, self._fewest = began, window, requests
        self._first: list[float] = []
        self._seen, self._until = 0, began
        self._newest: deque[tuple[float, float]] = deque(maxlen=MOST)
        self._sample = random.Random(0)

    @property
    def collected(self) -> int:
        """Requests of the reference so far, while it is not complete."""
        return self._seen

    def observe(self, at: float, size: float) -> None:
        """Takes one request: its start in epoch seconds and its size in bytes. In about the order of time."""
        if self.reference is None:
            if at - self._began < self._window or self._seen < self._fewest:
                self._collect(size)
                self._until = at
                return
            self.reference = reference_of(self._first, self._until)
        if at <= self.reference.until:
            return
        self._newest.append((at, size))
        # A quiet endpoint's window is longer: its newest requests, however old.
        while len(self._newest) > self._fewest and at - self._newest[0][0] > self._window:
            self._newest.popleft()

    def _collect(self, size: float) -> None:
        """Keeps each with the same chance (reservoir sampling)."""
        self._seen += 1
        if len(self._first) < MOST:
            self._first.append(size)
        elif (place := self._sample.randrange(self._seen)) < MOST:
            self._first[place] = size

    def measure(self) -> Measured | None:
        """None: too few requests yet."""
        if self.reference is None or len(self._newest) < self._fewest:
            return None
        counts = histogram(self.reference.edges, [size for _, size in self._newest])
        return Measured(psi=psi(self.reference.counts, counts), requests=len(self._newest), at=self._newest[-1][0])


def follow(state: DriftState, measured: Measured, above: float) -> DriftState:
    """The state after a measurement: since when the index exceeds the limit without interruption."""
    if measured.psi <= above:
        return state.model_copy(update={"since": None})
    return state if state.since is not None else state.model_copy(update={"since": measured.at})


def sustained(state: DriftState, measured: Measured, window: float) -> bool:
    """Whether the excess has lasted for a whole window, by the times of requests: silence is no drift."""
    return state.since is not None and measured.at - state.since >= window


def reason_of(state: DriftState, window: float) -> str:
    """The drift's name, the same at every later tick: one run and one notification follow from it."""
    assert state.since is not None
    return f"users' requests differ in size from those of the first {ago(window)}, since {at_time(state.since)}"


def shown(measured: Measured, above: float) -> str:
    return f"request sizes: PSI {measured.psi:.2f} (limit {above:g}) over {measured.requests} requests"
