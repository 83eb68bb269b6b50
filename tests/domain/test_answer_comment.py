"""The comment on a pull request: plan, progress, verdict; bounded, and other people's text stays text."""

from typing import Any

from llmops_assets.domain.answer_comment import LONGEST, CommentAnswer, Section, comment, marker
from llmops_assets.domain.answers import Progress, findings_of, group_answers
from llmops_assets.domain.findings import Finding
from llmops_assets.domain.markdown import escaped, fenced, without_references
from llmops_assets.domain.records import Check
from llmops_assets.domain.requests import Request, Status
from llmops_assets.domain.review import Link

A = "a" * 40


def written(status: Status = "running", detail: str = "", plan: str | None = None, **fields: Any) -> CommentAnswer:
    request = Request(project="zoo", revision=A, generation=1, status=status, reason="tree changed", detail=detail)
    progress = Progress(request=request, plan=plan)
    return comment(progress, group_answers(progress), 7, **fields)


def test_it_begins_with_its_marker_and_has_plan_and_links_at_its_end() -> None:
    found = written(
        plan="### Stages\n\n- a @team", links=[Link(name="Dagster run", url="https://d.example.com/runs/1")]
    )
    assert found.body.startswith(marker("zoo")) and found.subject == "comment/7"
    assert "<details><summary>Plan</summary>\n\n### Stages\n\n- a @\u200bteam\n\n</details>" in found.body
    assert found.body.endswith("[Dagster run](https://d.example.com/runs/1)")


def test_what_does_not_fit_is_left_out_whole_and_named() -> None:
    big = Section("evaluation_report: passed", fenced("x" * LONGEST))
    found = written(verdicts=[big, Section("served_evaluation_report: failed", "- why")])
    assert len(found.body) < LONGEST and "```" not in found.body
    assert "Too long to be shown here: evaluation\\_report: passed." in found.body
    assert "#### served\\_evaluation\\_report: failed\n\n- why" in found.body


def test_the_same_state_is_the_same_comment_and_another_state_is_not() -> None:
    assert written().digest == written().digest != written("rejected", "x").digest


def test_a_link_ends_where_it_ends() -> None:
    found = written(links=[Link(name="a](b", url='https://x/) [t](https://evil.example.com) "')])
    assert found.body.count("](") == 1 + found.body.count("\\](")


def test_references_are_split_but_links_and_code_are_not() -> None:
    text = without_references(
        escaped("@team #12 GH-3 !4 http://a.example.com www.b.example.com](https://c.example.com")
    )
    for reference in ("@t", "#1", "GH-3", "!4", "://", "www."):
        assert reference not in text, reference
    kept = "[run](https://d.example.com/1)\n\n```sh\n@team #12 https://e.example.com\n```"
    assert without_references(kept) == kept
    assert without_references("```\n@in\n```\n@out").count("\u200b") == 1


def test_findings_have_file_and_line_and_only_failed_checks_have_any() -> None:
    found = (
        Finding(tool="ruff", rule="F401", message="`os` imported", file="src/a.py", line=3),
        Finding(tool="ruff", rule="E1", message="no line", file="src/a.py"),
        Finding(tool="ruff", rule="E1", message="no file", line=3),
        Finding(tool="ruff", rule="E501", message="long", file="x.py", line=12, severity="warn"),
    )
    failed = Check(name="ruff", passed=False, summary="4 problems", findings=found)
    told = findings_of([failed, failed.model_copy(update={"passed": True})])
    assert [(f.path, f.line, f.level) for f in told] == [("src/a.py", 3, "failure"), ("x.py", 12, "warning")]
    assert findings_of([failed], "models/zoo")[0].path == "models/zoo/src/a.py"
    assert told[0].message == "ruff: F401: `os` imported"
