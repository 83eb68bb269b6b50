"""llmops.yaml: what is read, and one table of mistakes, each reported once with its line and remedy."""

import re
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from llmops_assets.config.project import ProjectConfig, parse_config
from llmops_assets.config.yaml_validation import ConfigError
from tests.config.mistakes import GOOD, problems


def test_the_least_configuration_is_enough() -> None:
    config = parse_config(GOOD)
    assert (config.training.method, config.quantization.scheme, config.deployment.engine) == (
        "lora",
        "q8_0",
        "llama.cpp",
    )
    assert config.gates == () and config.training_prompt is None


def test_a_full_configuration_is_read() -> None:
    config = parse_config(
        GOOD
        + """
prompt: ./prompts/ask.jinja
training: {method: full, epochs: 2, learning_rate: 4.0e-4}
evaluation:
  metrics: [perplexity, rougeL, {name: starts_upper, function: "metrics.py:starts_upper"}]
gates:
  - {metric: perplexity, at_most: 40}
  - {metric: starts_upper, of: served, no_worse_than: unquantized, margin: 2%}
deployment:
  approval: {approvers: [ada], expires_after: 2d}
  rollout: {steps: [{weight: 10%, hold: 250ms}], analysis: [{metric: p95_latency, at_most: 5s}], min_samples: 3}
"""
    )
    assert config.prompt == config.training_prompt == "prompts/ask.jinja"
    assert config.deployment.rollout.steps[0].hold == 0.25 and config.deployment.rollout.analysis[0].at_most == 5.0
    assert config.deployment.approval.needed and config.deployment.approval.expires_after == 2 * 86400
    assert config.gates[1].tolerance().relative


