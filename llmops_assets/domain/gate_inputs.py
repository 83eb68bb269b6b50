"""What gates judge and compare with, and the result of one condition. Pure.

`llmops_assets.delivery.gate_evidence` loads it from ledger and store; `gate` judges it.
"""

from typing import Literal

from pydantic import Field, InstanceOf

from llmops_assets.domain.evaluated_rows import EvaluatedRows
from llmops_assets.domain.gate_power import Power
from llmops_assets.domain.models import Frozen
from llmops_assets.domain.preference import Preference
from llmops_assets.domain.records import Measured
from llmops_assets.domain.served_figures import Served

ANOTHER_BASELINE = "set the gate's `baseline` in llmops.yaml to a release or commit that `llmops status` shows"
NO_BASELINE = f"no release or commit of this project with results has this name; {ANOTHER_BASELINE}"


def compute_again(baseline: str) -> str:
    """What to do about a baseline whose results were collected."""
    return f"compute it again with `llmops run --revision {baseline}`, or {ANOTHER_BASELINE}"


class GateResult(Frozen):
    """The result of one condition of a gate."""

    outcome: Literal["passed", "failed", "undecided", "skipped"]
    text: str
    power: Power | None = None


class NoReference(Frozen):
    """There is no value to compare with: this fails, unless the comparison does not apply now."""

    outcome: Literal["failed", "skipped"]
    why: str


class Champion(Frozen):
    """The release that production serves now, as gates need it; or a baseline."""

    release: str
    rows: InstanceOf[EvaluatedRows] | None = Field(
        default=None, description="Those of its report; None if it stored none."
    )
    report: Measured | None = Field(description="Its report on the same rows and metrics; None if it has none.")
    lost: str | None = Field(default=None, description="Why it has no such report and can get none.")
    served: Served | None = Field(default=None, description="Its size, and its speed on the candidate's hardware.")


class Judged(Frozen):
    """The evidence about the candidate."""

    rows: InstanceOf[EvaluatedRows] | None = Field(
        default=None, description="Those of the report; None if it stored none."
    )
    unquantized_rows: InstanceOf[EvaluatedRows] | None = None
    baselines: dict[str, Champion] = Field(default_factory=dict, description="By the name that gates give them.")
    report: Measured | None
    unquantized: Measured | None = None
    champion: Champion | None = None
    served: Served | None = Field(default=None, description="Size and speed, of a served report.")
    preferences: dict[str, Preference | None] = Field(
        default_factory=dict,
        description="Metric that compares with the champion's answers -> what its judge prefers; None: not judged.",
    )
    has_served: bool = Field(
        default=False,
        description="This same release served production before: absolute gates only, so that a "
        "change with good metrics can be reverted in an incident.",
    )
