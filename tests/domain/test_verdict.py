"""What a verdict holds: checks, figures, reasons of several verdicts, loosened policy."""

import math

from llmops_assets.domain.gate_rule import Gate
from llmops_assets.domain.records import Check
from llmops_assets.domain.verdict import Compared, Verdict, combined, judge_checks
from tests.domain.gates import NOT_WORSE, champion, report, verdict


def test_checks_fail_on_errors_pass_on_warnings_and_fail_when_there_are_none() -> None:
    bad = Check(name="leakage", passed=False, summary="3 test inputs occur in train")
    warned = Check(name="duplicates", passed=False, summary="2 rows", severity="warn")
    good = Check(name="schema", passed=True, summary="18 rows")
    found = judge_checks("the data", "key", [bad, warned, good])
    assert found.failures == ("leakage: 3 test inputs occur in train",)
    assert found.reasons == ("duplicates: 2 rows", "schema: 18 rows")
    assert judge_checks("the data", "key", [warned, good]).passed
    for nothing in (None, ()):
        assert judge_checks("the data", None, nothing).failures == ("no report on the data",)


def test_a_verdict_has_the_figures_that_it_compared_with() -> None:
    """They were rendered into the stored report instead, and named a former champion once the report was reused."""
    found = verdict(NOT_WORSE, report(9.0, key="own"), champion=champion(10.0, key="champion's"))
    assert found.figures == (Compared(metric="perplexity", value=9.0, higher_is_better=False, champion=10.0),)
    on_other_rows = verdict(NOT_WORSE, report(9.0, key="own"), champion=champion(10.0, key="other", test_digest="x"))
    assert on_other_rows.figures[0].champion is None
    itself = verdict(NOT_WORSE, report(9.0, key="own"), champion=champion(9.0, key="own"))
    assert itself.figures[0].champion is None, "a champion is not compared with itself"


def test_a_figure_that_json_cannot_hold_is_left_out_of_a_verdict() -> None:
    found = verdict(Gate(metric="perplexity", at_most=40), report(math.inf))
    assert found.figures[0].value is None and Verdict.model_validate_json(found.model_dump_json()) == found


def test_the_combined_verdict_has_all_reasons_once_each_named_where_several_have_one() -> None:
    one = Verdict(subject="a", report="a", champion="c", failures=("too bad",), reasons=("fast",))
    two = Verdict(subject="b", report="b", champion="c", failures=("too bad", "too slow"))
    both = combined("all", "key", {"evaluation_report": one, "registered_model": two})
    assert both.failures == ("evaluation_report: too bad", "registered_model: too slow")
    assert (both.reasons, both.champion, both.report, both.passed) == (("fast",), "c", "key", False)
    assert combined("all", "key", {"evaluation_report": one}).failures == ("too bad",)


def test_what_a_policy_loosened_is_shown_beside_a_verdict_that_passes() -> None:
    verdict = Verdict(subject="policy", report=None, champion="c", loosened=("gate removed: rougeL",))
    assert verdict.passed and "loosened since the champion: gate removed: rougeL" in verdict.text
    assert "loosened since the champion: gate removed: rougeL" in verdict.markdown()
    assert [text.startswith("loosened since the champion: gate removed: rougeL") for text in verdict.warnings] == [True]
