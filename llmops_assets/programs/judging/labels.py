"""People's verdicts on pairs of answers, in a JSONL file of the project, and a judge's agreement with them."""

import math
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from llmops_assets.config.documents import DocumentError, parse_json
from llmops_assets.domain.judging import Verdict
from llmops_assets.domain.models import Frozen

UNREADABLE = "unreadable"
FEWEST = 2


class LabelError(ValueError):
    """The file cannot be used; the message names the line."""


class Labelled(BaseModel):
    """One line: a pair of answers, and which is better. Further columns are ignored, such as who said so."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    input: str
    answer_a: str
    answer_b: str
    context: str = ""
    label: Verdict = Field(description="a, b or tie.")

    @field_validator("label", mode="before")
    @classmethod
    def _in_any_case(cls, value: object) -> object:
        return value.strip().lower() if isinstance(value, str) else value


class Agreement(Frozen):
    """How far a judge agrees with people."""

    rows: int
    accuracy: float
    kappa: float = Field(description="Cohen's kappa (Cohen 1960); NaN if all verdicts and labels are the same one.")


def read_labels(text: str) -> list[Labelled]:
    """The labelled pairs.

    Raises:
        LabelError: a line is not one, or there are too few.
    """
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            found.append(Labelled.model_validate(parse_json(line)))
        except DocumentError as error:
            raise LabelError(f"line {number}: {error.problem}") from error
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            key = ".".join(map(str, first["loc"])) or "it"
            needs = "a line is {input, answer_a, answer_b, label: a | b | tie}"
            raise LabelError(f"line {number}: {key}: {first['msg']}; {needs}") from error
    if len(found) < FEWEST:
        raise LabelError(f"it has {len(found)} labelled pairs, and agreement needs at least {FEWEST}; add some")
    return found


def agreement(labels: Sequence[Verdict], verdicts: Sequence[Verdict | None]) -> Agreement:
    """Accuracy and Cohen's kappa, by scikit-learn. An unreadable answer (None) is a verdict that no person gives."""
    import warnings

    from sklearn.metrics import accuracy_score, cohen_kappa_score

    said = [verdict or UNREADABLE for verdict in verdicts]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the NaN
        kappa = float(cohen_kappa_score(labels, said))
    return Agreement(rows=len(said), accuracy=float(accuracy_score(labels, said)), kappa=kappa)


def falls_short(found: Agreement, minimum: float) -> str | None:
    """Why the agreement is too small for evidence; None if it is not."""
    if math.isnan(found.kappa):
        return "its agreement with the labels is undefined, because all labels and verdicts are the same; label others"
    if found.kappa < minimum:
        return f"its agreement with the labels is kappa {found.kappa:.2f}, below min_agreement {minimum:g}"
    return None
