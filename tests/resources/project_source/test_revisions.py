"""Reading a watched repository in any state: moved, broken, partly pushed. Real Git, real DVC."""

import os
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.repo import Repo

from llmops_assets.config.judges import Judge
from llmops_assets.config.settings import Settings
from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.config.yaml_validation import ConfigError
from llmops_assets.domain.chain import CHAIN
from llmops_assets.domain.config_diff import changes, only_data
from resources.project_source.dvc import DataNotPushed
from resources.project_source.errors import SourceError
from resources.project_source.git_mirror import GitMirror
from resources.project_source.git_objects import tree_digest
from resources.project_source.revisions import ProjectRepository
from tests.support.projects import Project, rows, write_rows
from tests.support.waiting import CEILING_S


def source_of(project: Project, home: Path, repository: str | None = None) -> ProjectRepository:
    watched = ProjectSource(name="zoo", repository=repository or str(project.remote))
    return ProjectRepository(watched, Settings(home=home, projects=(watched,)))


@pytest.fixture
def source(project: Project, tmp_path: Path) -> ProjectRepository:
    """A source that has fetched the project's first commit."""
    project.push()
    source = source_of(project, tmp_path / "home")
    source.git.fetch()
    return source


def shipped(project: Project, source: ProjectRepository, message: str, change: dict[str, Any] | None = None) -> str:
    sha = project.ship(message, change)
    source.git.fetch()
    return sha


def told(source: ProjectRepository, revision: str) -> list[str]:
    with pytest.raises(ConfigError) as error:
        source.at(revision)
    return error.value.problems


# -- Git ------------------------------------------------------------------------------------------------------------


def test_the_head_is_that_of_the_last_fetch(project: Project, source: ProjectRepository) -> None:
    first = project.head
    project.write("README.md", "# Another\n")
    second = project.ship("Another")
    assert source.git.head() == first
    source.git.fetch()
    assert source.git.head() == second
    assert source.git.changed_files(first, second) == ["README.md"]
    assert source.git.author(second) == "Ada <ada@example.com>" and source.git.message(second) == "Another"


def test_a_commit_that_a_force_push_took_away_stays_readable(project: Project, source: ProjectRepository) -> None:
    """Provenance must outlive the branch: production may still serve that commit."""
    first = project.head
    project.write("README.md", "# Secret\n")
    lost = shipped(project, source, "To be taken back")
    project.git("reset", "--quiet", "--hard", first)
    project.push("--force")
    source.git.fetch()
    assert source.git.head() == first
    assert source.git.read(lost, "README.md") == b"# Secret\n" and source.at(lost).revision == lost


def test_a_deleted_branch_has_no_head_and_its_commits_stay(project: Project, source: ProjectRepository) -> None:
    sha = project.head
    subprocess.run(["git", "branch", "-m", "main", "trunk"], cwd=project.remote, check=True)
    source.git.fetch()
    assert source.git.head() is None
    assert source.at(sha).config.name == "zoo"


def test_an_unreachable_remote_says_so_and_leaves_the_mirror_readable(
    project: Project, source: ProjectRepository
) -> None:
    sha = project.head
    project.remote.rename(project.root / "gone")
    with pytest.raises(SourceError, match=r"remote\.git: is unreachable: fatal: .*"):
        source.git.fetch()
    assert source.git.head() == sha and source.at(sha).values["name"] == "zoo"


def test_a_repository_that_was_never_reached_is_no_empty_one(tmp_path: Path) -> None:
    mirror = GitMirror(str(tmp_path / "nowhere"), "main", tmp_path / "mirror.git")
    with pytest.raises(SourceError, match="was never fetched"):
        mirror.head()
    with pytest.raises(SourceError, match="is unreachable"):
        mirror.fetch()


def test_a_machine_without_git_gets_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cause was a bare FileNotFoundError, which a sensor reports as a bug in our code."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SourceError, match="git: not found; install it"):
        GitMirror(str(tmp_path / "nowhere"), "main", tmp_path / "mirror.git").fetch()


def test_credentials_in_a_url_are_never_shown(tmp_path: Path) -> None:
    mirror = GitMirror("https://ada:hunter2@127.0.0.1:9/zoo.git", "main", tmp_path / "mirror.git")
    with pytest.raises(SourceError) as error:
        mirror.fetch()
    assert "hunter2" not in str(error.value) and "127.0.0.1:9/zoo.git" in str(error.value)


