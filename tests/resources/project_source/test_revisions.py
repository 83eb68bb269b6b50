"""The data of a watched repository: missing, pulled, from another DVC. Real Git, real DVC."""

import os
import shutil
from pathlib import Path

import pytest
import yaml

from resources.project_source.dvc import DataNotPushed
from resources.project_source.errors import SourceError
from resources.project_source.revisions import ProjectRepository
from tests.resources.project_source.sources import shipped, source_of
from tests.support.projects import Project, rows, write_rows


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
    from dvc.repo import Repo

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


def test_a_pull_imports_nothing_of_the_project(project: Project, source: ProjectRepository, tmp_path: Path) -> None:
    """`python -m dvc` in the project's folder ran the project's own dvc.py, with the location's credentials."""
    ran = tmp_path / "ran"
    for name in ("dvc", "configobj", "resources", "dvc_pull"):
        project.write(f"{name}.py", f"open({str(ran)!r}, 'w')\n")
    at = source.at(shipped(project, source, "Modules with the names of ours"))
    assert (source.pull(at, ["data/test.jsonl"]) / "data/test.jsonl").is_file() and not ran.exists()


def test_a_pull_that_fails_says_why(project: Project, source: ProjectRepository) -> None:
    """DVC's command line was told to be quiet, and the message was "no message"."""
    at = source.at(project.head)
    (source.dvc.configured_tree(at.revision) / "data/test.jsonl.dvc").write_text("outs: 3\n")
    with pytest.raises(SourceError, match=r"dvc pull of data/test\.jsonl failed: .*test\.jsonl\.dvc"):
        source.pull(at, ["data/test.jsonl"])
