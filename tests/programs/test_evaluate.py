"""Evaluation: metrics, a self-contained report, and errors in a project's own metrics."""

import json
import math
import re
import shutil
import subprocess
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmops_assets.catalog import METRICS
from llmops_assets.domain.records import LoadFigures, Metric, Sample
from llmops_assets.domain.review import Estimate, FigureBeside
from llmops_assets.programs.evaluate import refuse_too_long, samples
from llmops_assets.programs.evaluation.metrics.base import Answer
from llmops_assets.programs.evaluation.regressions import regressions
from llmops_assets.programs.evaluation.report import Measurement, render, write_report
from llmops_assets.programs.evaluation.rows import FILE as ROWS
from llmops_assets.programs.evaluation.rows import read_rows_file, write_rows_file
from llmops_assets.programs.evaluation.scoring import Scored, check_metrics, score
from llmops_assets.programs.runtime.errors import BadInput
from llmops_assets.programs.runtime.specs import MetricSpec
from tests.programs.conftest import Ended, Make, run_program, write_jsonl
from tests.support.reviews import full_review, make_review


def custom(tmp_path: Path, code: str, function: str = "metric") -> MetricSpec:
    file = tmp_path / "metrics.py"
    file.write_text(code)
    files = tuple(p.name for p in tmp_path.glob("*.py"))
    return MetricSpec(
        name="mine", file="metrics.py", function=function, tree=str(tmp_path), files=files, higher_is_better=False
    )


def answer(prediction: str = "", reference: str = "", **more: Any) -> Answer:
    return Answer(prediction=prediction, reference=reference, **more)


def test_every_metric_is_measured_once_in_the_order_asked(evaluated: Ended, evaluation: dict[str, Any]) -> None:
    metrics = evaluated.result["metrics"]
    assert [m["name"] for m in metrics] == [m["name"] for m in evaluation["metrics"]]
    figures = {m["name"]: m["value"] for m in metrics}
    assert 1 < figures["perplexity"] < 49152 * 2
    assert 0 <= figures["rougeL"] <= 1 and 0 <= figures["bleu"] <= 100 and 0 <= figures["profanity"] <= 1
    better = {m["name"]: m["higher_is_better"] for m in metrics}
    assert better["rougeL"] and not better["perplexity"] and not better["profanity"]


def test_the_perplexity_is_that_of_the_validation_loss(
    evaluation: dict[str, Any], trained: Ended, data: Path, tmp_path: Path
) -> None:
    """Both programs count tokens the same way: training's loss and evaluation's perplexity must not diverge."""
    write_jsonl(tmp_path / "test.jsonl", [json.loads(x) for x in (data / "validation.jsonl").read_text().splitlines()])
    spec = {**evaluation, "data": str(tmp_path), "metrics": [{"name": "perplexity"}], "max_new_tokens": 1}
    result = run_program("evaluate", spec, tmp_path / "out").result
    perplexity = result["metrics"][0]["value"]
    assert math.log(perplexity) == pytest.approx(trained.result["validation_loss"], rel=1e-5)
    assert result["cut"] == 8, "no answer of one token has an end"


def test_bits_per_byte_is_the_likelihood_behind_the_perplexity_in_another_unit(evaluated: Ended) -> None:
    """Bytes are those of the references: computed here from the perplexity, the tokens and the rows' texts."""
    figures = {m["name"]: m["value"] for m in evaluated.result["metrics"]}
    lines = [json.loads(line) for line in (evaluated.artifact / "rows.jsonl").read_text().splitlines()]
    tokens = sum(line["stats"]["perplexity"][1] for line in lines)
    written = sum(len(line["reference"].encode()) for line in lines)
    assert figures["bits_per_byte"] == pytest.approx(math.log2(figures["perplexity"]) * tokens / written)
    assert len(evaluated.result["tokenizer"]) == 64
    assert (
        "perplexity is comparable between models of one tokenizer only"
        in (evaluated.artifact / "report.html").read_text()
    )


def test_each_prediction_is_kept_with_its_scores(evaluated: Ended) -> None:
    rows = [json.loads(line) for line in (evaluated.artifact / "predictions.jsonl").read_text().splitlines()]
    assert len(rows) == evaluated.result["rows"] == 20
    assert rows[0]["input"].startswith("def add_104(") and rows[0]["reference"] == "Add 104 to x."
    assert set(rows[0]["scores"]) == {"perplexity", "bits_per_byte", "bleu", "rouge1", "rougeL", "profanity"}