BASE = GOOD.replace("  base: {path: models/base}", "  base: {BASE}")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param(GOOD + "gatess: []\n", ["llmops.yaml:7: gatess: unknown key; did you mean 'gates'?"], id="a typo"),
        pytest.param(
            GOOD + "evaluation:\n  slices:\n    - language\n    - output\n",
            [
                (
                    "llmops.yaml:10: evaluation.slices.1: output is the question or the answer; name another column of "
                    "the test rows"
                )
            ],
            id="a slice of answers",
        ),
        pytest.param(
            GOOD + "evaluation:\n  slices: [a, b, a]\n",
            ["llmops.yaml:8: evaluation.slices: a is listed twice; name each column once"],
            id="a slice twice",
        ),
        pytest.param(
            GOOD + "training:\n  lora:\n    rank: 8\n",
            ["llmops.yaml:9: training.lora.rank: unknown key; known here: alpha, dropout, r, target_modules"],
            id="nothing is close",
        ),
        pytest.param(
            GOOD + "training:\n  epochs: many\n",
            [
                (
                    "llmops.yaml:8: training.epochs: input should be a valid number, unable to parse string as a "
                    "number, not 'many'"
                )
            ],
            id="a wrong type",
        ),
        pytest.param(GOOD.replace("  test: data/test.jsonl\n", ""), ["llmops.yaml:4: data.test: is missing; add it"],
                     id="a missing key"),
        pytest.param(
            GOOD.replace("test:", "tset:"), ["llmops.yaml:6: data.tset: unknown key; did you mean 'test'?"],
            id="a misspelt key is not also a missing one",
        ),
        pytest.param(
            GOOD + "gates:\n  - {metric: perplexity, at_most: 1}\n  - metric: perplexity\n    at_mots: 2\n",
            ["llmops.yaml:10: gates.1.at_mots: unknown key; did you mean 'at_most'?"],
            id="an item of a list",
        ),
        pytest.param(
            GOOD + "deployment:\n  rollout:\n    steps:\n    - weight: 10%\n    - weight: 50%\n      hold: 5 sec\n",
            [
                (
                    "llmops.yaml:12: deployment.rollout.steps.1.hold: '5 sec' is not a duration; use for example "
                    "250ms, 5s, 2m, 1h or 7d"
                )
            ],
            id="a duration, deep down",
        ),
        pytest.param(
            GOOD + "deployment:\n  review:\n    approvers: [eve@example.com]\n    count: 2\n",
            [
                "llmops.yaml:10: deployment.review.count: is 2, but approvers names 1 person; lower it, or name more"
            ],
            id="more reviews than reviewers",
        ),
        pytest.param(
            GOOD + "deployment:\n  review:\n    reviewers: [eve@example.com]\n    count: none\n    required: maybe\n"
            "    expires_after: soon\n",
            [
                ("llmops.yaml:9: deployment.review.reviewers: unknown key; known here: approvers, count, "
                "expires_after, required"),
                ("llmops.yaml:10: deployment.review.count: input should be a valid integer, unable to parse string as "
                "an integer, not 'none'"),
                ("llmops.yaml:11: deployment.review.required: input should be a valid boolean, unable to interpret "
                "input, not 'maybe'"),
                ("llmops.yaml:12: deployment.review.expires_after: 'soon' is not a duration; use for example 250ms, "
                "5s, 2m, 1h or 7d"),
            ],
            id="a review",
        ),
        pytest.param(
            GOOD + "gates:\n  - {metric: rougeL, no_worse_than: champion, margin: two}\n",
            ["llmops.yaml:8: gates.0.margin: 'two' is neither a number nor a percentage such as '2%'"],
            id="a margin",
        ),
        pytest.param(
            GOOD + "gates:\n  - {metric: rougeL, no_worse_than: champion, confidence: surely}\n",
            ["llmops.yaml:8: gates.0.confidence: 'surely' is not a share; use for example 10% or 0.1"],
            id="a confidence",
        ),
        pytest.param(
            GOOD + "gates:\n  - {metric: rougeL, no_worse_than: champion, confidence: 100%}\n",
            ["llmops.yaml:8: gates.0.confidence: input should be less than 1, not '100%'"],
            id="a confidence that no number of rows reaches",
        ),
        pytest.param(
            GOOD + "gates:\n  - {metric: latency_p95, at_most: 2}\n",
            [
                (
                    "llmops.yaml:8: gates.0.of: latency_p95 is a figure of the served model; add `of: "
                    "served`"
                )
            ],
            id="speed of a checkpoint",
        ),
        pytest.param(
            GOOD + "gates:\n  - {metric: size_mb, of: served, at_most: 2, per: kind}\n",
            [
                (
                    "llmops.yaml:8: gates.0.per: size_mb is one figure of the whole model, so it has no slices; "
                    "leave it out"
                )
            ],
            id="size per slice",
        ),
        pytest.param(
            GOOD + "gates:\n  - {metric: tokens_per_s, of: served, at_least: 2, confidence: 95%}\n",
            [
                (
                    "llmops.yaml:8: gates.0.confidence: tokens_per_s is one figure without an interval; leave it out, "
                    "and choose a margin"
                )
            ],
            id="confidence of a speed",
        ),
        pytest.param(
            GOOD + "gates:\n  - {metric: size_mb, of: served, no_worse_than: unquantized}\n",
            [
                (
                    "llmops.yaml:8: gates.0.no_worse_than: the checkpoint before quantization is not served, so it has "
                    "no size_mb"
                )
            ],
            id="size of what is not served",
        ),
        pytest.param(
            GOOD + "gates:\n  - {metric: rougeL, no_worse_than: baseline}\n",
            [
                (
                    "llmops.yaml:8: gates.0.no_worse_than: baseline needs both `no_worse_than: baseline` and "
                    "`baseline: RELEASE`, the digest of a release or the commit that made it (`llmops status` shows "
                    "them)"
                )
            ],
            id="a baseline without a name",
        ),
        pytest.param(
            GOOD + "gates:\n  - {metric: rougeL, no_worse_than: baseline, baseline: main}\n",
            ["llmops.yaml:8: gates.0.baseline: string should match pattern '^[0-9a-f]{7,64}$', not 'main'"],
            id="a baseline that moves",
        ),
        pytest.param(
            GOOD + "gates:\n  - {metric: bleu, at_least: 0.2}\n",
            [
                (
                    "llmops.yaml:8: gates.0.metric: evaluation.metrics does not measure 'bleu' (measured: perplexity, "
                    "rougeL); add it there or change the gate"
                )
            ],
            id="a gate on what is not measured",
        ),
        pytest.param(
            GOOD + "gates:\n  - {metric: perplexity, at_most: 40}\n  - at_least: 0.2\n    metric: rogueL\n",
            [
                (
                    "llmops.yaml:10: gates.1.metric: did you mean 'rougeL'? evaluation.metrics does not measure "
                    "'rogueL' (measured: perplexity, rougeL); add it there or change the gate"
                )
            ],
            id="a misspelt metric of a gate at its own line, not at the first one",
        ),
        pytest.param(
            GOOD + "evaluation:\n  metrics: [perplexity, perplexity]\n",
            ["llmops.yaml:8: evaluation.metrics: two metrics have the same name"],
            id="a metric twice",
        ),
        pytest.param(
            GOOD + "evaluation:\n  metrics:\n  - perplexity\n  - toxicity\n",
            [
                (
                    "llmops.yaml:10: evaluation.metrics.1: toxicity alone is no metric any more; what it measured "
                    "until now is called `profanity`: write that, and in gates too; or configure a "
                    "classifier of your own as "
                    "{metric: toxicity, model: FOLDER, label: NAME}"
                )
            ],
            id="a metric whose name said something else than it measured",
        ),
        pytest.param(
            GOOD + "evaluation:\n  metrics:\n  - {metric: toxicity, model: judge}\n",
            ["llmops.yaml:9: evaluation.metrics.0.label: toxicity needs it; add it"],
            id="a metric without an option that it needs",
        ),
        pytest.param(
            GOOD + "evaluation:\n  metrics:\n  - metric: bleu\n    model: judge\n",
            ["llmops.yaml:10: evaluation.metrics.0.model: bleu has no such option; it has no options; name it alone"],
            id="an option of another metric",
        ),
        pytest.param(
            GOOD + "evaluation:\n  metrics:\n  - metric: llm_judge\n    file: r.txt\n",
            ["llmops.yaml:9: evaluation.metrics.0.judge: llm_judge needs it; add it"],
            id="a judge that is not named",
        ),
        pytest.param(
            GOOD + "evaluation:\n  metrics:\n  - {metric: llm_preference, file: r.txt, judge: x}\n"
            "gates:\n- metric: llm_preference\n  no_worse_than: champion\n",
            [
                (
                    "llmops.yaml:12: gates.0.no_worse_than: llm_preference compares with the champion's answers "
                    "already; write at_least: 0.5, or less to tolerate a loss"
                )
            ],
            id="a preference that is compared twice",
        ),
        pytest.param(
            GOOD + "evaluation:\n  metrics:\n  - {metric: llm_judge, file: r.txt, judge: x,\n     min_agreement: 0}\n",
            [
                (
                    "llmops.yaml:10: evaluation.metrics.0.min_agreement: agreement is measured with labels; add "
                    "labels: FILE, or leave this out"
                )
            ],
            id="an agreement with nobody",
        ),
        pytest.param(
            GOOD + "evaluation: {metrics: [{nme: x, function: 'm.py:f'}]}\n",
            ["llmops.yaml:7: evaluation.metrics.0.nme: unknown key; did you mean 'name'?"],
            id="a custom metric is not told that it should be text",
        ),
        pytest.param(
            GOOD.replace("data/train.jsonl", "../train.jsonl"),
            ["llmops.yaml:5: data.train: '../train.jsonl' must be a path within the project, such as data/train.jsonl"],
            id="a path out of the project",
        ),
        pytest.param(
            GOOD.replace("data/train.jsonl", "/etc/passwd"),
            ["llmops.yaml:5: data.train: '/etc/passwd' must be a path within the project, such as data/train.jsonl"],
            id="an absolute path",
        ),
        pytest.param(
            GOOD.replace("  train: data/train.jsonl\n", ""),
            ["llmops.yaml:4: data.train: is missing; name the training rows, or set training.method: none"],
            id="no training rows",
        ),
        pytest.param(
            GOOD.replace("name: zoo", "name: My Zoo"),
            ["llmops.yaml:1: name: string should match pattern '^[a-z][a-z0-9-]{0,62}$', not 'My Zoo'"],
            id="a name that no asset could have",
        ),
        pytest.param(BASE.replace("BASE", "pth: x"),
                     ["llmops.yaml:3: model.base.pth: unknown key; did you mean 'path'?"],
                     id="one form of the base model is not told what the other lacks"),
        pytest.param(BASE.replace("BASE", "hub: a/b"), ["llmops.yaml:3: model.base.revision: is missing; add it"],
                     id="a hub model without its commit"),
        pytest.param(
            BASE.replace("BASE", "hub: a/b, revision: main"),
            ["llmops.yaml:3: model.base.revision: string should match pattern '^[0-9a-f]{40}$', not 'main'"],
            id="a branch would move under our feet",
        ),
        pytest.param(
            GOOD.replace("{path: models/base}", "models/base"),
            ["llmops.yaml:3: model.base: expected a mapping with path, not 'models/base'"],
            id="text where keys belong",
        ),
        pytest.param(
            GOOD + "training:\n  seed: 1\ntraining:\n  epochs: 2\n",
            ["llmops.yaml:9: training: already given on line 7; keep one of them"],
            id="a key twice: YAML would take the last one, silently",
        ),
        pytest.param(
            GOOD + "gates:\n  - {metric: perplexity, at_most: 40, at_most: 4000}\n",
            ["llmops.yaml:8: at_most: already given on line 8; keep one of them"],
            id="a key twice, in a list",
        ),
        pytest.param("name: [zoo\n", ["llmops.yaml:2: not valid YAML: expected ',' or ']', but got '<stream end>'"],
                     id="no YAML"),
        pytest.param("", ["llmops.yaml: it is empty; expected keys and values"], id="an empty file"),
        pytest.param("# nothing yet\n", ["llmops.yaml: it is empty; expected keys and values"], id="comments only"),
        pytest.param("- name: zoo\n", ["llmops.yaml: it is not a mapping; expected keys and values"], id="a list"),
        pytest.param(GOOD + "since: 2001-99-99\n", ["llmops.yaml:7: not valid YAML: month must be in 1..12"],
                     id="what only looks like a date"),
    ],
)  # fmt: skip
def test_a_mistake_is_reported_once_with_its_line_and_remedy(text: str, told: list[str]) -> None:
    assert problems(text) == told


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        ("!", "'!' is not a pattern; write it as in .gitignore, such as docs/** or *.md"),
        ("[z-a].md", "'[z-a].md' is not a pattern (bad character range z-a"),
        ("", "'' cannot match any file; write it as in .gitignore"),
        ("# notes", "'# notes' cannot match any file"),
        ("data[1", "'data[1' cannot match any file"),
    ],
)
def test_a_pattern_of_ci_ignore_that_is_none_is_reported_with_its_line(pattern: str, told: str) -> None:
    (problem,) = problems(GOOD + f'ci:\n  ignore:\n    - docs/**\n    - "{pattern}"\n')
    assert problem.startswith("llmops.yaml:10: ci.ignore.1: ") and told in problem


