"""Reviews for tests of what shows them: a short one, and one in which every part is filled with awkward texts."""

from collections.abc import Sequence
from typing import Any

from llmops_assets.domain.records import Metric
from llmops_assets.domain.review import (
    Champion,
    ChangedRow,
    CommitLine,
    ConfigChange,
    Cost,
    DataDiff,
    Estimate,
    FigureBeside,
    Link,
    PromptDiff,
    Regressions,
    Review,
    RowChange,
    RowExample,
    Slices,
    SliceValue,
    SplitDiff,
    StageCost,
)

NASTY = "</td><script>alert(1)</script> | `code` ![i](http://e.example/x.png) [l](javascript:x) **b** <img src=x>"
LONG = "an_unbroken_word" * 40


def make_review(**change: Any) -> Review:
    """A review that passed, without a comparison."""
    fields: dict[str, Any] = {
        "project": "zoo", "stage": "evaluation_report", "subject": "it", "outcome": "passed", "rows": 20, "figures": (),
        "commit": CommitLine(revision="c" * 40, subject="A commit", author="Ada <ada@example.com>"),
        "champion": Champion(release="a" * 64, revision="b" * 40, subject="The champion's"),
    }  # fmt: skip
    return Review(**{**fields, **change})


def full_review(metrics: Sequence[Metric], text: str = f"{NASTY} {LONG}") -> Review:
    """A review with every part, whose texts are `text`."""
    found = Estimate(value=12345.678, low=11000.5, high=13000.25)
    figures = tuple(
        FigureBeside(
            metric=m.name, higher_is_better=m.higher_is_better, unit="0 to 1", value=found, champion=found,
            unquantized=found, difference=Estimate(value=-1234.5, low=-2000.5, high=-100.25),
        )
        for m in metrics
    )  # fmt: skip
    row = ChangedRow(
        row=3, place=text, input=text, reference=text, prediction=text, other="", score=0.1, other_score=0.9
    )
    split = SplitDiff(
        split="train", rows_before=10_000, rows=10_001, added=1, removed=0, changed=1,
        added_examples=(RowExample(place="data/train.jsonl, line 3", text=text),),
        removed_examples=(RowExample(place=text, text=text),),
        changed_examples=(RowChange(place=text, input=text, before={text: text}, after={text: text}),),
    )  # fmt: skip
    return make_review(
        subject=text, outcome="undecided", failures=(text,), undecided=(text,), reasons=(text,), skipped=(text,),
        warnings=(text,), champion=Champion(release="a" * 64, revision="b" * 40, subject=text), figures=figures,
        slices=(
            Slices(
                column=text[:90], smallest=20, more_values=3, more_rows=9, without=1,
                values=(
                    SliceValue(value=text, rows=100, judged=True, figures=figures),
                    SliceValue(value=text, rows=3, judged=False),
                ),
            ),
        ),
        regressions=Regressions(metric="rougeL", lost=300, won=1, equal=4, worst=(row,), best=(row,)),
        data=DataDiff(splits=(split,)),
        configuration=(ConfigChange(key=f"gates.{LONG}", before=text, after=None),),
        prompts=(PromptDiff(name="prompt", diff=f"--- before\n+++ after\n@@ -1 +1 @@\n-old ``` {text}\n+{text}"),),
        commits=(CommitLine(revision="c" * 40, subject=text, author=text),), more_commits=3, authors=(text,),
        cost=Cost(
            stages=(StageCost(stage="served_evaluation_report", seconds=3700.0, reused=True, hardware="cpu-2"),),
            seconds=1.0, reused_seconds=3700.0, note="no price configured",
        ),
        links=(Link(name="staging", url="javascript:alert(1)"), Link(name="commit", url=f"https://e.example/{LONG}")),
        notes=(text,),
    )  # fmt: skip
