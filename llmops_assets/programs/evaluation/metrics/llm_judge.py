"""An LLM as a judge of answers against their references: `{metric: llm_judge, judge: NAME, file: RUBRIC}`."""

import json
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import ClassVar, NamedTuple

from llmops_assets.domain.judging import (
    PROMPT_VERSION,
    RubricError,
    Verdict,
    check_rubric,
    exchanged,
    judge_prompt,
    of_both_orders,
    read_verdict,
)
from llmops_assets.domain.keys import digest, short
from llmops_assets.programs.data.rows import question
from llmops_assets.programs.evaluation.metrics.base import Answer, NoEvidence, RowMetric
from llmops_assets.programs.judging.endpoint import JudgeEndpoint, Unreadable, endpoint_of
from llmops_assets.programs.judging.labels import Agreement, LabelError, Labelled, agreement, falls_short, read_labels
from llmops_assets.programs.runtime.errors import BadInput

MAX_UNREADABLE = 0.05
"""Share of the rows without a readable verdict above which the metric is no evidence, unless `max_unreadable` says."""
POINTS: Mapping[Verdict, float] = {"a": 1.0, "tie": 0.5, "b": 0.0}


class Pair(NamedTuple):
    """A judge's verdicts on two answers."""

    verdict: Verdict | None
    """Of both orders; None: one of them is not readable."""
    agree: bool
    """Both orders say the same."""
    first: int
    """How many of the two requests the first position won."""
    why: str = ""
    """Why it is not readable."""


class LlmJudge(RowMetric):
    """The share of answers that an LLM prefers to their reference, a tie counted as half.

    The judge sees each pair in both orders. Only an answer that it prefers in both wins; contradictions are ties (Zheng
    et al. 2023). Rows without a readable verdict are not counted, and too many of them are no evidence. Neither is a
    judge whose Cohen's kappa with people's labels is below `min_agreement`.

    Statistics: points of the answer (1, 0.5 or 0) and 1; whether both orders agree; how often the first position won.
    """

    beside: ClassVar[str] = "their reference"
    """What the answers are compared with, for the report."""
    _pairs: Sequence[Pair] = ()
    """Of the measured rows."""

    def check_file(self) -> None:
        try:
            check_rubric(self.options["file"])
        except RubricError as error:
            raise BadInput(f"its rubric: {error}", self.name) from error
        try:
            _ = self._labels
        except LabelError as error:
            raise BadInput(f"its labels: {error}", self.name) from error

    def check(self, rows: Sequence[Answer]) -> None:
        self.check_file()
        self._endpoint.check()

    @cached_property
    def _endpoint(self) -> JudgeEndpoint:
        return endpoint_of(json.dumps(self.options["endpoint"], sort_keys=True))

    @cached_property
    def _labels(self) -> list[Labelled]:
        return read_labels(self.options["labels"]) if self.options.get("labels") is not None else []

    @cached_property
    def _agreement(self) -> Agreement | None:
        """With people's labels; None without labels."""
        if not self._labels:
            return None
        pairs = self._judged([label.model_dump(include={*_TEXTS}) for label in self._labels])
        return agreement([label.label for label in self._labels], [pair.verdict for pair in pairs])

    def statistics_of(self, answers: Sequence[Answer]) -> list[Sequence[float]]:
        minimum = self.options.get("min_agreement")
        if self._agreement is not None and minimum is not None and (why := falls_short(self._agreement, minimum)):
            raise NoEvidence(f"{why}; improve the rubric or take another judge")
        pairs = self._judged([_texts(answer) for answer in answers])
        lost = [pair.why for pair in pairs if pair.verdict is None]
        most = self.options.get("max_unreadable", MAX_UNREADABLE)
        if len(lost) > most * len(pairs):
            raise NoEvidence(
                f"{len(lost)} of {len(pairs)} rows got no readable verdict, more than max_unreadable {most:g}; the "
                f"first: {lost[0]}; take a judge that follows instructions, or set constrained: true in its settings"
            )
        self._pairs = pairs
        return [
            (POINTS[p.verdict], 1.0, float(p.agree), float(p.first)) if p.verdict else (0.0, 0.0, 0.0, 0.0)
            for p in pairs
        ]

    def _judged(self, texts: Sequence[Mapping[str, str]]) -> list[Pair]:
        """The verdict on each pair of answers, from two requests."""
        as_json = bool(self.options["endpoint"].get("constrained"))
        try:
            asked = [
                judge_prompt(self.options["file"], {**t, "answer_a": t[one], "answer_b": t[other]}, as_json)
                for t in texts
                for one, other in (("answer_a", "answer_b"), ("answer_b", "answer_a"))
            ]
        except RubricError as error:
            raise BadInput(f"its rubric: {error}", self.name) from error
        said = self._endpoint.ask_all(asked)
        return [_pair(said[i], said[i + 1]) for i in range(0, len(said), 2)]

    def facts(self) -> dict[str, str]:
        models = ", ".join(sorted(self._endpoint.models)) or "unknown"
        rubric = short(digest(self.options["file"]))
        model = f"{self._endpoint.judge.model} (the endpoint says {models})"
        told = [f"{model}, prompt version {PROMPT_VERSION}, rubric {rubric}"]
        if pairs := [pair for pair in self._pairs if pair.verdict]:
            count = [sum(pair.verdict == verdict for pair in pairs) for verdict in ("a", "tie", "b")]
            told.append(f"{count[0]} answers better than {self.beside}, {count[1]} ties, {count[2]} worse")
            told.append(f"both orders agree on {sum(p.agree for p in pairs) / len(pairs):.0%} of the rows")
            told.append(f"the first position won {sum(p.first for p in pairs) / (2 * len(pairs)):.0%} of the requests")
            told.append(f"{len(self._pairs) - len(pairs)} rows without a readable verdict")
        found = self._agreement
        told.append(
            f"agreement with {found.rows} labelled pairs: kappa "
            f"{'undefined' if math.isnan(found.kappa) else f'{found.kappa:.2f}'}, accuracy {found.accuracy:.0%}"
            if found
            else "agreement with people not measured: it has no `labels`"
        )
        return {f"LLM judge ({self.name})": "; ".join(told)}

    def measured_with(self) -> dict[str, str]:
        return {f"judge of {self.name}": ", ".join(sorted(self._endpoint.models))}


class LlmPreference(LlmJudge):
    """The same against the champion's stored answers: `programs.judge_pairs` gives them in place of the references.

    It is judged when a verdict needs it, not in an evaluation: a report is a measurement, and champions change.
    """

    beside = "the champion's"


_TEXTS = ("input", "answer_a", "answer_b", "context")


def _texts(answer: Answer) -> dict[str, str]:
    """The candidate's answer as a, the reference as b."""
    given = answer.row.get("context")
    texts = given if isinstance(given, list | tuple) else [given]
    return {
        "input": question(dict(answer.row)),
        "answer_a": answer.prediction,
        "answer_b": answer.reference,
        "context": "\n\n".join(text for text in texts if isinstance(text, str)),
    }


def _pair(one: str | Unreadable, other: str | Unreadable) -> Pair:
    verdicts = []
    for said in (one, other):
        verdict = None if isinstance(said, Unreadable) else read_verdict(said)
        if verdict is None:
            why = str(said) if isinstance(said, Unreadable) else f"it answered {said[-100:]!r}"
            return Pair(None, False, 0, why)
        verdicts.append(verdict)
    first, second = verdicts
    agree = first == exchanged(second)
    return Pair(of_both_orders(first, second), agree, (first == "a") + (second == "a"))
