"""What a reviewer reads beside a verdict: slices, configuration and prompts, cost, and the Markdown of all of it."""

import dataclasses
import re
from typing import Any

import numpy as np
import pytest

from llmops_assets.domain.config_diff import key_changes, text_diff
from llmops_assets.domain.evaluated_rows import EvaluatedRows
from llmops_assets.domain.markdown import escaped, fenced
from llmops_assets.domain.records import Metric
from llmops_assets.domain.review import ConfigChange
from llmops_assets.domain.review_markdown import markdown
from llmops_assets.domain.row_comparison import RESAMPLED, VALUES, difference, slices
from llmops_assets.domain.stage_cost import cost_of
from tests.support.records import VALUES as PROJECT
from tests.support.records import Memory
from tests.support.reviews import NASTY, full_review, make_review

METRIC = Metric(name="score", value=0.5, higher_is_better=True)


def rows_with(scores: "np.typing.ArrayLike", kinds: list[Any]) -> EvaluatedRows:
    """Rows with one metric, a mean, and a column `kind`."""
    values = np.asarray(scores, dtype=float)
    return EvaluatedRows(
        digests=tuple(map(str, range(len(values)))),
        statistics={"score": np.stack([values, np.ones(len(values))], axis=1)},
        values={"score": lambda sums: sums[..., 0] / sums[..., 1]},
        columns=tuple({"kind": kind} if kind is not None else {} for kind in kinds),
    )


def test_a_slice_has_the_figures_of_its_own_rows_and_a_small_one_has_none() -> None:
    chance = np.random.default_rng(5)
    kinds = ["a"] * 30 + ["b"] * 25 + ["c"] * 19 + [None] * 6
    mine, theirs = chance.random(80), chance.random(80)
    other = rows_with(theirs, kinds)
    found = slices("kind", rows_with(mine, kinds), other.only(tuple(reversed(range(80)))), (METRIC,))
    assert [(v.value, v.rows, v.judged) for v in found.values] == [("a", 30, True), ("b", 25, True), ("c", 19, False)]
    assert found.without == 6 and found.values[2].figures == ()
    [b] = found.values[1].figures
    assert b.value and b.champion and b.difference
    assert b.value.value == pytest.approx(mine[30:55].mean()) and b.champion.value == pytest.approx(
        theirs[30:55].mean()
    )
    assert b.difference.value == pytest.approx(mine[30:55].mean() - theirs[30:55].mean())
    assert b.difference.low is not None and b.difference.high is not None
    assert b.difference.low < b.difference.value < b.difference.high and b.better is None


def test_a_column_with_many_values_shows_those_with_the_most_rows() -> None:
    kinds = [f"v{n % 40}" for n in range(400)] + ["often"] * 50
    found = slices("kind", rows_with(np.linspace(0, 1, 450), kinds), None, (METRIC,))
    assert len(found.values) == VALUES and found.values[0].value == "often"
    assert found.more_values == 41 - VALUES and found.more_rows == 450 - sum(v.rows for v in found.values)
    assert found.values[0].figures[0].champion is None


def test_a_metric_that_is_not_compared_has_no_champion_in_any_slice() -> None:
    """Perplexities of different tokenizers."""
    kinds, scores = ["a"] * 30, np.linspace(0, 1, 30)
    found = slices("kind", rows_with(scores, kinds), rows_with(scores, kinds), (METRIC,), frozenset({"score"}))
    assert found.values[0].figures[0].champion is None and found.values[0].figures[0].difference is None


def test_the_interval_of_many_rows_covers_the_true_difference() -> None:
    """By simulation: above the limit of resampling each bound must still hold in 95% of all cases."""
    chance, rows, missed, runs = np.random.default_rng(9), RESAMPLED + 200, [0, 0], 400
    for _ in range(runs):
        mine, theirs = chance.random(rows) ** 2 + 0.1, chance.random(rows) ** 2
        found = difference(rows_with(mine, [None] * rows), rows_with(theirs, [None] * rows), "score")
        assert found and found.low is not None and found.high is not None
        missed[0] += found.low > 0.1
        missed[1] += found.high < 0.1
    assert all(0.02 <= count / runs <= 0.085 for count in missed)


def test_a_difference_is_better_only_where_its_interval_excludes_zero() -> None:
    rows = [None] * 40
    better = difference(rows_with(np.linspace(0.2, 1, 40), rows), rows_with(np.linspace(0, 0.8, 40), rows), "score")
    assert better and better.low is not None and better.low > 0
    assert difference(rows_with([1.0, 2.0], [None] * 2), rows_with([1.0, 2.0], [None] * 2), "other") is None


