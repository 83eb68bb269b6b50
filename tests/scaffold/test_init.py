"""`llmops init` makes any folder a valid project, and does not change its existing files."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from llmops_assets.config.json_schema import project_schema
from llmops_assets.programs.ci import check as check_code
from llmops_assets.programs.dataset import make_dataset
from llmops_assets.programs.runtime.entry import ProgramRun
from llmops_assets.programs.runtime.specs import CiSpec, DatasetSpec
from llmops_assets.scaffold.project import facts
from tests.scaffold.conftest import Llmops


def git(folder: Path, *args: str) -> str:
    done = subprocess.run(["git", *args], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def contents(folder: Path) -> dict[str, bytes]:
    paths = [p for p in folder.rglob("*") if p.is_file() and ".git" not in p.parts and ".dvc" not in p.parts]
    return {str(p.relative_to(folder)): p.read_bytes() for p in paths}


@pytest.mark.usefixtures("own_port")
def test_a_new_folder_becomes_a_project_that_is_in_order(llmops: Llmops, tmp_path: Path, light_base: Path) -> None:
    folder = tmp_path / "My Zoo"
    done = llmops("init", folder, "--base", light_base)
    assert done.exit_code == 0, done.output
    checked = llmops("check", "--path", folder)
    assert (checked.exit_code, "still to do" in checked.output) == (0, False), checked.output
    assert yaml.safe_load((folder / "llmops.yaml").read_text())["name"] == "my-zoo"
    first = (folder / "llmops.yaml").read_text().splitlines()[0]
    assert first == "# yaml-language-server: $schema=llmops.schema.json"
    assert json.loads((folder / "llmops.schema.json").read_text()) == project_schema()
    assert sorted(p.name for p in (folder / "models/base").iterdir()) == [
        "config.json", "model.safetensors", "tokenizer.json",
    ]  # fmt: skip
    assert {p.name for p in folder.rglob("*.dvc") if p.is_file()} == {"base.dvc", "train.jsonl.dvc", "test.jsonl.dvc"}
    assert f"the folder {folder}-dvc-remote, on this machine only" in done.output


def test_the_commands_that_it_names_next_commit_all_of_it_and_push_the_data(
    llmops: Llmops, tmp_path: Path, light_base: Path
) -> None:
    folder = tmp_path / "zoo"
    told = llmops("init", folder, "--base", light_base).output.split("Next:\n")[1]
    commands = [line.strip() for line in told.splitlines() if line.startswith("  ")]
    assert commands[-1] == "llmops run zoo --wait"
    for command in commands[1:-1]:
        command = command.replace("dvc ", f"{sys.executable} -m dvc ")
        subprocess.run(command, shell=True, cwd=folder, check=True, capture_output=True)
    assert git(folder, "status", "--porcelain") == ""
    assert git(folder, "symbolic-ref", "--short", "HEAD") == "main"
    assert not [p for p in git(folder, "ls-files").splitlines() if p.endswith((".jsonl", ".safetensors"))]
    pushed = [p for p in Path(f"{folder}-dvc-remote").rglob("*") if p.is_file()]
    assert len(pushed) >= 5  # two files of rows and three of the model


@pytest.mark.usefixtures("own_port")
def test_without_a_base_model_it_says_how_to_put_one_there_and_then_runs(
    llmops: Llmops, tmp_path: Path, light_base: Path
) -> None:
    folder = tmp_path / "zoo"
    done = llmops("init", folder)
    assert done.exit_code == 0 and "no base model yet: `llmops init --base FOLDER`" in done.output
    checked = llmops("check", "--path", folder)
    assert checked.exit_code == 0 and "still to do: no base model yet" in checked.output
    git(folder, "add", "--all")
    git(folder, "commit", "--message", "First")
    again = llmops("init", folder, "--base", light_base)
    assert again.exit_code == 0 and "git add --all" in again.output
    assert git(folder, "status", "--porcelain") == "?? models/base.dvc"
    assert "still to do" not in llmops("check", "--path", folder).output


def test_files_that_are_there_are_left_as_they_are_and_named(llmops: Llmops, tmp_path: Path, light_base: Path) -> None:
    folder = tmp_path / "zoo"
    (folder / "prompts").mkdir(parents=True)
    (folder / "prompts/answer.jinja").write_text("Mine: {{ input }}")
    (folder / ".gitignore").write_text("mine\n")
    before = contents(folder)
    done = llmops("init", folder, "--base", light_base)
    assert "already exists, unchanged: prompts/answer.jinja, .gitignore" in done.output
    assert before.items() <= contents(folder).items()
    assert llmops("check", "--path", folder).exit_code == 0


def test_beside_a_persons_own_rows_no_rows_are_made(llmops: Llmops, tmp_path: Path) -> None:
    """Otherwise test rows of another task would be evaluated, and gates would judge the first release by them."""
    folder = tmp_path / "zoo"
    (folder / "data").mkdir(parents=True)
    (folder / "data/train.jsonl").write_text('{"input": "cat", "output": "miaow"}\n')
    done = llmops("init", folder)
    assert "already exists, unchanged: data/train.jsonl" in done.output
    assert "data/test.jsonl: neither exists nor is tracked by DVC" in done.output
    assert (folder / "data/train.jsonl").read_text() == '{"input": "cat", "output": "miaow"}\n'


def test_a_repository_with_commits_and_uncommitted_work_keeps_both(
    llmops: Llmops, tmp_path: Path, light_base: Path
) -> None:
    folder = tmp_path / "zoo"
    folder.mkdir()
    git(folder, "init", "--initial-branch=trunk")
    (folder / "code.py").write_text("print(1)\n")
    git(folder, "add", "--all")
    git(folder, "commit", "--message", "First")
    (folder / "code.py").write_text("print('two')\n")
    (folder / "notes.txt").write_text("mine\n")
    head = git(folder, "rev-parse", "HEAD")
    done = llmops("init", folder, "--base", light_base)
    assert git(folder, "rev-parse", "HEAD") == head
    assert (folder / "code.py").read_text() == "print('two')\n"
    assert "branch: trunk" in done.output
    [add] = [line.strip() for line in done.output.splitlines() if line.strip().startswith("git add")]
    subprocess.run(add, shell=True, cwd=folder, check=True)
    git(folder, "commit", "--message", "A project")
    assert git(folder, "status", "--porcelain").splitlines() == ["M code.py", "?? notes.txt"]
    assert llmops("check", "--path", folder).exit_code == 0


def test_a_pickle_beside_the_safetensors_of_a_base_model_is_not_copied_and_init_says_so(
    llmops: Llmops, tmp_path: Path, light_base: Path
) -> None:
    """When it was copied, only the store refused it: after training data was made, and four times."""
    (light_base / "training_args.bin").write_bytes(b"cos\nsystem\n")
    done = llmops("init", tmp_path / "zoo", "--base", light_base)
    assert done.exit_code == 0 and "without training_args.bin: pickles are never loaded" in done.stdout
    assert not (tmp_path / "zoo/models/base/training_args.bin").exists()
    assert (light_base / "training_args.bin").exists() and llmops("check", "--path", tmp_path / "zoo").exit_code == 0


def test_a_pickle_that_was_put_into_the_base_model_is_reported_by_a_check_of_the_folder(
    llmops: Llmops, tmp_path: Path, light_base: Path
) -> None:
    folder = tmp_path / "zoo"
    llmops("init", folder, "--base", light_base)
    (folder / "models/base/training_args.bin").write_bytes(b"cos\nsystem\n")
    checked = llmops("check", "--path", folder)
    assert checked.exit_code == 2
    assert "models/base: training_args.bin is a pickle" in checked.stderr and "delete it" in checked.stderr


def test_data_in_a_folder_that_dvc_tracks_need_not_be_pulled_to_be_in_order(
    llmops: Llmops, tmp_path: Path, light_base: Path
) -> None:
    """In a fresh clone after `dvc add data`, each file was reported as "neither exists nor is tracked"."""
    folder = tmp_path / "zoo"
    llmops("init", folder, "--base", light_base)
    for path in ("train", "test"):
        (folder / f"data/{path}.jsonl.dvc").unlink()
    from dvc.repo import Repo

    with Repo(str(folder)) as repo:
        repo.add([str(folder / "data")])
    shutil.rmtree(folder / "data")
    checked = llmops("check", "--path", folder)
    assert checked.exit_code == 0, checked.output


def test_a_pointer_that_a_merge_broke_is_reported_beside_everything_else(llmops: Llmops, tmp_path: Path) -> None:
    folder = tmp_path / "zoo"
    llmops("init", folder)
    (folder / "data/train.jsonl").unlink()
    (folder / "data/train.jsonl.dvc").write_text("<<<<<<< HEAD\nouts: [\n=======\n")
    (folder / "smoke_tests.yaml").unlink()
    checked = llmops("check", "--path", folder)
    assert checked.exit_code == 2
    assert "data/train.jsonl.dvc: not valid YAML" in checked.stderr and "smoke_tests.yaml: no such" in checked.stderr


def test_a_second_time_changes_nothing(llmops: Llmops, tmp_path: Path, light_base: Path) -> None:
    folder = tmp_path / "zoo"
    llmops("init", folder, "--base", light_base)
    before = contents(folder)
    done = llmops("init", folder, "--base", light_base)
    assert done.exit_code == 0 and "already exists, unchanged: llmops.yaml" in done.output
    assert contents(folder) == before


@pytest.mark.usefixtures("own_port")
def test_an_interrupted_init_is_resumed(llmops: Llmops, tmp_path: Path, light_base: Path) -> None:
    """llmops.yaml is written last: while it is missing, `init` makes the other missing files again."""
    folder = tmp_path / "zoo"
    llmops("init", folder, "--base", light_base)
    for name in ("llmops.yaml", "data/test.jsonl", "data/test.jsonl.dvc", "models/base.dvc"):
        (folder / name).unlink()
    assert llmops("init", folder).exit_code == 0
    checked = llmops("check", "--path", folder)
    assert (checked.exit_code, "still to do" in checked.output) == (0, False)
    assert (folder / "models/base.dvc").exists() and (folder / "data/test.jsonl.dvc").exists()


def test_a_dvc_remote_that_is_configured_stays(llmops: Llmops, tmp_path: Path) -> None:
    from dvc.repo import Repo

    folder = tmp_path / "zoo"
    folder.mkdir()
    git(folder, "init")
    Repo.init(str(folder)).close()
    config = "[core]\n    remote = s\n['remote \"s\"']\n    url = s3://bucket/path\n"
    (folder / ".dvc/config").write_text(config)
    done = llmops("init", folder)
    assert done.exit_code == 0 and "no remote was configured" not in done.output
    assert (folder / ".dvc/config").read_text() == config


@pytest.mark.parametrize(
    ("prepare", "words", "told"),
    [
        ("file", (), "is a file; name a folder"),
        ("", ("--name", "My Zoo"), "'My Zoo' is no project name"),
        ("", ("--base", "nowhere"), "--base nowhere: no such folder"),
        ("", ("--base", "."), "--base .: there is no config.json in it"),
        ("ignored by the repository around", (), "is ignored by the Git repository"),
        ("bare repository around", (), "lies within a bare Git repository"),
        ("broken", (), "llmops.yaml:1: gatess: unknown key"),
        ("ignored", (), "remove the line that ignores it from .gitignore"),
    ],
)
def test_what_cannot_be_done_is_one_clear_error_with_its_remedy(
    llmops: Llmops, tmp_path: Path, prepare: str, words: tuple[str, ...], told: str
) -> None:
    folder = tmp_path / "outer" / "zoo"
    folder.parent.mkdir()
    if prepare == "file":
        folder.write_text("")
    elif prepare == "ignored by the repository around":
        git(folder.parent, "init")
        (folder.parent / ".gitignore").write_text("zoo/\n")
    elif prepare == "bare repository around":
        git(folder.parent, "init", "--bare")
    elif prepare in ("broken", "ignored"):
        folder.mkdir()
        name, text = ("llmops.yaml", "gatess: []\n") if prepare == "broken" else (".gitignore", "data/\n")
        (folder / name).write_text(text)
    done = llmops("init", folder, *words)
    assert done.exit_code == 2
    assert told in done.stderr and len(done.stderr.splitlines()) <= 4, done.stderr
    if prepare not in ("ignored",):
        assert not (folder / ".git").exists()


@pytest.mark.usefixtures("own_port")
@pytest.mark.parametrize("dvc_at_the_root", [False, True])
def test_folders_of_one_repository_become_projects_that_are_watched_by_their_folder(
    llmops: Llmops, tmp_path: Path, light_base: Path, dvc_at_the_root: bool
) -> None:
    from dvc.repo import Repo

    remote, root = tmp_path / "remote.git", tmp_path / "models"
    git(tmp_path, "init", "--bare", "--initial-branch=trunk", str(remote))
    git(tmp_path, "clone", str(remote), str(root))
    git(root, "checkout", "-B", "trunk")
    (root / "notes.txt").write_text("ours\n")
    if dvc_at_the_root:
        Repo.init(str(root)).close()
    git(root, "add", "--all")
    git(root, "commit", "--message", "First")
    (root / "notes.txt").write_text("not committed yet\n")
    names = ("support", "search")
    for name in names:
        done = llmops("init", root / "teams" / name, "--base", light_base, "--register")
        assert done.exit_code == 0 and f"it is the folder teams/{name} of the Git repository {root}" in done.output
        for command in [line.strip() for line in done.output.split("Next:\n")[1].splitlines()][1:3]:
            subprocess.run(command, shell=True, cwd=root / "teams" / name, check=True, capture_output=True)
        assert llmops("check", "--path", root / "teams" / name).exit_code == 0
    assert git(root, "status", "--porcelain") == "M notes.txt", "all of both is committed, and nothing else"
    git(root, "push", "origin", "trunk")
    for name in names:
        subprocess.run([sys.executable, "-m", "dvc", "push"], cwd=root / "teams" / name, check=True)
        again = llmops("init", root / "teams" / name, "--register")
        assert "already lists" in again.output and "git add" not in again.output
        plan = json.loads(llmops("plan", name, "--json").stdout)
        assert plan["revision"] == git(root, "rev-parse", "HEAD") and len(plan["stages"]) == 13
        assert llmops("check", name).exit_code == 0, "its data is in the DVC remote, beside the repository"
    assert not (root / "llmops.yaml").exists() and sorted(p.name for p in (root / "teams").iterdir()) == sorted(names)


def test_the_rows_that_it_makes_are_fit_for_training(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    for name, text in zip(("train", "test"), facts(), strict=True):
        (tmp_path / f"{name}.jsonl").write_text(text)
    names = {s: str(tmp_path / f"{s}.jsonl") for s in ("train", "test")}
    result = make_dataset(DatasetSpec(**names, names=names, tokenizer=None), ProgramRun(tmp_path / "out"))
    assert [c.name for c in result.checks if not c.passed] == []
    assert (result.test.rows, result.train.rows + result.validation.rows) == (30, 150)
    row = json.loads(facts()[0].splitlines()[0])
    assert row == {"input": "How many grams are 2 kilograms?", "output": "2 kilograms are 2000 grams."}


def test_the_code_that_it_makes_passes_the_projects_own_checks(llmops: Llmops, tmp_path: Path) -> None:
    llmops("init", tmp_path / "zoo")
    git(tmp_path / "zoo", "add", "--all")
    (tmp_path / "out").mkdir()
    result = check_code(CiSpec(work_tree=str(tmp_path / "zoo")), ProgramRun(tmp_path / "out"))
    assert [(c.name, c.passed, c.summary) for c in result.checks if c.name != "isolation"] == [
        ("ruff", True, "no problems"), ("tests", True, "2 passed"),
    ]  # fmt: skip


def test_a_remote_with_a_token_is_not_written_to_the_settings(llmops: Llmops, tmp_path: Path) -> None:
    """`llmops init --register` copied the URL of the remote into the settings file, and onto the terminal."""
    folder = tmp_path / "zoo"
    folder.mkdir()
    git(folder, "init", "--quiet")
    git(folder, "remote", "add", "origin", "https://s3cret-value@example.com/zoo.git")
    done = llmops("init", folder, "--register")
    assert done.exit_code == 2 and "s3cret-value" not in done.output
    assert "contains a password or token" in done.output and "credential helper" in done.output
    assert not (folder / "llmops.yaml").exists()
    git(folder, "remote", "set-url", "origin", "git@example.com:zoo.git")
    assert llmops("init", folder, "--register").exit_code == 0


@pytest.mark.parametrize(
    "line",
    ["url = https://ada:s3cret-value@example.com/x", "secret_access_key = s3cret-value", "password = s3cret-value"],
)
def test_credentials_that_a_project_commits_are_found_by_check(llmops: Llmops, tmp_path: Path, line: str) -> None:
    folder = tmp_path / "zoo"
    assert llmops("init", folder).exit_code == 0
    with (folder / ".dvc" / "config").open("a") as file:
        file.write(f"['remote \"other\"']\n    {line}\n")
    done = llmops("check", "--path", folder)
    assert done.exit_code == 2 and "s3cret-value" not in done.output
    option = line.split(" =")[0]
    assert f'.dvc/config: contains a password or token (remote "other" {option})' in done.output
    assert "--global" in done.output