def test_any_rows_value_follows_from_the_statistics_of_rows_jsonl(evaluated: Ended) -> None:
    """Intervals, slices and comparisons read this file only, without the model and without its libraries."""
    lines = list(read_rows_file(evaluated.artifact))
    assert [line.row for line in lines] == list(range(1, 21)) and len({line.digest for line in lines}) == 20
    assert lines[0].input.startswith("def add_104(") and lines[0].reference == "Add 104 to x."
    for metric in evaluated.result["metrics"]:
        sums = np.sum([line.stats[metric["name"]] for line in lines], axis=0)
        assert float(METRICS[metric["name"]].load().value(sums)) == pytest.approx(metric["value"], rel=1e-12)


def test_the_rows_and_the_report_of_thousands_of_long_rows_stay_small(tmp_path: Path) -> None:
    """A row may have megabytes, and each was written whole into the page's samples."""
    row = {"input": "x" * 50_000, "output": "y" * 50_000, "language": "en", "note": "long" * 99, "tags": ["a"]}
    answers = [answer("z" * 50_000, "y" * 50_000, row=row)] * 2_000
    found = Scored((), [{"rougeL": 0.5}] * 2_000, [{"rougeL": [0.5, 1.0]}] * 2_000)
    write_rows_file(tmp_path, answers, found)
    assert (tmp_path / ROWS).stat().st_size < 80 * 2**20
    first = next(read_rows_file(tmp_path))
    assert first.columns == {"language": "en"} and "(50,000 characters)" in first.input
    write_report(tmp_path, "t", "w", (), samples(answers[:100], found.rows[:100]), {})
    assert (tmp_path / "report.html").stat().st_size < 2**20


def test_rows_lost_and_won_are_shown_worst_first_with_both_answers(tmp_path: Path) -> None:
    """Rows are paired by content: the other report has them in another order. Equal rows and losses are counted."""
    rows = [{"input": f"in {i}", "output": "r"} for i in range(20)]
    metric = Metric(name="rougeL", value=0.5, higher_is_better=True, part="rougeL")
    for name, scores, order in (
        ("mine", [0.5] * 20, range(20)),
        ("other", [i / 20 for i in range(20)], range(19, -1, -1)),
    ):
        (tmp_path / name).mkdir()
        answers = [answer(f"{name} <{i}>", "r", row=rows[i]) for i in order]
        scored = Scored(
            (metric,), [{"rougeL": scores[i]} for i in order], [{"rougeL": [scores[i], 1.0]} for i in order]
        )
        write_rows_file(tmp_path / name, answers, scored)
    found = regressions(tmp_path / "mine", tmp_path / "other", [metric])
    assert found is not None and (found.lost, found.won, found.equal) == (9, 10, 1)
    assert [c.row for c in found.worst] == [20, 19, 18, 17, 16] and [c.row for c in found.best] == [1, 2, 3, 4, 5]
    assert (found.worst[0].prediction, found.worst[0].other) == ("mine <19>", "other <19>")
    measurement = Measurement(
        title="t", what="w", made="now", metrics=(metric,), facts={}, load=(), rows=20, groups=()
    )  # fmt: skip
    page = render(measurement, make_review(outcome="undecided", undecided=("too few",), regressions=found))
    assert (
        "9 lost, 10 won, 1 equal" in page and "other &lt;19&gt;" in page and "Verdict" in page and "undecided" in page
    )


def test_the_report_stands_alone_and_escapes(evaluated: Ended) -> None:
    html = (evaluated.artifact / "report.html").read_text()
    assert "<script" not in html and "A &lt;script&gt; in the title" in html
    assert not re.search(r"(?:src|href)=|url\(|@import", html)
    assert "Best by rougeL" in html and "Worst by rougeL" in html and "Random" in html
    assert 'name="viewport"' in html and "prefers-color-scheme: dark" in html


