"""The repository that the example creates: real Git and DVC, readable by the platform, with typical edits."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import make_project as builder
import pytest
from dvc.repo import Repo

from llmops_assets.domain.prompt import check_prompt
from llmops_assets.config.project import parse_config
from llmops_assets.config.smoke_tests import parse_smoke_tests


def run(folder: Path, *command: str) -> str:
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a base model of a few bytes; tests only read it, and edit copies."""
    root = tmp_path_factory.mktemp("project")
    base = root / "tiny"
    base.mkdir()
    (base / "config.json").write_text(json.dumps({"model_type": "llama"}))
    builder.make_project(
        root / "work", root / "git", root / "dvc", root / "cache", base=base, train_rows=20, test_rows=10
    )
    return root


@pytest.fixture
def work(made: Path, tmp_path: Path) -> Path:
    """A separate clone with its own Git remote; the DVC remote is shared, because it is content-addressed."""
    shutil.copytree(made / "work", tmp_path / "work", symlinks=True)
    shutil.copytree(made / "git", tmp_path / "git")
    run(tmp_path / "work", "git", "remote", "set-url", "origin", str(tmp_path / "git"))
    return tmp_path / "work"


def in_sync(folder: Path) -> bool:
    """Whether the DVC remote has all data: `dvc status --cloud` in this process, without an interpreter's second."""
    with Repo(str(folder)) as repo:
        return not repo.status(cloud=True)


def changed(folder: Path) -> list[str]:
    return run(folder, "git", "diff", "--name-only", "HEAD~1", "HEAD").splitlines()


def test_the_platform_reads_its_configuration(made: Path) -> None:
    work = made / "work"
    config = parse_config((work / "llmops.yaml").read_text())
    assert config.name == "docstring-summarizer"
    for path in (config.prompt, config.training_prompt, config.data.train, config.data.test, "models/base"):
        assert path and (work / path).exists()
    assert config.prompt != config.training_prompt, "a change of the served wording must not retrain"
    for path in (config.prompt, config.training_prompt):
        check_prompt((work / str(path)).read_text())
    smoke = str(config.deployment.smoke_tests)
    assert len(parse_smoke_tests((work / smoke).read_text(), smoke).tests) >= 3


def test_data_and_model_are_in_the_dvc_remote_and_not_in_git(made: Path) -> None:
    work = made / "work"
    assert "in sync" in run(work, sys.executable, "-m", "dvc", "status", "--cloud") and in_sync(work)
    tracked = run(work, "git", "ls-files").splitlines()
    assert {"data/train.jsonl.dvc", "data/test.jsonl.dvc", "models/base.dvc"} <= set(tracked)
    assert not {"data/train.jsonl", "data/test.jsonl"} & set(tracked)
    assert not [path for path in tracked if path.startswith(("models/base/", "make_"))]


def test_a_colleague_gets_everything_by_clone_and_pull(work: Path, tmp_path: Path) -> None:
    builder.push(work)
    run(tmp_path, "git", "clone", "--quiet", str(tmp_path / "git"), "colleague")
    run(tmp_path / "colleague", sys.executable, "-m", "dvc", "pull", "--quiet")
    for name in ("data/train.jsonl", "data/test.jsonl", "models/base/config.json"):
        assert (tmp_path / "colleague" / name).read_bytes() == (work / name).read_bytes()


def test_its_own_checks_pass(made: Path) -> None:
    """The platform runs these before it trains; an example with failing checks would never train."""
    run(made / "work", sys.executable, "-m", "ruff", "check", "--no-cache", ".")
    run(made / "work", sys.executable, "-m", "pytest", "-p", "no:cacheprovider")


def test_the_scripts_beside_the_content_are_clean(example: Path) -> None:
    run(example, sys.executable, "-m", "ruff", "check", "--no-cache", ".")


def test_nothing_is_published_until_it_is_pushed(work: Path, tmp_path: Path) -> None:
    assert run(tmp_path / "git", "git", "for-each-ref") == ""
    sha = builder.push(work)
    assert run(tmp_path / "git", "git", "rev-parse", "main") == sha == builder.head(work)


@pytest.mark.parametrize(
    ("edit", "files"),
    [
        (builder.change_readme, ["README.md"]),
        (builder.change_serving_prompt, ["prompts/summarize.jinja"]),
        (lambda folder: builder.add_training_data(folder, ["jinja2"], 5), ["data/train.jsonl.dvc"]),
        (builder.train_too_little, ["llmops.yaml"]),
    ],
    ids=["readme", "prompt", "data", "steps"],
)
def test_an_edit_touches_what_it_says_and_can_be_reverted(
    work: Path, edit: Callable[[Path], str], files: list[str]
) -> None:
    before = {path.name: path.read_bytes() for path in (work / "data").glob("*.jsonl")}
    tree = run(work, "git", "rev-parse", "HEAD^{tree}")
    sha = edit(work)
    assert sha == run(work, "git", "rev-parse", "HEAD")
    assert changed(work) == files
    assert run(work, "git", "status", "--porcelain") == ""
    assert in_sync(work)

    assert builder.revert_since(work, "HEAD~1") != sha
    assert run(work, "git", "rev-parse", "HEAD^{tree}") == tree
    assert {path.name: path.read_bytes() for path in (work / "data").glob("*.jsonl")} == before


def test_the_bad_edits_change_what_they_say_and_nothing_else(work: Path) -> None:
    before = parse_config((work / "llmops.yaml").read_text())
    builder.train_too_little(work)
    little = parse_config((work / "llmops.yaml").read_text())
    assert little.training == before.training.model_copy(update={"max_steps": 1})
    builder.cut_answers(work)
    cut = parse_config((work / "llmops.yaml").read_text())
    assert cut.training == before.training and cut.evaluation == before.evaluation
    assert 0 < (cut.deployment.serving.max_tokens or 0) < cut.evaluation.max_new_tokens
    assert any(a.metric == "cut_rate" for a in cut.deployment.rollout.analysis)


def test_the_changed_prompt_can_be_served(work: Path) -> None:
    builder.change_serving_prompt(work)
    check_prompt((work / "prompts" / "summarize.jinja").read_text())
    assert (work / "prompts" / "summarize.jinja").read_text() != (work / "prompts" / "training.jinja").read_text()


def test_a_commit_of_nothing_says_so(work: Path) -> None:
    with pytest.raises(builder.ProjectError, match="nothing changed"):
        builder.commit(work, "Nothing")


def test_a_folder_with_something_in_it_is_left_alone(made: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(builder.ProjectError, match="is not empty"):
        builder.make_project(tmp_path, made / "git2", made / "dvc", made / "cache")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_git_hook_around_us_does_not_redirect_our_commands(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hook sets GIT_DIR for its child processes: tests in a pre-commit hook committed to the outer repository."""
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert builder.change_readme(work)
