"""Which change of a commit changes which value, and so which keys."""

from pathlib import Path
from typing import Any

import pytest

from llmops_assets.config.judges import Judge
from llmops_assets.config.yaml_validation import ConfigError
from llmops_assets.domain.chain import CHAIN
from llmops_assets.domain.config_diff import changes, only_data
from resources.project_source.git_objects import tree_digest
from resources.project_source.revisions import ProjectRepository
from tests.resources.project_source.sources import changed_values, shipped, told
from tests.support.projects import Project, rows, write_rows


def test_values_hold_no_defaults(project: Project, source: ProjectRepository) -> None:
    """So a new field with a default changes no key, and a default that is written out is no change."""
    sha = shipped(project, source, "Least", {"training": {"lora": None, "max_steps": None, "batch_size": None}})
    values = source.at(sha).values
    assert values["training"] == {} and values["quantization"] == {}
    assert values["engine"] == {"engine": "llama.cpp", "serving": {"parallel": 4, "context_length": 256}}
    assert set(values["tree"]) == {"digest"} and set(values["data"]) == {"train", "test"}
    written = shipped(project, source, "Written out", {"training": {"epochs": 1, "method": "lora", "lora": {"r": 16}},
                                                       "quantization": {"scheme": "q8_0"},
                                                       "deployment": {"sampling": {"temperature": 0}}})  # fmt: skip
    assert changed_values(source, sha, written) == ["tree"], "of which only ci_report knows"


def test_sampling_is_measured_on_the_engine_and_trains_nothing(project: Project, source: ProjectRepository) -> None:
    before = project.head
    after = shipped(project, source, "Warmer", {"deployment": {"sampling": {"temperature": 0.7, "stop": ["END"]}}})
    assert changed_values(source, before, after) == ["tree", "engine"]
    assert [s.name for s in CHAIN if "engine" in s.values] == ["served_evaluation_report"]


def test_documents_change_nothing(project: Project, source: ProjectRepository) -> None:
    before = project.head
    for path in ("README.md", "docs/guide.txt", "src/notes.md", "LICENSE"):
        project.write(path, "words\n")
    assert changed_values(source, before, shipped(project, source, "Words")) == []


def test_code_changes_the_tree_and_executable_bits_do_too(project: Project, source: ProjectRepository) -> None:
    first = project.head
    project.write("clean.sh", "rm -r build\n")
    second = shipped(project, source, "A script")
    (project.folder / "clean.sh").chmod(0o755)
    third = shipped(project, source, "Made executable")
    assert changed_values(source, first, second) == changed_values(source, second, third) == ["tree"]


def test_what_the_project_ignores_in_ci_is_its_own_choice(project: Project, source: ProjectRepository) -> None:
    first = shipped(project, source, "Ignores", {"ci": {"ignore": ["*.csv"]}})
    project.write("deep/table.csv", "1,2\n")
    second = shipped(project, source, "A table")
    project.write("README.md", "words\n")
    third = shipped(project, source, "Words")
    assert changed_values(source, first, second) == []
    assert changed_values(source, second, third) == ["tree"]


@pytest.mark.parametrize(
    ("patterns", "ignored", "read"),
    [
        (["docs/**", "*.md", "LICENSE"], ["docs/a/b.py", "a/b/c.md", "LICENSE"], ["a/docs/b.py", "LICENSE.py", "a.py"]),
        (["/notes.txt"], ["notes.txt"], ["a/notes.txt"]),
        (["scratch/"], ["scratch/a.py", "a/scratch/b.py"], ["scratch"]),
        (["a/*.csv"], ["a/b.csv"], ["a/b/c.csv", "b.csv"]),
        (["a/**/*.csv"], ["a/b.csv", "a/b/c/d.csv"], ["b.csv"]),
        (["*.md", "!prompts/*.md"], ["README.md", "a/prompts/b.md"], ["prompts/ask.md"]),
    ],
)
def test_patterns_are_those_of_gitignore(patterns: list[str], ignored: list[str], read: list[str]) -> None:
    """The digest that decides whether the checks run again contains only files that are not ignored."""
    for path in [*ignored, *read]:
        nothing = tree_digest({}, tuple(patterns), frozenset())
        assert (tree_digest({path: "blob"}, tuple(patterns), frozenset()) == nothing) == (path in ignored), path


def test_new_rows_are_a_change_of_data_alone(project: Project, source: ProjectRepository) -> None:
    before = project.head
    write_rows(project.folder / "data/train.jsonl", rows(30))
    project.dvc_add("data/train.jsonl")
    after = shipped(project, source, "More rows")
    assert only_data(changes(source.at(before).values, source.at(after).values))