def test_a_revision_is_found_by_prefix_branch_and_tag(project: Project, source: ProjectRepository) -> None:
    sha = project.head
    project.git("tag", "v1")
    project.git("push", "--quiet", "origin", "v1", "main:release/candidate")
    source.git.fetch()
    for name in (sha, sha[:8], "main", "release/candidate", "v1"):
        assert source.git.resolve(name) == sha, name
    for name in (
        "nowhere",
        "0" * 40,
        "main~",
        "",
        "-x",
        "main:README.md",
        "main:data",
        "main^{tree}",
        "main..v1",
        ":/x",
        "\0",
    ):
        with pytest.raises(SourceError, match="is no commit, branch or tag"):
            source.git.resolve(name)


def test_a_commit_that_the_mirror_does_not_hold_is_a_fault_of_the_source_not_of_the_configuration(
    source: ProjectRepository,
) -> None:
    """The error was once "llmops.yaml is missing", which sent users to the wrong place."""
    for unknown in ("0" * 40, "not a commit"):
        with pytest.raises(SourceError, match="is no commit of"):
            source.at(unknown)
        with pytest.raises(SourceError):
            source.git.files(unknown)


def test_a_path_below_a_file_is_no_file(project: Project, source: ProjectRepository) -> None:
    sha = project.head
    assert source.git.read(sha, "README.md/x") is None
    assert source.git.read(sha, "prompts") is None
    assert source.git.read(sha, "nothing") is None


