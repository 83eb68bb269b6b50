"""The catalog's metrics against independent implementations, and values that their definitions give by hand."""

import json
import math
import random
from typing import Any

import numpy as np
import pytest

from llmops_assets.catalog import METRICS
from llmops_assets.programs.evaluation.metrics.base import Answer, RowMetric
from llmops_assets.programs.evaluation.scoring import check_metrics, score
from llmops_assets.programs.runtime.errors import BadInput
from llmops_assets.programs.runtime.specs import MetricSpec

WORDS = ["the", "a", "cat", "猫", "sits", "läuft", "on", "mat.", "Is", "it?", "42"]


def spec(part: str, **options: Any) -> MetricSpec:
    return MetricSpec(name="it", metric=part, options=options)


def answered(*predictions: str, reference: str = "", **row: Any) -> list[Answer]:
    return [
        Answer(prediction=p, reference=reference, row={"input": "", "output": reference, **row}) for p in predictions
    ]


def values(part: str, answers: list[Answer], **options: Any) -> list[float | None]:
    return [row["it"] for row in score([spec(part, **options)], answers).rows]


def whole(part: str, answers: list[Answer], **options: Any) -> float:
    return score([spec(part, **options)], answers).metrics[0].value


def random_texts(seed: int, most: int = 12) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(0, most))) for _ in range(60)]


def test_every_metric_of_the_catalog_says_what_it_measures() -> None:
    for part in METRICS.values():
        assert part.unit and part.source and part.does, part.name
        if part.missing() and part.extra == "lm-eval":
            continue
        assert issubclass(part.load(), RowMetric), f"{part.name} has no statistics of a row, so no interval"


def test_chrf_is_sacrebleus_over_any_rows() -> None:
    """Of single rows, of all, and of slices, from the stored statistics alone."""
    import sacrebleu

    pairs = list(zip(random_texts(1), random_texts(2), strict=True))
    answers = [Answer(prediction=p, reference=r) for p, r in pairs]
    found = score([MetricSpec(name="chrf")], answers)
    assert found.metrics[0].value == pytest.approx(
        sacrebleu.corpus_chrf([p for p, _ in pairs], [[r for _, r in pairs]]).score
    )
    assert [row["chrf"] for row in found.rows] == pytest.approx(
        [sacrebleu.sentence_chrf(p, [r]).score for p, r in pairs]
    )
    sums = np.array([row["chrf"] for row in found.statistics])[10:30].sum(0)
    part = sacrebleu.corpus_chrf([p for p, _ in pairs[10:30]], [[r for _, r in pairs[10:30]]]).score
    assert float(METRICS["chrf"].load().value(sums)) == pytest.approx(part)


