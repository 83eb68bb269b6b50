"""The model card is one that huggingface_hub reads back, and no text of a project is markup in it."""

import html
from typing import Any

import pytest
from huggingface_hub import ModelCard

from llmops_assets.domain.records import Checkpoint, DatasetVersion, Metric, Split
from llmops_assets.stage.model_card import Card, escaped, render
from tests.support.records import made_by, measured

HOSTILE = "x\n---\nlicense: mit\n# [a](javascript:b) <script>c</script> | `d` ![e](f) *g* &lt;"
CHECKPOINT = Checkpoint(
    key="k", made_by=made_by(), method="lora", uri="u", digest="c" * 64, base="dvc:1", base_uri="u", base_digest="b",
    chat_template="", context_length=9, parameters=1000, trained_parameters=10, steps=4, tokens=64, tokens_per_s=1.0,
    train_loss=1.0, validation_loss=1.0,
)  # fmt: skip
DATA = DatasetVersion(
    key="k", made_by=made_by(), uri="u", train=Split(rows=9, digest="t" * 64),
    validation=Split(rows=1, digest="v" * 64), test=Split(rows=8, digest="e" * 64), checks=(),
)  # fmt: skip
METRICS = (
    Metric(name="rougeL", value=0.31, higher_is_better=True, low=0.25, high=0.38),
    Metric(name="bleu", value=3.5, higher_is_better=True),
)


def card(**change: object) -> Card:
    fields = {
        "name": "zoo", "commit": "a" * 40, "subject": "More rows", "base": "models/base, dvc:1", "hub": "org/base",
        "license": "apache-2.0", "adapter": True, "checkpoint": CHECKPOINT, "data": DATA,
        "versions": {"train": "data/train.jsonl, dvc:2", "test": "data/test.jsonl, dvc:3"},
        "report": measured(metrics=METRICS, test_digest="e" * 64),
    }  # fmt: skip
    return Card.model_validate({**fields, **change})


def read_back(text: str) -> tuple[Any, str]:
    """(metadata, Markdown). huggingface_hub's own reader refuses a model-index that it cannot use."""
    found = ModelCard(text, ignore_metadata_errors=False)
    return found.data, found.text


def test_huggingface_hub_reads_the_results_base_model_and_licence_back() -> None:
    data, text = read_back(render(card()))
    assert (data.license, data.base_model, data.library_name) == ("apache-2.0", "org/base", "peft")
    results = data.eval_results
    assert results is not None
    assert [(r.metric_type, r.metric_value, r.metric_args) for r in results] == [
        ("rougeL", 0.31, {"low": 0.25, "high": 0.38, "confidence": 0.95}), ("bleu", 3.5, None),
    ]  # fmt: skip
    assert {(r.dataset_split, r.dataset_revision) for r in results} == {("test", "e" * 64)}
    for said in ("a" * 40, "0.25 to 0.38", "no interval", "dvc:2", "9 rows", "c" * 64):
        assert said in text.replace("\\", ""), said


def test_a_card_without_a_licence_a_hub_model_or_a_report_is_valid_too() -> None:
    data, text = read_back(render(card(license=None, hub=None, report=None, adapter=False)))
    assert data.license is None and data.eval_results is None and "Not evaluated" in text


@pytest.mark.parametrize("field", ["subject", "base"])
def test_no_text_of_the_project_is_markup_or_metadata(field: str) -> None:
    """A commit's subject could have added a link, a script or a licence to the card."""
    written = render(card(**{field: HOSTILE}))
    data, text = read_back(written)
    assert data.license == "apache-2.0" and text.count("\n---") == 0
    assert "<script>" not in written and "](javascript" not in written and "![" not in written.replace("\\!", "")
    assert html.unescape(escaped(HOSTILE).replace("\\", "")) == " ".join(HOSTILE.split())


def test_a_hostile_metric_name_stays_text() -> None:
    name = "a|b\n- c: [d](e)"
    metrics = (Metric(name=name, value=1.0, higher_is_better=True),)
    data, _ = read_back(render(card(report=measured(metrics=metrics))))
    assert data.eval_results is not None and data.eval_results[0].metric_type == name