def test_a_stored_report_compares_with_nothing_and_the_page_of_a_verdict_does(evaluated: Ended) -> None:
    """A reused report kept a column with the figures of whichever release was the champion when it was measured."""
    html = (evaluated.artifact / "report.html").read_text()
    assert "Champion" not in html and "Verdict" not in html
    measurement = Measurement.model_validate_json((evaluated.artifact / "report.json").read_text())
    assert render(measurement) == html
    figures = (
        FigureBeside(
            metric="perplexity", higher_is_better=False, value=Estimate(value=3.0), champion=Estimate(value=1.0),
            difference=Estimate(value=2.0, low=1.0, high=3.0),
        ),
        FigureBeside(
            metric="rougeL", higher_is_better=True, value=Estimate(value=0.5, low=0.4, high=0.6),
            champion=Estimate(value=0.25, low=0.125, high=0.375), difference=Estimate(value=0.25, low=0.1, high=0.4),
        ),
    )  # fmt: skip
    page = render(
        measurement,
        make_review(
            subject="evaluation_report of <abc>", outcome="failed", failures=("bleu 1, minimum 9",),
            reasons=("rouge1 ok",), figures=figures,
        ),
    )  # fmt: skip
    assert (
        "Champion" in page
        and "+2 worse" in page
        and "+1 to +3" in page
        and "better" in page
        and "Unquantized" not in page
    )
    assert "0.125 to 0.375" in page, "the champion's interval stands beside this model's"
    assert "bleu 1, minimum 9" in page and "evaluation_report of &lt;abc&gt;" in page


def test_no_text_on_the_page_of_a_verdict_is_markup(evaluated: Ended) -> None:
    """Rows, commits, values of slices and gates' reasons come from anybody, and the page is opened beside MLflow."""
    measurement = Measurement.model_validate_json((evaluated.artifact / "report.json").read_text())
    page = render(measurement, full_review(measurement.metrics))
    found: list[tuple[str, dict[str, str | None]]] = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: found.append((tag, dict(attributes)))  # type: ignore[method-assign]
    parser.feed(page)
    assert not {tag for tag, _ in found} & {"script", "img", "iframe", "b>", "object", "link"}
    names = {name for _, attributes in found for name in attributes}
    allowed = {"lang", "charset", "name", "content", "class", "scope", "data-label", "href", "rel", "target"}
    assert names <= allowed
    links = [attributes["href"] or "" for tag, attributes in found if tag == "a"]
    assert links and all(link.startswith("https://") for link in links)
    for part in ("Lost most", "Examples of train", "Before", "not judged", "no price configured", "Authors", "failed"):
        assert part in page, part