def test_the_difference_of_a_metric_with_rows_of_its_own_is_taken_on_those() -> None:
    """A task of lm-evaluation-harness asks its own questions: reviewers saw no difference for it."""
    mine, theirs, none = np.linspace(0.3, 1, 50), np.linspace(0, 0.6, 50), [None] * 50
    task = rows_with(theirs, none).only(tuple(reversed(range(50))))
    rows, other = rows_with([1.0], [None]), rows_with([0.0], [None])
    found = difference(
        dataclasses.replace(rows, own={"score": rows_with(mine, none)}),
        dataclasses.replace(other, own={"score": task}),
        "score",
    )
    assert found and found.value == pytest.approx(mine.mean() - theirs.mean())
    assert found.low is not None and found.high is not None and found.low < found.value < found.high
    fewer = dataclasses.replace(other, own={"score": task.only(tuple(range(49)))})
    assert difference(dataclasses.replace(rows, own={"score": rows_with(mine, none)}), fewer, "score") is None


def test_configuration_keys_are_named_with_both_values_and_entries_of_lists_by_themselves() -> None:
    before = {
        "training": {"lora": {"r": 8, "alpha": 16}, "seed": 7},
        "gates": [{"metric": "a", "at_most": 1, "per": None}],
    }
    after = {
        "training": {"lora": {"r": 16, "alpha": 16}},
        "gates": [{"metric": "b", "at_most": 1}],
        "prompt": "p.jinja",
    }
    assert key_changes(before, after) == (
        ConfigChange(key="training.lora.r", before="8", after="16"),
        ConfigChange(key="training.seed", before="7", after=None),
        ConfigChange(key="gates", before='{"metric": "a", "at_most": 1}', after=None),
        ConfigChange(key="gates", before=None, after='{"metric": "b", "at_most": 1}'),
        ConfigChange(key="prompt", before=None, after="p.jinja"),
    )
    assert key_changes(before, before) == ()
    swapped = key_changes({"metrics": ["a", "b"]}, {"metrics": ["b", "a"]})
    assert swapped == (ConfigChange(key="metrics", before='["a", "b"]', after='["b", "a"]'),)
    many = key_changes({}, {f"k{n}": n for n in range(500)})
    assert len(many) == 101 and many[-1].key == "400 more keys"


def test_a_prompt_diff_is_unified_and_bounded() -> None:
    assert text_diff("a\nb\n", "a\nc\n") == "--- before\n+++ after\n@@ -1,3 +1,3 @@\n a\n-b\n+c\n "
    assert text_diff("a", "a") == "" and "+" in text_diff("a", "a\n")
    long = text_diff("", "x" * 9_000 + "\n" + "\n".join(map(str, range(5_000))))
    assert len(long) < 4_000 and long.endswith("more lines")


def test_the_cost_is_of_what_this_commit_computed_and_a_class_without_a_price_is_named() -> None:
    memory = Memory()
    records = list(memory.deliver(PROJECT, "r1").records.values())
    none = cost_of(records, "r1", {}, "USD")
    assert none.cost is None and "no price configured" in none.note and none.seconds == float(len(records))
    records = [r.model_copy(update={"made_by": r.made_by.model_copy(update={"hardware": "cpu-2"})}) for r in records]
    assert cost_of(records, "r1", {"cpu-4": 1.0}, "USD").note.startswith("no price configured for cpu-2")
    priced = cost_of(records, "r1", {"cpu-2": 3600.0}, "EUR")
    assert (priced.cost, priced.currency, priced.note) == (float(len(records)), "EUR", "")
    later = cost_of(records, "r2", {"cpu-2": 3600.0}, "EUR")
    assert (later.cost, later.seconds, later.reused_seconds) == (0.0, 0.0, float(len(records)))


def rendered(text: str) -> str:
    """As a renderer of GitHub's Markdown shows it."""
    mistune = pytest.importorskip("markdown_it")
    return str(mistune.MarkdownIt("gfm-like", {"html": True, "linkify": False}).render(text))


@pytest.mark.parametrize(
    "text", [NASTY, "# a", "``` x", "a\n\n# b\n| c |", "[x]: http://e.example", "~~~", "\u202eabc"]
)
def test_no_text_of_others_becomes_markup(text: str) -> None:
    """Rows, commits and values of slices come from anybody. With HTML allowed, as the most careless renderer has it."""
    html = rendered(f"| a | b |\n| --- | --- |\n| {escaped(text)} | x |\n\n- {escaped(text)}\n\n{fenced(text)}\n\nend")
    tags = set(re.findall(r"<(\w+)", html))
    assert tags <= {"table", "thead", "tbody", "tr", "th", "td", "ul", "li", "pre", "code", "p"}
    assert html.count("<tr>") == 2 and html.count("<td>") == 2 and html.count("<pre>") == 1


def test_the_markdown_of_a_review_has_every_part_and_no_markup_of_others() -> None:
    text = markdown(full_review([METRIC]))
    for part in (
        "Against",
        "Figures",
        "By ",
        "Rows lost and won",
        "Data",
        "Configuration",
        "prompt",
        "Cost",
        "Not compared",
    ):
        assert f"**{part}" in text, part
    html = rendered(text)
    assert not {"script", "img", "a", "h1"} & set(re.findall(r"<(\w+)", html))
    assert "no price configured" in text and "not judged" in text
    assert "no champion" in markdown(make_review(champion=None))
