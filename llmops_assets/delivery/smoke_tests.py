"""Evaluates an endpoint's answer to a smoke test."""

from llmops_assets.config.smoke_tests import SmokeTest
from llmops_assets.domain.formatting import quoted
from llmops_assets.domain.keys import short
from llmops_assets.domain.patterns import occurs
from llmops_assets.domain.records import Check
from resources.serving.client import Answer


def check_answer(test: SmokeTest, answer: Answer, release: str | None = None, may_be_empty: bool = False) -> Check:
    """Checks one answer; the summary has all unmet expectations.

    Args:
        may_be_empty: a whole answer without text is no fault: the model had nothing to say to a question that its
            project did not choose.
    """
    expect = test.expect
    wrong: list[str] = []
    if answer.status != expect.status:
        wrong.append(
            f"status {answer.status}, expected {expect.status}" + (f" ({answer.error[:200]})" if answer.error else "")
        )
    elif expect.status == 200:
        if answer.broken:
            wrong.append(f"the answer is incomplete: {answer.error[:200]}")
        if not answer.text.strip() and not (may_be_empty and answer.ok):
            wrong.append("the answer is empty")
        if release and answer.release != release:
            wrong.append(f"release {short(answer.release or 'unknown')} answered")
    if expect.contains is not None and expect.contains not in answer.text:
        wrong.append(f"it does not contain {quoted(expect.contains)}")
    if expect.matches is not None and not occurs(expect.matches, answer.text):
        wrong.append(f"it does not match {quoted(expect.matches)}")
    if expect.does_not_match is not None and occurs(expect.does_not_match, answer.text):
        wrong.append(f"it matches {quoted(expect.does_not_match)}")
    if expect.max_latency is not None and answer.latency_s > expect.max_latency:
        wrong.append(f"it took {answer.latency_s:.2f} s, limit {expect.max_latency:g} s")
    said = repr(answer.text.strip()[:80]) if answer.text.strip() else "no text, the model ended its answer at once"
    summary = "; ".join(wrong) or f"answered in {answer.latency_s:.2f} s: {said}"
    return Check(name=test.name, passed=not wrong, summary=summary, detail=answer.text, seconds=answer.latency_s)