def test_no_page_is_too_narrow_for_the_report(tmp_path: Path) -> None:
    """In a real browser, in a frame of each width: the comparison with the champion was off the screen on a phone."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium here to lay the report out")
    metrics = [Metric(name=n, value=12345.678, higher_is_better=False) for n in ("perplexity", "a_metric_of_our_own")]
    sample = Sample(input="x" * 900 + " words" * 90, reference="<b>no</b>" * 40, prediction="", scores={"bleu": 2})
    load = LoadFigures(
        clients=8, tokens_per_s=99.9, first_token_p50_s=0.004, latency_p50_s=1.5, latency_p95_s=20.0, broken=1
    )
    parity = "1 of 2 rows; " + "9," * 200
    write_report(
        tmp_path, "zoo at 0123456789ab: " + "a long subject " * 9, "A model", metrics, [sample] * 12,
        {"Token parity with training": parity}, [load],
    )  # fmt: skip
    measurement = Measurement.model_validate_json((tmp_path / "report.json").read_text())
    (tmp_path / "report.html").write_text(render(measurement, full_review(metrics)))
    page, widths = escape((tmp_path / "report.html").read_text()), (320, 390, 768, 1280)
    frame = tmp_path / "frame.html"
    frame.write_text(
        "<script>function told(frame) { let d = frame.contentDocument, e = d.documentElement;"
        " let over = e => e.scrollWidth - e.clientWidth; document.title +="
        " `${frame.width}: ${over(e)} ${[...d.querySelectorAll('.wide')].filter(over).length};`; }</script>"
        + "".join(
            f'<iframe width={width} height=800 style="border:0" srcdoc="{page}" onload="told(this)"></iframe>'
            for width in widths
        )
    )
    shown = subprocess.run(
        [chromium, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}",
         "--dump-dom", frame.as_uri()],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    title = re.search(r"<title>(.*?)</title>", shown)
    assert title is not None, shown[:300]
    found = dict(re.findall(r"(\d+): (\d+ \d+);", title[1]))
    told = "how much wider than the page, and tables to be scrolled sideways"
    assert found == {str(width): "0 0" for width in widths}, told


def test_the_report_needs_no_width_and_no_light(evaluated: Ended) -> None:
    """The same layout, checked in the HTML only, for machines without a browser."""
    html = (evaluated.artifact / "report.html").read_text()
    cells = re.findall(r"<td([^>]*)>", html)
    assert cells and all("data-label" in attributes for attributes in cells if attributes)
    assert html.count("<td>") == html.count("<tr><td>"), "every cell but a row's first names its column"
    assert "@media (max-width: 50rem)" in html and "@media print" in html
    assert "lower is better, 1 at best" in html and "higher is better, 0 to 1" in html


def test_a_row_that_does_not_fit_into_the_context_is_refused() -> None:
    """A silently truncated row would give wrong metrics."""
    with pytest.raises(BadInput, match="600 tokens, the model's context is 512") as refused:
        refuse_too_long([512, 600], 512)
    assert refused.value.where == "test.jsonl, row 2"


def test_a_faulty_metric_ends_the_program_with_its_place(
    evaluation: dict[str, Any], base_without: Make, tmp_path: Path
) -> None:
    spec = custom(tmp_path, "def metric(prediction, reference):\n    return 1 / 0\n")
    error = run_program("evaluate", {**evaluation, "metrics": [spec.model_dump()]}, tmp_path / "out").error
    assert error["where"] == "metrics.py:metric"
    assert error["message"] == "raised ZeroDivisionError on row 1: division by zero"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def metric(p, r):\n    return 'high' if p == 'b' else 1.0\n", "returned 'high' on row 2"),
        ("def metric(p, r):\n    return float('nan')\n", "returned nan on row 1"),
        ("def metric(p, r):\n    return None\n", "returned None on row 1"),
        ("def metric(p):\n    return 1.0\n", "raised TypeError on row 1"),
        ("def metric(p, r):\n    raise SystemExit(0)\n", "raised SystemExit on row 1"),
    ],
)
def test_what_a_metric_does_wrong_is_reported_with_the_row(tmp_path: Path, code: str, message: str) -> None:
    with pytest.raises(BadInput) as refused:
        score([custom(tmp_path, code)], [answer("a", "a"), answer("b", "b")])
    assert refused.value.where == "metrics.py:metric" and message in refused.value.message


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def other(p, r):\n    return 1.0\n", "has no function 'metric'"),
        ("import nowhere_to_be_found\n", "cannot be imported: ModuleNotFoundError"),
        ("def metric(p, r:\n", "cannot be imported: SyntaxError"),
    ],
)
def test_a_metric_that_cannot_be_loaded_is_refused_before_the_model_is_asked(
    tmp_path: Path, code: str, message: str
) -> None:
    with pytest.raises(BadInput, match=re.escape(message)):
        check_metrics([custom(tmp_path, code)])


def test_a_metric_may_import_what_lies_beside_it_and_stands_beside_ours(tmp_path: Path) -> None:
    (tmp_path / "beside_metrics.py").write_text("HALF = 0.5\n")
    spec = custom(tmp_path, "from beside_metrics import HALF\n\n\ndef metric(p, r):\n    return HALF * (p == r)\n")
    found = score([spec, MetricSpec(name="rougeL")], [answer("a b", "a b"), answer("c", "d")])
    figures = [(m.name, m.value, m.higher_is_better) for m in found.metrics]
    assert figures == [("mine", 0.25, False), ("rougeL", 0.5, True)]
    assert found.rows == [{"mine": 0.5, "rougeL": 1.0}, {"mine": 0.0, "rougeL": 0.0}]
    assert found.statistics[0] == {"mine": [0.5, 1.0], "rougeL": [1.0, 1.0]}


def test_a_figure_that_is_not_finite_is_no_evidence() -> None:
    """A gate fails on a missing figure; one that cannot be compared might pass."""
    found = score([MetricSpec(name="perplexity")], [answer("a", "b", nll=math.nan, tokens=3)])
    assert found.metrics == () and found.rows == [{"perplexity": None}] and found.statistics == [{}]


def test_perplexity_weighs_tokens_and_not_rows() -> None:
    rows = [answer(nll=9 * math.log(2), tokens=9), answer(nll=math.log(32), tokens=1)]
    assert score([MetricSpec(name="perplexity")], rows).metrics[0].value == pytest.approx(2 ** (14 / 10))
