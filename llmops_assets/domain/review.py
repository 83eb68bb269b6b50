"""A review: all that a person needs to decide about one verdict, as one JSON object. Pure data.

`delivery.review` gathers it, `programs.evaluation.report` renders it as HTML, `domain.review_markdown` as Markdown, and
`review.json` beside the page of the verdict has it for programs. Texts of rows are shortened and numbers of examples
bounded, so its size does not grow with the rows. A part that could not be computed is null, and `notes` says why.
"""

from typing import Literal

from pydantic import Field

from llmops_assets.domain.gate_power import Power
from llmops_assets.domain.models import Frozen

FILE = "review.json"
REGRESSIONS = "regressions.jsonl"
FORMAT = 1
"""Of the JSON. It is raised when a field changes its meaning or is removed, not when one is added."""


class Estimate(Frozen):
    """A figure with its bounds, each with 95% confidence on its own; None: the metric gives no interval."""

    value: float
    low: float | None = None
    high: float | None = None


class FigureBeside(Frozen):
    """A metric of this model beside the champion's and the unquantized checkpoint's, on the same rows."""

    metric: str
    unit: str = ""
    higher_is_better: bool
    value: Estimate | None = Field(description="None if it is not finite.")
    champion: Estimate | None = None
    unquantized: Estimate | None = None
    difference: Estimate | None = Field(
        default=None, description="This model's value minus the champion's, on the same rows, paired."
    )

    @property
    def better(self) -> bool | None:
        """Whether this model is shown to be better (or worse) than the champion; None: neither is shown."""
        found = self.difference
        if found is None or found.low is None or found.high is None or found.low <= 0 <= found.high:
            return None
        return (found.low > 0) == self.higher_is_better


class SliceValue(Frozen):
    """The rows with one value of a column."""

    value: str
    rows: int
    judged: bool = Field(description="Whether there are enough rows to judge. If not, it has no figures.")
    figures: tuple[FigureBeside, ...] = ()


class Slices(Frozen):
    """The rows by the values of one column, the most frequent value first."""

    column: str
    smallest: int = Field(description="Rows that a value needs to be judged.")
    values: tuple[SliceValue, ...]
    more_values: int = Field(default=0, description="Values that are not listed, because there are too many.")
    more_rows: int = Field(default=0, description="Rows with these values.")
    without: int = Field(default=0, description="Rows without the column.")


class ChangedRow(Frozen):
    """A test row whose score differs between this model and the champion."""

    row: int = Field(description="Number of the row in the test rows, from 1.")
    place: str = Field(default="", description="Where in the project it came from: 'data/test.jsonl, line 3'.")
    digest: str = Field(default="", description="Identifies the row's content, as in rows.jsonl.")
    input: str
    reference: str
    prediction: str
    other: str = Field(description="The champion's answer.")
    score: float
    other_score: float


class Regressions(Frozen):
    """The rows whose value of one metric differs between two models."""

    metric: str
    higher_is_better: bool = True
    lost: int
    won: int
    equal: int
    worst: tuple[ChangedRow, ...] = Field(description="The rows that lost most, worst first.")
    best: tuple[ChangedRow, ...] = Field(description="The rows that won most, best first.")


class RowExample(Frozen):
    """A row of one version of a split."""

    place: str = Field(description="Where in the project it came from.")
    text: str = Field(description="The row as JSON, shortened.")


class RowChange(Frozen):
    """A row with the same input in both versions, and other content."""

    place: str = Field(description="Where in the project its new version came from.")
    input: str = Field(description="What is asked, shortened.")
    before: dict[str, str] = Field(description="Field → its value, shortened; only of fields that differ.")
    after: dict[str, str]


class SplitDiff(Frozen):
    """The rows of one split against those of the champion."""

    split: Literal["train", "validation", "test"]
    rows_before: int
    rows: int
    added: int
    removed: int
    changed: int = Field(description="Rows with the same input and other content.")
    added_examples: tuple[RowExample, ...] = ()
    removed_examples: tuple[RowExample, ...] = ()
    changed_examples: tuple[RowChange, ...] = ()

    @property
    def differs(self) -> bool:
        return bool(self.added or self.removed or self.changed)


class DataDiff(Frozen):
    """The data of this commit against the champion's, split by split."""

    splits: tuple[SplitDiff, ...]

    @property
    def text(self) -> str:
        """One line: what differs."""
        found = [
            f"{s.split}: {s.added:,} added, {s.removed:,} removed, {s.changed:,} changed"
            for s in self.splits
            if s.differs
        ]
        return "; ".join(found) or "the same rows in the same splits"


class ConfigChange(Frozen):
    """A key of llmops.yaml with another value, defaults included. An entry of a list is added or removed."""

    key: str
    before: str | None = Field(description="None: the key or entry is new.")
    after: str | None = Field(description="None: the key or entry was removed.")


class PromptDiff(Frozen):
    name: str = Field(description="'prompt' or 'training.prompt'.")
    diff: str = Field(description="Unified diff, shortened.")


class CommitLine(Frozen):
    revision: str
    subject: str
    author: str
    page: str | None = Field(default=None, description="Its web page, if it is known.")


class StageCost(Frozen):
    stage: str
    seconds: float = Field(description="Wall time of its computation.")
    reused: bool = Field(description="Computed for an earlier commit, so it cost this one nothing.")
    hardware: str = Field(default="", description="Hardware class, for example 'cpu-2'.")
    cost: float | None = Field(default=None, description="None: no price of its hardware is configured, or reused.")


class Cost(Frozen):
    """What this commit's stages took so far."""

    stages: tuple[StageCost, ...]
    seconds: float = Field(description="Of the stages that were not reused.")
    reused_seconds: float
    cost: float | None = Field(default=None, description="None: no price is configured.")
    currency: str = ""
    note: str = Field(default="", description="Why there is no cost.")


class Champion(Frozen):
    """The release that production served when the verdict was made."""

    release: str
    revision: str | None = Field(description="The commit that it was deployed from; None if it is unknown.")
    subject: str = ""


class Link(Frozen):
    name: str
    url: str


class Review(Frozen):
    """A verdict on a measurement, and what a reviewer asks about it."""

    format: int = FORMAT
    project: str
    stage: str
    commit: CommitLine
    release: str | None = Field(default=None, description="Release of this commit; None while it does not exist.")
    subject: str = Field(description="What was judged.")
    outcome: Literal["passed", "failed", "undecided"]
    failures: tuple[str, ...] = ()
    undecided: tuple[str, ...] = ()
    reasons: tuple[str, ...] = Field(default=(), description="Conditions that held.")
    skipped: tuple[str, ...] = Field(default=(), description="Conditions that did not apply, and why.")
    warnings: tuple[str, ...] = Field(default=(), description="What decides nothing by itself.")
    powers: tuple[Power, ...] = Field(default=(), description="What the gates could tell with these rows.")
    champion: Champion | None = Field(default=None, description="None: there was none.")
    rows: int
    figures: tuple[FigureBeside, ...]
    slices: tuple[Slices, ...] = ()
    regressions: Regressions | None = None
    data: DataDiff | None = None
    configuration: tuple[ConfigChange, ...] | None = None
    prompts: tuple[PromptDiff, ...] | None = None
    commits: tuple[CommitLine, ...] = Field(default=(), description="Since the champion's, newest first.")
    more_commits: int = Field(default=0, description="Commits that are not listed.")
    authors: tuple[str, ...] = Field(default=(), description="Of the commits since the champion's.")
    cost: Cost | None = None
    links: tuple[Link, ...] = ()
    notes: tuple[str, ...] = Field(default=(), description="What could not be compared, and why.")
