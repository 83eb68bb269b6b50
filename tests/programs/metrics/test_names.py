"""Metrics measure what their names say: profanity is not toxicity, and ROUGE is refused where it sees nothing."""

import json
from pathlib import Path

import pytest

from llmops_assets.programs.evaluation.metrics.base import Answer
from llmops_assets.programs.evaluation.scoring import check_metrics, score
from llmops_assets.programs.runtime.errors import BadInput
from llmops_assets.programs.runtime.specs import MetricSpec

TEXTS = ["you are a fool", "", "good day to you , good friend", "fool " * 40]


def make_classifier(folder: Path, labels: dict[int, str], **config: object) -> Path:
    """A random BERT of 16 positions, as `save_pretrained` writes it."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    folder.mkdir()
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "you",
        "are",
        "a",
        "fool",
        "good",
        "day",
        "to",
        "friend",
        ",",
    ]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    torch.manual_seed(5)
    made = BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=16, initializer_range=1.0, id2label=labels,
        label2id={name: i for i, name in labels.items()}, **config,
    )  # fmt: skip
    BertForSequenceClassification(made).save_pretrained(folder)
    BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=16).save_pretrained(folder)
    return folder


def answered(*references: str) -> list[Answer]:
    return [Answer(prediction="", reference=text) for text in references]


def toxicity(folder: Path, label: str = "toxic") -> MetricSpec:
    return MetricSpec(name="harm", metric="toxicity", options={"model": str(folder), "label": label})


@pytest.mark.parametrize(
    ("labels", "config"),
    [
        ({0: "fine", 1: "toxic"}, {}),
        ({0: "insult", 1: "toxic", 2: "threat"}, {"problem_type": "multi_label_classification"}),
        ({0: "toxic"}, {}),
    ],
    ids=["exclusive labels", "independent labels", "one label"],
)
def test_toxicity_is_the_probability_of_the_projects_own_classifier(
    tmp_path: Path, labels: dict[int, str], config: dict[str, object]
) -> None:
    """The reference is transformers' own pipeline. A text longer than the model reads gets its worst part's value."""
    from transformers import pipeline

    folder = make_classifier(tmp_path / "judge", labels, **config)
    (figure,), rows, *_ = score([toxicity(folder)], [Answer(prediction=t, reference=t) for t in TEXTS])
    ask = pipeline("text-classification", str(folder), device="cpu", top_k=None)
    given = [*TEXTS[:3], *("fool " * n for n in (14, 12))]
    expected = [next(e["score"] for e in found if e["label"] == "toxic") for found in ask(given)]
    expected = [*expected[:3], max(expected[3:])]
    assert [row["harm"] for row in rows] == pytest.approx(expected, abs=1e-5)
    assert figure.value == pytest.approx(sum(expected) / 4, abs=1e-5) and not figure.higher_is_better


def test_a_classifier_that_cannot_be_used_is_refused_before_the_model_is_asked(tmp_path: Path) -> None:
    folder = make_classifier(tmp_path / "judge", {0: "fine", 1: "toxic"})
    with pytest.raises(BadInput, match=r"has no label 'rude' \(it has: fine, toxic\)"):
        check_metrics([toxicity(folder, "rude")])
    with pytest.raises(BadInput, match=r"correct evaluation.metrics, or push its folder"):
        check_metrics([toxicity(tmp_path / "nowhere")])
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    save_file(
        {k: v for k, v in weights.items() if "classifier" not in k}, folder / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(BadInput, match=r"no weights for classifier.bias, classifier.weight; it is no classifier"):
        check_metrics([toxicity(folder)])
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "no-such-model"}))
    with pytest.raises(BadInput, match="the classifier cannot be loaded"):
        check_metrics([toxicity(folder)])


def test_rouge_is_refused_where_it_sees_nothing() -> None:
    """It scored every answer in Greek, Chinese or Arabic 0, a perfect one too, and said nothing."""
    greek = ["Προσθέτει ένα στο x.", "Returns x.", "Größe als Zahl, für später."]
    rouge = [MetricSpec(name=n) for n in ("rouge1", "rougeL")]
    with pytest.raises(BadInput) as refused:
        check_metrics(rouge, rows=answered("Adds 1.", *greek))
    assert refused.value.where == "test.jsonl, row 2"
    assert refused.value.message == (
        "rouge1 reads ASCII letters and digits only, and 1 of 4 references are mostly in another script; "
        "remove it from evaluation.metrics, and measure chrf or similarity instead"
    )
    check_metrics(
        rouge, rows=answered("42", "λ = 1, the rate", *["Adds 1."] * 18, "加一")
    )  # one of 21: it is counted as 0
    check_metrics([MetricSpec(name="chrf")], rows=answered(*greek))
    (figure,) = score([MetricSpec(name="chrf")], [Answer(prediction=t, reference=t) for t in greek]).metrics
    assert figure.value == pytest.approx(100)