def test_all_mistakes_are_reported_at_once() -> None:
    text = GOOD.replace("zoo", "Zoo") + "gatess: []\ntraining: {epochs: -1}\n"
    assert [p.split(": ")[1] for p in problems(text)] == ["name", "gatess", "training.epochs"], (
        "in the order of their lines"
    )


def test_aliases_and_merged_keys_are_no_repetition() -> None:
    config = parse_config(
        GOOD + "gates:\n  - &gate {metric: perplexity, at_most: 40}\n  - {<<: *gate, at_most: 30}\n  - *gate\n"
    )
    assert [g.at_most for g in config.gates] == [40, 30, 40]


def test_a_file_that_holds_itself_is_refused_and_does_not_hang() -> None:
    assert problems(GOOD + "gates: &all [*all]\n")


@given(st.text(max_size=60) | st.text("abc:-[]{}&*!|>'\"#%@ \n\t123.", max_size=60))
def test_whatever_the_file_holds_only_a_config_error_comes_of_it(text: str) -> None:
    """Any other exception would end a sensor's tick with a stack trace instead of a reason."""
    with pytest.raises(ConfigError):
        parse_config(text)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from([*ProjectConfig.model_fields, "base", "path", "r", "x"]), inner, max_size=4
            )
        ),
        max_leaves=12,
    )
)
def test_whatever_stands_under_known_keys_each_problem_is_one_line_and_names_the_file(value: Any) -> None:
    text = GOOD + yaml.safe_dump({k: v for k, v in value.items() if k not in ("name", "model", "data")}
                                 if isinstance(value, dict) else {"x": value})  # fmt: skip
    try:
        parse_config(text)
    except ConfigError as error:
        assert all(re.match(r"llmops\.yaml(:\d+)?: ", p) for p in error.problems)


def test_two_different_lengths_of_an_answer_are_refused() -> None:
    """serving.max_tokens is the older key for the same limit, which the served evaluation does not use."""
    both = GOOD + "deployment: {sampling: {max_tokens: 64}, serving: {max_tokens: 64}}\n"
    assert parse_config(both).deployment.sampling.max_tokens == 64
    (problem,) = problems(both.replace("serving: {max_tokens: 64}", "serving: {max_tokens: 32}"))
    assert "sampling.max_tokens is 64 and serving.max_tokens 32; keep sampling.max_tokens only" in problem


def test_the_schema_can_be_written_for_editors() -> None:
    schema = ProjectConfig.model_json_schema()
    assert {"name", "model", "data"} == set(schema["required"])
    assert schema["$defs"]["Training"]["properties"]["batch_size"]["description"]


def test_a_licence_is_an_identifier_that_a_model_card_can_have() -> None:
    config = GOOD.replace("{path: models/base}", "{path: models/base}\n  license: %s")
    assert parse_config(config % "apache-2.0").model.license == "apache-2.0"
    (problem,) = problems(config % "'Apache License 2.0'")
    assert problem.startswith("llmops.yaml:4: model.license:"), problem
