"""Each metric's value is that of its reference implementation, over any set of rows."""

import numpy as np
import pytest

from llmops_assets.programs.evaluation.metrics.base import Answer, RowMetric
from llmops_assets.programs.evaluation.metrics.bleu import Bleu
from llmops_assets.programs.evaluation.metrics.chrf import Chrf
from llmops_assets.programs.evaluation.metrics.rouge import Rouge

PAIRS = [
    ("Return the sum of two numbers.", "Return the sum of both numbers."),
    ("", "Nothing was answered here."),
    ("the the the the", "The cat sat on the mat."),
    ("Open a file and read all of its lines.", "Read all lines of a file, then close it."),
    ("x", "x"),
]
ANSWERS = [Answer(prediction=p, reference=r) for p, r in PAIRS]
SETS = [[0, 1, 2, 3, 4], [0], [1], [2], [3], [4], [1, 4], [0, 0, 3], [2, 4]]


@pytest.mark.parametrize("rows", SETS)
@pytest.mark.parametrize(("metric", "reference"), [(Bleu("bleu"), "corpus_bleu"), (Chrf("chrf"), "corpus_chrf")])
def test_the_value_of_any_rows_is_sacrebleus(metric: RowMetric, reference: str, rows: list[int]) -> None:
    """Also without 4-grams, without any match, and with an empty answer: where the smoothing and the penalty differ."""
    import sacrebleu

    statistics = np.array(metric.statistics_of(ANSWERS))
    expected = getattr(sacrebleu, reference)([PAIRS[i][0] for i in rows], [[PAIRS[i][1] for i in rows]]).score
    assert float(metric.value(statistics[rows].sum(0))) == pytest.approx(expected, abs=1e-9)
    sums = np.stack([statistics[rows].sum(0)] * 3)
    assert metric.value(sums).tolist() == pytest.approx([expected] * 3, abs=1e-9), "vectorized"


def test_bleu_of_one_row_is_sacrebleus_sentence_bleu() -> None:
    import sacrebleu

    metric = Bleu("bleu")
    for answer in ANSWERS:
        expected = sacrebleu.sentence_bleu(answer.prediction, [answer.reference]).score
        assert metric.row_value(answer, metric.statistics(answer)) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", ["rouge1", "rouge2", "rougeL"])
def test_rouge_is_rouge_scores(name: str) -> None:
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer([name])
    mean = np.mean([scorer.score(r, p)[name].fmeasure for p, r in PAIRS])
    sums = np.sum(Rouge(name).statistics_of(ANSWERS), axis=0)
    assert float(Rouge.value(sums)) == pytest.approx(float(mean))


def test_our_metrics_run_as_metrics_of_evaluate() -> None:
    import evaluate

    from llmops_assets.programs.evaluation.metrics.hugging_face import EvaluateMetric

    made = EvaluateMetric.of(Bleu("bleu"), ANSWERS, "")
    assert isinstance(made, evaluate.Metric)
