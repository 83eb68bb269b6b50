"""A review as Markdown, for Dagster's pages: short, since the page of the verdict has everything. Pure.

Texts of rows, commits and configurations come from other people: all of them are escaped or fenced.
"""

from collections.abc import Sequence

from llmops_assets.domain.formatting import figure, time_span
from llmops_assets.domain.formatting import signed as with_sign
from llmops_assets.domain.keys import short
from llmops_assets.domain.markdown import escaped, fenced, table
from llmops_assets.domain.review import (
    ConfigChange,
    Cost,
    DataDiff,
    Estimate,
    FigureBeside,
    Regressions,
    Review,
    Slices,
)

CELL = 120
DIFF_LINES = 40
SLICE_ROWS = 24


def markdown(review: Review) -> str:
    """What a reviewer looks at first: rows lost and won, slices, data, configuration, prompts, cost."""
    parts = [
        _section("Against", [_champion(review)]),
        _section("Figures", _figures(review.figures)),
        *(_section(f"By {escaped(s.column, CELL)}", _slices(s)) for s in review.slices),
        _section("Rows lost and won", _regressions(review.regressions) if review.regressions else []),
        _section("Data", data_lines(review.data) if review.data else []),
        _section("Configuration", _configuration(review.configuration) if review.configuration else []),
        *(_section(p.name, [fenced(_first_lines(p.diff), "diff")]) for p in review.prompts or ()),
        _section("Cost", [_cost(review.cost)] if review.cost else []),
        _section("Not compared", [f"- {escaped(note)}" for note in review.notes]),
    ]
    return "\n\n".join(part for part in parts if part)


def data_lines(data: DataDiff) -> list[str]:
    """The data diff: a table of the splits, and examples."""
    lines = table(
        ("split", "rows before", "rows", "added", "removed", "changed"),
        [(s.split, *(f"{n:,}" for n in (s.rows_before, s.rows, s.added, s.removed, s.changed))) for s in data.splits],
    )
    for split in data.splits:
        for sign, examples in (("+", split.added_examples), ("−", split.removed_examples)):
            lines += [f"- {sign} {escaped(e.place, CELL)}: {escaped(e.text, 200)}" for e in examples[:2]]
        for change in split.changed_examples[:2]:
            fields = "; ".join(
                f"{escaped(name, CELL)}: {escaped(change.before.get(name, '(absent)'), 100)} → "
                f"{escaped(change.after.get(name, '(absent)'), 100)}"
                for name in dict.fromkeys([*change.before, *change.after])
            )
            lines.append(f"- ± {escaped(change.place, CELL)}: {fields}")
    return _blank_after_table(lines)


def _section(title: str, lines: Sequence[str]) -> str:
    return "\n".join([f"**{title}**", "", *lines]) if lines else ""


def _blank_after_table(lines: list[str]) -> list[str]:
    end = next((i for i, line in enumerate(lines) if not line.startswith("|")), None)
    return lines if end is None else [*lines[:end], "", *lines[end:]]


def _champion(review: Review) -> str:
    found = review.champion
    if found is None:
        return "no champion: production serves nothing yet"
    commit = f", commit {short(found.revision)}: {escaped(found.subject)}" if found.revision else ""
    return f"the champion, release {short(found.release)}{commit}"


def estimate(found: Estimate | None) -> str:
    """A figure with its bounds."""
    if found is None:
        return "–"
    value = figure(found.value)
    return (
        value if found.low is None or found.high is None else f"{value} ({figure(found.low)} to {figure(found.high)})"
    )


def gap(beside: FigureBeside) -> Estimate | None:
    """The difference from the champion; without an interval where the rows give none."""
    if beside.difference is not None or beside.value is None or beside.champion is None:
        return beside.difference
    return Estimate(value=beside.value.value - beside.champion.value)


def gap_text(beside: FigureBeside) -> str:
    """The difference from the champion with its sign and bounds, and whether it is shown to be better or worse."""
    found = gap(beside)
    if found is None:
        return "–"
    text = signed(found.value)
    if found.low is not None and found.high is not None:
        text += f" ({signed(found.low)} to {signed(found.high)})"
    return text + {True: ", better", False: ", worse", None: ""}[beside.better]


def signed(value: float) -> str:
    """A difference with its sign; none at all is ±0."""
    return "±0" if value == 0 else with_sign(value)


def _figures(figures: Sequence[FigureBeside]) -> list[str]:
    return table(
        ("metric", "this model", "champion", "difference"),
        [(escaped(f.metric, CELL), estimate(f.value), estimate(f.champion), gap_text(f)) for f in figures],
    )


def _slices(found: Slices) -> list[str]:
    if not found.values:
        return ["no test row has this column"]
    rows = []
    for value in found.values:
        name = f"{escaped(value.value, CELL)} ({value.rows:,} rows)"
        if not value.judged:
            rows.append((name, f"fewer than {found.smallest} rows: not judged", "", "", ""))
        for f in value.figures:
            rows.append((name, escaped(f.metric, CELL), estimate(f.value), estimate(f.champion), gap_text(f)))
            name = ""
    heading = (escaped(found.column, CELL), "metric", "this model", "champion", "difference")
    lines = table(heading, rows[:SLICE_ROWS])
    if len(rows) > SLICE_ROWS:
        lines += ["", f"and {len(rows) - SLICE_ROWS} more lines on the page of the verdict"]
    if found.more_values:
        lines += ["", f"and {found.more_values:,} more values with {found.more_rows:,} rows"]
    return lines


def _regressions(found: Regressions) -> list[str]:
    lines = [f"By {escaped(found.metric, CELL)}: {found.lost} lost, {found.won} won, {found.equal} equal."]
    if found.worst:
        cells = [
            (
                escaped(row.place or f"row {row.row}", CELL),
                escaped(row.input, CELL),
                f"{escaped(row.prediction, CELL) or '(empty)'} ({figure(row.score)})",
                f"{escaped(row.other, CELL) or '(empty)'} ({figure(row.other_score)})",
            )
            for row in found.worst[:3]
        ]
        lines += ["", *table(("lost most", "input", "answer", "champion's answer"), cells)]
    return lines


def _configuration(found: Sequence[ConfigChange]) -> list[str]:
    return table(
        ("key of llmops.yaml", "before", "after"),
        [
            (escaped(c.key, CELL), *(escaped(t, CELL) if t is not None else "–" for t in (c.before, c.after)))
            for c in found
        ],
    )


def _first_lines(text: str) -> str:
    lines = text.split("\n")
    more = len(lines) - DIFF_LINES
    return "\n".join([*lines[:DIFF_LINES], *([f"… {more} more lines"] if more > 0 else [])])


def cost_text(found: Cost) -> str:
    """What a commit's stages took and cost."""
    price = f"{figure(found.cost)} {found.currency}" if found.cost is not None else found.note
    reused = f" ({time_span(found.reused_seconds)} reused from earlier commits)" if found.reused_seconds else ""
    return f"{time_span(found.seconds)} of stages{reused}; {price}"


def _cost(found: Cost) -> str:
    return escaped(cost_text(found))