def test_a_metric_of_the_projects_own_counts_by_its_code(project: Project, source: ProjectRepository) -> None:
    metric = {"evaluation": {"metrics": ["perplexity", {"name": "mine", "function": "metrics.py:mine"}]}}
    project.write("metrics.py", "def mine(prediction, reference):\n    return 1.0\n")
    before = shipped(project, source, "A metric", metric)
    project.write("metrics.py", "def mine(prediction, reference):\n    return 0.5\n")
    after = shipped(project, source, "Another")
    assert changed_values(source, before, after) == ["tree", "evaluation"]
    assert set(source.at(after).values["evaluation"]["metrics"][1]) == {"name", "function", "code"}


def test_the_model_of_a_metric_is_data_that_is_pulled_and_counts_by_its_version(
    project: Project, source: ProjectRepository
) -> None:
    own = {"metric": "toxicity", "model": "models/judge", "label": "toxic"}
    metric = {"evaluation": {"metrics": ["perplexity", "rougeL", own]}}
    project.write("models/judge/config.json", "{}")
    project.dvc_add("models/judge")
    before = shipped(project, source, "A classifier", metric)
    project.write("models/judge/config.json", '{"id2label": {}}')
    project.dvc_add("models/judge")
    after = shipped(project, source, "Another")
    assert "evaluation" in changed_values(source, before, after)
    assert set(source.at(after).values["evaluation"]["metrics"][2]) == {"name", "metric", "model", "label"}
    assert "models/judge" in source.at(after).tracked
    tree = source.pull(source.at(after), ["models/judge"])
    assert (tree / "models/judge/config.json").read_text() == '{"id2label": {}}'


def test_a_judge_counts_by_its_model_rubric_and_labels_and_not_by_its_address(
    project: Project, source: ProjectRepository, tmp_path: Path
) -> None:
    def at(sha: str, *judges: Judge, served: bool = False) -> Any:
        settings = source.settings.model_copy(update={"judges": judges})
        made = ProjectRepository(source.project, settings)
        made.git.fetch()
        return made.at(sha, served=served).values["evaluation"]

    judge = Judge(name="main", model="m-1", base_url="http://127.0.0.1:1/v1")
    metric = {"metric": "llm_judge", "judge": "main", "file": "rubric.txt", "labels": "labels.jsonl"}
    project.write("rubric.txt", "Prefer short answers.")
    line = '{"input": "q", "answer_a": "x", "answer_b": "y", "label": "a"}\n'
    project.write("labels.jsonl", 2 * line)
    first = shipped(project, source, "Judged", {"evaluation": {"metrics": ["perplexity", metric]}})
    assert at(first, judge) == at(first, judge.model_copy(update={"base_url": "http://other/v1", "timeout": 9.0}))
    assert at(first, judge) != at(first, judge.model_copy(update={"model": "m-2"}))
    for file, text in (("rubric.txt", "Prefer long answers."), ("labels.jsonl", 3 * line)):
        project.write(file, text)
        assert at(shipped(project, source, f"Another {file}"), judge) != at(first, judge)
    with pytest.raises(ConfigError) as refused:
        at(first)
    assert refused.value.problems == [
        (
            "llmops.yaml: evaluation.metrics: llm_judge: judge: the settings have no judge 'main' (known: none); add "
            "it there under `judges`, or name another one"
        )
    ]
    assert at(first, served=True), "a release stays readable without the judge that it was measured with"
    project.write("rubric.txt", "{{ answer_a }}")
    with pytest.raises(ConfigError, match="llm_judge: its rubric: it uses only one of answer_a and answer_b"):
        at(shipped(project, source, "Half a rubric"), judge)


def test_a_metric_that_was_renamed_does_not_make_what_is_served_unreadable(
    project: Project, source: ProjectRepository
) -> None:
    """No push could have corrected the champion's llmops.yaml, so each later release would have failed on it."""
    sha = shipped(project, source, "As it was", {"evaluation": {"metrics": ["perplexity", "rougeL", "toxicity"]}})
    assert "called `profanity`" in told(source, sha)[0]
    assert source.at(sha, served=True).config.evaluation.names == ["perplexity", "rougeL", "toxicity"]


def test_a_prompt_counts_by_its_text_and_the_training_prompt_by_its_own(
    project: Project, source: ProjectRepository
) -> None:
    before = project.head
    project.write("prompts/ask.jinja", "Answer: {{ input }}\n")
    after = shipped(project, source, "Another prompt")
    assert changed_values(source, before, after) == ["tree", "prompt"]
    shared = shipped(project, source, "One for both", {"training": {"prompt": None}})
    assert source.at(shared).values["training.prompt"] == "Answer: {{ input }}\n"
    assert not source.at(shared).values["training.prompt.own"]