def test_bits_per_byte_do_not_depend_on_how_long_tokens_are() -> None:
    """One distribution over texts, seen by two tokenizers: by character with p = 1/4 each, and by pairs with 1/16."""
    texts = ["abcd", "aabbccdd", "äöäö"]
    by_character = [Answer(prediction="", reference=t, nll=len(t) * math.log(4), tokens=len(t)) for t in texts]
    by_pair = [Answer(prediction="", reference=t, nll=len(t) / 2 * math.log(16), tokens=len(t) // 2) for t in texts]
    assert whole("perplexity", by_character) == pytest.approx(4) and whole("perplexity", by_pair) == pytest.approx(16)
    # 16 characters of 2 bits are 32 bits, in 4 + 8 + 8 bytes.
    assert whole("bits_per_byte", by_character) == pytest.approx(32 / 20) == whole("bits_per_byte", by_pair)
    assert values("bits_per_byte", by_pair) == pytest.approx([2, 2, 1])


def test_repetition_is_that_of_nltks_ngrams() -> None:
    from nltk.util import ngrams

    texts = random_texts(3, most=60)
    expected = []
    for text in texts:
        grams = list(ngrams(text.split(), 4))
        expected.append((len(grams) - len(set(grams))) / len(grams) if grams else 0.0)
    assert values("repetition", answered(*texts)) == pytest.approx(expected)
    assert values("repetition", answered("a b c d , a b c d", "x " * 103)) == pytest.approx([1 / 6, 0.99])


def test_exact_match_is_scikit_learns_accuracy_of_stripped_texts() -> None:
    from sklearn.metrics import accuracy_score

    pairs = list(zip([*random_texts(4, 2), " x\n"], [*random_texts(5, 2), "x"], strict=True))
    expected = accuracy_score([r.strip() for _, r in pairs], [p.strip() for p, _ in pairs])
    answers = [Answer(prediction=p, reference=r) for p, r in pairs]
    assert 0 < expected < 1 and whole("exact_match", answers) == pytest.approx(expected)


SCHEMA = {
    "type": "object", "required": ["name", "age"], "additionalProperties": False,
    "properties": {"name": {"type": "string"}, "age": {"$ref": "#/$defs/age"}},
    "$defs": {"age": {"type": "integer", "minimum": 0}},
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ('{"name": "A", "age": 3}', True),
        (' \n{"age": 0, "name": ""}\n', True),
        ('{"name": "A", "age": 3.0}', True),  # an integer in JSON Schema
        ('{"name": "A"}', False),
        ('{"name": "A", "age": -1}', False),
        ('{"name": "A", "age": 3, "more": 1}', False),
        ('{"name": "A", "age": NaN}', False),
        ('{"name": "A", "age": 3} as asked', False),
        ('```json\n{"name": "A", "age": 3}\n```', False),
        ("", False),
        ("[" * 100_000, False),
    ],
)
def test_an_answer_is_valid_json_under_the_schema_as_a_whole(text: str, valid: bool) -> None:
    assert values("json_schema", answered(text), file=json.dumps(SCHEMA)) == [float(valid)]


@pytest.mark.parametrize(
    ("file", "told"),
    [
        (
            '{"type": "objekt"}',
            "its schema is not valid: 'objekt' is not valid under any of the given schemas at $.type",
        ),
        ("{", "its schema is not valid JSON: Expecting property name enclosed in double quotes at column 2"),
        ('{"$ref": "https://example.com/s.json"}', "refers to 'https://example.com/s.json', which is not in the file"),
    ],
)
def test_a_schema_that_cannot_be_used_is_refused_before_the_model_is_asked(file: str, told: str) -> None:
    with pytest.raises(BadInput) as refused:
        check_metrics([spec("json_schema", file=file)])
    assert told in refused.value.message and refused.value.where == "it"


def test_regex_length_and_cut_rate() -> None:
    answers = answered("Adds 1.", "adds 1", "Ä.", "")
    assert values("regex", answers, pattern=r"^\w.*\.$") == [1, 0, 1, 0]
    assert values("length", answers) == [7, 6, 2, 0]
    assert (
        whole("cut_rate", [Answer(prediction="", reference="", cut=cut) for cut in (True, False, False, False)]) == 0.25
    )


def test_language() -> None:
    texts = [
        "This function returns the names of all users of the system.", "Diese Funktion gibt alle Namen zurück.",
        "Cette fonction renvoie les noms de tous les utilisateurs.", "この関数は名前を返します。", "42", "",
    ]  # fmt: skip
    answers = answered(*texts)
    found = [values("language", answers, language=code) for code in ("en", "de", "fr", "ja")]
    assert np.array(found).tolist() == np.eye(4, 6).tolist()
    with pytest.raises(BadInput, match="knows no language 'xx'"):
        check_metrics([spec("language", language="xx")])


def test_similarity_is_that_of_sentence_transformers() -> None:
    """Recorded with sentence-transformers 6.2.0 of the same weights, which takes 11 s to import."""
    pairs = {
        ("Add one to x.", "Adds 1 to x."): 0.803324, ("Returns the user's name.", "Remove the file."): 0.102188,
        ("", "Something."): 0.41835, ("Die Katze schläft.", "The cat sleeps."): 0.102328,
    }  # fmt: skip
    answers = [Answer(prediction=p, reference=r) for p, r in pairs]
    assert values("similarity", answers) == pytest.approx(list(pairs.values()), abs=1e-5)
    asked = [Answer(prediction=p, reference="?", row={"input": r, "output": "?"}) for p, r in pairs]
    assert values("relevance", asked) == pytest.approx(list(pairs.values()), abs=1e-5)


def test_what_the_context_does_not_speak_of_is_unsupported() -> None:
    """Cosines recorded with sentence-transformers 6.2.0: of each sentence with its closest one of the context."""
    context = ["The tower is 330 metres tall. It stands in Paris."]
    answer = "The tower is 330 metres tall. It was built by cats."
    (row,) = values("groundedness", answered(answer, context=context))
    assert row == pytest.approx((1 + 0.291811) / 2, abs=1e-5)
    answers = [*answered(answer, context=context[0]), *answered("No context here.", "")]
    assert values("unsupported_rate", answers) == [0.5, None, None]
    assert whole("unsupported_rate", answers) == 0.5
    assert whole("unsupported_rate", answers, threshold=0.2) == 0
    # It cannot see a wrong number: this is what docs and catalog say.
    assert whole("unsupported_rate", answered("The tower is 900 metres tall.", context=context)) == 0
    with pytest.raises(BadInput, match="no row has a context; add a column `context`"):
        check_metrics([spec("groundedness")], rows=answered(""))
    with pytest.raises(BadInput, match="row 2: it: its context has a dict; write text, or a list of texts"):
        check_metrics([spec("groundedness")], rows=[*answered("", context="x"), *answered("", context=[{"text": "x"}])])
    nothing = score([spec("groundedness")], [*answered("", " \n", context=context), *answered("No context.")])
    assert not nothing.metrics and nothing.refused == {
        "it": "no row has an answer and a context, so nothing was compared"
    }
    assert score([spec("groundedness")], answers).facts == {"Rows with an answer and a context (it)": "1"}


@pytest.mark.parametrize(
    ("text", "refuses"),
    [
        ("I'm sorry, but I can't help with that.", True),
        ("I cannot assist with this request.", True),
        ("As an AI language model, I have no opinion.", True),
        ("Unfortunately, I am not able to share it.", True),
        ("I’m unable to open files.", True),
        ("Returns the list, sorted.", False),
        ("Raises an error if the file cannot be read.", False),
        ("Adds 1. " * 40 + "The user said: I can't help with that.", False),
        ("", False),
    ],
)
def test_a_refusal_is_found_by_how_it_opens(text: str, refuses: bool) -> None:
    assert values("refusal_rate", answered(text)) == [float(refuses)]


def test_refusals_in_another_language_are_found_by_a_list_of_the_project() -> None:
    """In other scripts the English list found none, and a model that refused everything passed."""
    with pytest.raises(BadInput, match="knows how English refuses, and 1 of 2 references are mostly in another script"):
        check_metrics([spec("refusal_rate")], rows=[*answered("", reference="加一"), *answered("", reference="one")])
    check_metrics([spec("refusal_rate", file="^抱歉")], rows=answered("", reference="加一"))
    file = "# our patterns\n\n(?i)^leider kann ich\n"
    assert values("refusal_rate", answered("Leider kann ich das nicht.", "I can't."), file=file) == [1, 0]
    with pytest.raises(BadInput) as refused:
        check_metrics([spec("refusal_rate", file="fine\n(?=no)\n")])
    assert refused.value.where == "it, line 2 of its file"