def test_it_works_from_within_a_hook_of_another_repository(
    project: Project, source: ProjectRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Git's hooks get their repository by environment variables: `llmops run` in a hook would have changed that one."""
    project.write("README.md", "# Another\n")
    sha = project.ship("Another")
    monkeypatch.setenv("GIT_DIR", str(project.folder / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", "index")
    source.git.fetch()
    tree = source.work_tree(sha)
    monkeypatch.undo()
    assert source.git.head() == sha
    assert (tree / "llmops.yaml").exists()
    assert project.git("status", "--porcelain") == ""


FETCH = (
    "import sys, pathlib\nfrom resources.project_source.git_mirror import GitMirror\n"
    "mirror = GitMirror(sys.argv[1], 'main', pathlib.Path(sys.argv[2]))\n"
    "for _ in range(4):\n    mirror.fetch()\n"
    "print(mirror.export(sys.argv[3], pathlib.Path(sys.argv[4])) / 'llmops.yaml')\n"
)


def test_processes_that_fetch_and_export_at_once_do_not_disturb_each_other(
    project: Project, tmp_path: Path, python: Callable[..., Any]
) -> None:
    """Sensors, workers and the command line share one mirror; with Git's own locks all but one of them would fail."""
    project.push()
    args = (str(project.remote), str(tmp_path / "mirror.git"), project.head, str(tmp_path / "work" / "x"))
    processes = [python(FETCH, *args) for _ in range(4)]
    for process in processes:
        out, _ = process.communicate(timeout=CEILING_S)
        assert process.returncode == 0 and Path(out.strip()).is_file()


# -- work trees -----------------------------------------------------------------------------------------------------


def test_an_export_is_the_commit_and_the_users_checkout_is_left_alone(
    project: Project, source: ProjectRepository
) -> None:
    sha = project.head
    project.write("README.md", "# Not committed\n")
    project.write("stray.py", "import os\n")
    before = project.git("status", "--porcelain"), project.git("rev-parse", "HEAD")
    tree = source_of(project, source.settings.home / "other", str(project.folder)).git
    tree.fetch()
    for mirror in (source.git, tree):
        folder = mirror.export(sha, source.settings.home / "work" / mirror.folder.parent.parent.name)
        assert (folder / "README.md").read_text() == "# A project\n" and not (folder / "stray.py").exists()
        assert not (folder / "data/train.jsonl").exists(), "data comes by DVC, not by Git"
    assert (project.git("status", "--porcelain"), project.git("rev-parse", "HEAD")) == before


def test_an_export_that_was_cut_is_made_again(project: Project, source: ProjectRepository) -> None:
    tree = source.work_tree(project.head)
    (tree.parent / f"{tree.name}.complete").unlink()
    (tree / "llmops.yaml").unlink()
    assert (source.work_tree(project.head) / "llmops.yaml").exists()


def test_both_sensors_may_ask_for_the_same_tree_at_once(project: Project, source: ProjectRepository) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: source.missing_data(source.at(project.head)), range(4)))
    assert found == [[]] * 4


# -- configuration and prompts --------------------------------------------------------------------------------------


def test_a_missing_configuration_is_reported(project: Project, source: ProjectRepository) -> None:
    (project.folder / "llmops.yaml").unlink()
    sha = shipped(project, source, "Removed by mistake")
    assert told(source, sha) == [f"llmops.yaml: missing at the root of {sha[:12]}; `llmops check` says what it needs"]


def test_a_configuration_that_is_no_text_is_reported(project: Project, source: ProjectRepository) -> None:
    (project.folder / "llmops.yaml").write_bytes(b"name: z\xff\n")
    assert told(source, shipped(project, source, "Broken")) == ["llmops.yaml: it is not UTF-8 text (byte 7)"]


def test_a_name_that_differs_from_the_settings_is_reported(project: Project, source: ProjectRepository) -> None:
    sha = shipped(project, source, "Renamed", {"name": "farm"})
    assert told(source, sha) == ["llmops.yaml: name: it is 'farm', but the settings say 'zoo'"]


def test_everything_that_the_configuration_names_must_be_there_and_all_that_is_not_is_reported(
    project: Project, source: ProjectRepository
) -> None:
    sha = shipped(
        project, source, "Names what is not there",
        {
            "prompt": "prompts/gone.jinja",
            "data": {"train": "data/gone.jsonl"},
            "deployment": {"smoke_tests": "gone.yaml"},
            "evaluation": {"metrics": ["perplexity", {"name": "mine", "function": "gone.py:f"}]},
        },
    )  # fmt: skip
    found = told(source, sha)
    assert "data.train: data/gone.jsonl is neither in Git nor tracked by DVC" in found[0]
    assert [p.split(" in Git")[0] for p in found[1:]] == [
        "llmops.yaml: prompt: there is no prompts/gone.jinja",
        "llmops.yaml: evaluation.metrics: mine: there is no gone.py",
        "llmops.yaml: deployment.smoke_tests: there is no gone.yaml",
    ]


def test_an_undefined_variable_in_a_prompt_is_reported_with_its_file(
    project: Project, source: ProjectRepository
) -> None:
    project.write("prompts/ask.jinja", "Q: {{ question }}\n")
    (found,) = told(source, shipped(project, source, "A typo"))
    assert found.startswith("prompts/ask.jinja: undefined variable 'question'")
    assert found.endswith("(named by prompt in llmops.yaml)")


def test_a_prompt_that_is_no_text_is_reported(project: Project, source: ProjectRepository) -> None:
    (project.folder / "prompts/ask.jinja").write_bytes(b"\xff {{ input }}")
    assert told(source, shipped(project, source, "Binary"))[0] == "prompts/ask.jinja: it is not UTF-8 text (byte 0)"


def test_a_mistake_in_the_smoke_tests_is_reported_with_its_line(project: Project, source: ProjectRepository) -> None:
    project.write("smoke.yaml", "- {name: a, input: b}\n- {name: c, inptu: d}\n")
    sha = shipped(project, source, "A typo", {"deployment": {"smoke_tests": "smoke.yaml"}})
    assert told(source, sha) == ["smoke.yaml:2: 1.inptu: unknown key; did you mean 'input'?"]


# -- values ---------------------------------------------------------------------------------------------------------


def changed_values(source: ProjectRepository, before: str, after: str) -> list[str]:
    return [c.value for c in changes(source.at(before).values, source.at(after).values)]


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


# -- data versions --------------------------------------------------------------------------------------------------


def test_a_data_version_is_that_of_its_own_pointer(project: Project, source: ProjectRepository) -> None:
    at = source.at(project.head)
    assert set(at.tracked) == {"data/train.jsonl", "data/test.jsonl", "models/base"}
    assert at.values["data"]["train"]["version"] == f"dvc:{at.tracked['data/train.jsonl'].md5}"
    assert at.values["model.base"]["version"].endswith(".dir")


def test_data_of_a_tracked_folder_has_the_folders_version_and_its_pointer_is_no_code(
    project: Project, source: ProjectRepository
) -> None:
    """Many teams run `dvc add data`: the Git sensor would have treated a change of rows as a change of code."""
    for path in ("data/train.jsonl.dvc", "data/test.jsonl.dvc", "data/.gitignore"):
        (project.folder / path).unlink()
    project.git("rm", "--quiet", "--cached", "-r", "data")
    project.dvc_add("data")
    before = shipped(project, source, "The folder as a whole")
    at = source.at(before)
    assert at.tracked["data/train.jsonl"] == at.tracked["data/test.jsonl"]
    assert source.missing_data(at) == []
    assert (source.pull(at, ["data/train.jsonl"]) / "data/train.jsonl").is_file()
    write_rows(project.folder / "data/train.jsonl", rows(30))
    project.dvc_add("data")
    after = shipped(project, source, "More rows")
    assert changed_values(source, before, after) == ["data"]


def test_data_that_a_dvc_pipeline_makes_has_the_version_of_its_lock(
    project: Project, source: ProjectRepository
) -> None:
    md5 = source.at(project.head).tracked["data/train.jsonl"].md5
    (project.folder / "data/train.jsonl.dvc").unlink()
    project.write("dvc.yaml", "stages:\n  make:\n    cmd: make\n    outs: [data/train.jsonl]\n")
    lock = "schema: '2.0'\nstages:\n  make:\n    cmd: make\n    outs:\n    - path: data/train.jsonl\n      md5: {}\n"
    project.write("dvc.lock", lock.format(md5))
    before = shipped(project, source, "A pipeline")
    assert source.at(before).tracked["data/train.jsonl"].md5 == md5
    project.write("dvc.lock", lock.format("a" * 32))
    after = shipped(project, source, "Made again")
    assert changed_values(source, before, after) == ["data"]
    assert source.missing_data(source.at(after)) == ["data/train.jsonl"]


def test_data_may_lie_in_git_itself(project: Project, source: ProjectRepository) -> None:
    write_rows(project.folder / "rows.jsonl", rows(3))
    sha = shipped(project, source, "Few rows", {"data": {"test": "rows.jsonl"}})
    at = source.at(sha)
    assert at.values["data"]["test"]["version"].startswith("git:") and "rows.jsonl" not in at.tracked
    assert (source.pull(at, ["rows.jsonl"]) / "rows.jsonl").is_file()


def test_a_pointer_that_a_merge_broke_is_reported(project: Project, source: ProjectRepository) -> None:
    project.write("data/train.jsonl.dvc", "<<<<<<< HEAD\nouts: [\n=======\n")
    (found,) = told(source, shipped(project, source, "Merged"))
    assert found.startswith("data/train.jsonl.dvc: not valid YAML; was a merge left unfinished?")


def test_a_lock_that_a_person_broke_is_reported(project: Project, source: ProjectRepository) -> None:
    """The error was an AttributeError that names no file."""
    (project.folder / "data/train.jsonl.dvc").unlink()
    project.write("dvc.lock", "stages: [data/train.jsonl]\n")
    (found,) = told(source, shipped(project, source, "Edited by hand"))
    assert found.startswith("dvc.lock: not as DVC writes it")


# -- data files -----------------------------------------------------------------------------------------------------


def test_a_commit_pushed_before_its_data_names_what_is_missing_until_it_is_pushed(
    project: Project, source: ProjectRepository
) -> None:
    """The user's own cache holds the data, which does not mean that the location can reach it."""
    write_rows(project.folder / "data/train.jsonl", rows(40))
    project.dvc_add("data/train.jsonl", push=False)
    at = source.at(shipped(project, source, "Git first"))
    assert source.missing_data(at) == ["data/train.jsonl"]
    with pytest.raises(DataNotPushed, match=r"data/train\.jsonl: not in the DVC remote; run `dvc push`"):
        source.pull(at, ["data/train.jsonl", "data/test.jsonl"])
    project.dvc_push()
    assert source.missing_data(at) == []
    tree = source.pull(at, ["data/train.jsonl"])
    assert (tree / "data/train.jsonl").read_bytes() == (project.folder / "data/train.jsonl").read_bytes()


def test_a_pull_brings_files_and_folders_and_asks_the_remote_only_once(
    project: Project, source: ProjectRepository
) -> None:
    at = source.at(project.head)
    tree = source.pull(at, ["data/test.jsonl", "models/base"])
    assert (tree / "models/base/config.json").is_file() and not (tree / "data/train.jsonl").exists()
    (project.root / "dvc-remote").rename(project.root / "gone")
    assert source.pull(at, ["data/test.jsonl", "models/base"]) == tree
    (tree / "data/test.jsonl").unlink()
    assert (source.pull(at, ["data/test.jsonl"]) / "data/test.jsonl").is_file(), "our own cache still holds it"


def test_a_remote_that_cannot_be_asked_is_not_an_empty_one(project: Project, source: ProjectRepository) -> None:
    project.write(".dvc/config", "[core]\n    remote = storage\n['remote \"storage\"']\n    url = nosuch://bucket\n")
    at = source.at(shipped(project, source, "Elsewhere"))
    with pytest.raises(SourceError, match="the DVC remote cannot be read"):
        source.missing_data(at)


def test_a_remote_url_may_hold_a_percent_sign(project: Project, source: ProjectRepository) -> None:
    config = (project.folder / ".dvc/config").read_text()
    project.write(".dvc/config", config + "['remote \"other\"']\n    url = https://example.com/a%20b\n")
    assert source.missing_data(source.at(shipped(project, source, "Two remotes"))) == []


def test_a_project_without_dvc_gets_the_command_that_adds_it(project: Project, source: ProjectRepository) -> None:
    project.git("rm", "--quiet", "-r", "--cached", ".dvc")
    project.write(".gitignore", "/.dvc\n")
    at = source.at(shipped(project, source, "No DVC"))
    with pytest.raises(SourceError, match=r"has no \.dvc folder; run `dvc init`"):
        source.missing_data(at)


def test_a_relative_path_to_the_repository_is_made_absolute(project: Project, tmp_path: Path) -> None:
    project.push()
    relative = os.path.relpath(project.remote)
    found = source_of(project, tmp_path / "home", relative)
    found.git.fetch()
    assert found.git.url == str(project.remote.resolve())
    assert found.missing_data(found.at(project.head)) == [], "its DVC remote is relative to it"


def as_dvc_2_left_it(project: Project, *paths: str) -> None:
    """Rewrites the project as DVC 2 does: pointers without `hash`, files in REMOTE/ab, not in REMOTE/files/md5/ab."""
    remote, cache = project.root / "dvc-remote", project.folder / ".dvc" / "cache"
    for path in paths:
        pointer = project.folder / f"{path}.dvc"
        value = yaml.safe_load(pointer.read_text())
        for out in value["outs"]:
            assert out.pop("hash") == "md5"
        pointer.write_text(yaml.safe_dump(value))
    shutil.copytree(remote / "files" / "md5", remote, dirs_exist_ok=True)
    shutil.rmtree(remote / "files")
    shutil.copytree(cache / "files" / "md5", cache, dirs_exist_ok=True)
    shutil.rmtree(cache / "files")
    with Repo(str(project.folder)) as repo:
        changed = repo.status(targets=[str(project.folder / f"{p}.dvc") for p in paths])
        assert changed == {}, f"DVC itself does not read it so: {changed}"


def test_data_of_dvc_2_is_found_and_pulled(project: Project, tmp_path: Path) -> None:
    """Such a commit waited forever for data that was already pushed."""
    as_dvc_2_left_it(project, "data/train.jsonl", "data/test.jsonl", "models/base")
    sha = project.ship("As an older DVC left it")
    source = source_of(project, tmp_path / "home")
    source.git.fetch()
    at = source.at(sha)
    assert source.missing_data(at) == []
    tree = source.pull(at, ["data/train.jsonl", "data/test.jsonl", "models/base"])
    for path in ("data/train.jsonl", "data/test.jsonl", "models/base/config.json", "models/base/model.safetensors"):
        assert (tree / path).read_bytes() == (project.folder / path).read_bytes()


def test_data_of_dvc_2_that_nobody_pushed_is_still_missed(project: Project, tmp_path: Path) -> None:
    as_dvc_2_left_it(project, "data/train.jsonl", "data/test.jsonl", "models/base")
    sha = project.ship("As an older DVC left it")
    (pointer,) = yaml.safe_load((project.folder / "data/train.jsonl.dvc").read_text())["outs"]
    (project.root / "dvc-remote" / pointer["md5"][:2] / pointer["md5"][2:]).unlink()
    source = source_of(project, tmp_path / "home")
    source.git.fetch()
    assert source.missing_data(source.at(sha)) == ["data/train.jsonl"]
    with pytest.raises(DataNotPushed, match=r"data/train\.jsonl: not in the DVC remote; run `dvc push`"):
        source.pull(source.at(sha), ["data/train.jsonl"])


def test_credentials_in_the_projects_dvc_configuration_are_refused(project: Project, tmp_path: Path) -> None:
    """DVC's errors repeat the remote's URL, and everyone who can read the repository can read it."""
    config = project.folder / ".dvc" / "config"
    config.write_text(config.read_text() + "['remote \"other\"']\n    url = https://ada:s3cret-value@example.com/x\n")
    sha = project.ship("Careless")
    source = source_of(project, tmp_path / "home")
    source.git.fetch()
    with pytest.raises(
        SourceError, match=r"\.dvc/config: contains a password or token \(remote \"other\" url\)"
    ) as caught:
        source.missing_data(source.at(sha))
    assert "s3cret-value" not in str(caught.value)
