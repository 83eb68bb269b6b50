"""`llmops init --register` adds one line to the settings and changes no other byte."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from llmops_assets.config.settings_file import load_settings
from llmops_assets.config.yaml_validation import ConfigError
from llmops_assets.scaffold.settings_entry import register
from tests.scaffold.conftest import Llmops

NEW = "- {name: zoo, repository: /a/zoo, branch: main}"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLMOPS_SETTINGS", str(tmp_path / "conf/settings.yaml"))
    return tmp_path / "conf" / "settings.yaml"


def test_new_settings_have_the_port_that_was_free_and_existing_ones_keep_theirs(file: Path) -> None:
    """After the demo, whose gateway has the default port, the first run of a new project ended in "port taken"."""
    assert "serving: {port: 8301}" in register("zoo", "/a/zoo", "main", port=8301)
    assert load_settings().serving.port == 8301
    assert "8302" not in register("farm", "/a/farm", "main", port=8302)
    assert load_settings().serving.port == 8301


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", f"projects:\n  {NEW}\n"),
        ("# ours\nhome: state", f"# ours\nhome: state\nprojects:\n  {NEW}\n"),
        ("projects: []  # none yet\n", f"projects: [{NEW[2:]}]  # none yet\n"),
        (
            "projects: [{name: a, repository: x}, ]\n",
            f"projects: [{{name: a, repository: x}}, {NEW[2:]}]\n",
        ),
        (
            "projects:\n- name: a   # the first\n  repository: x  # where\n# the end\nhome: state\n",
            f"projects:\n- name: a   # the first\n  repository: x  # where\n{NEW}\n# the end\nhome: state\n",
        ),
        (
            "home: 'state'\nprojects:\n    - {name: a, repository: x}   # old\n\n\npoll: 1\n",
            f"home: 'state'\nprojects:\n    - {{name: a, repository: x}}   # old\n    {NEW}\n\n\npoll: 1\n",
        ),
    ],
)
def test_the_line_goes_where_a_person_would_put_it(file: Path, before: str, after: str) -> None:
    if before:
        file.parent.mkdir()
        file.write_text(before)
    assert NEW in register("zoo", "/a/zoo", "main")
    assert file.read_text() == after
    assert load_settings().project("zoo").repository == "/a/zoo"


def test_a_project_that_is_listed_is_not_listed_twice(file: Path) -> None:
    register("zoo", "/a/zoo", "main")
    before = file.read_text()
    assert "already" in register("zoo", "/a/zoo", "main")
    file.write_text(relative := before.replace("/a/zoo", f"..{'/..' * len(file.parts)}/a/zoo"))
    assert "already" in register("zoo", "/a/zoo", "main")
    assert file.read_text() == relative
    with pytest.raises(ConfigError, match="another project has the name zoo"):
        register("zoo", "/b/zoo", "main")


def test_settings_that_are_wrong_are_reported_and_not_changed(file: Path) -> None:
    file.parent.mkdir()
    file.write_text("projets: []\n")
    with pytest.raises(ConfigError, match="projets: unknown key"):
        register("zoo", "/a/zoo", "main")
    assert file.read_text() == "projets: []\n"


def test_a_layout_that_cannot_be_edited_safely_is_left_to_the_person(file: Path) -> None:
    text = "x: &x\nprojects: &all\n  - {name: a, repository: x}\nhome: {a: *all}\n"
    file.parent.mkdir()
    file.write_text(text)
    with pytest.raises(ConfigError):
        register("zoo", "/a/zoo", "main")
    assert file.read_text() == text


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1), st.from_regex(r"\A[\w/.-]{1,20}\Z"))
def test_any_path_and_branch_arrive_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, path: str, branch: str
) -> None:
    folder = tmp_path_factory.mktemp("conf")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLMOPS_SETTINGS", str(folder / "settings.yaml"))
        register("zoo", f"/{path}", branch)
    [project] = yaml.safe_load((folder / "settings.yaml").read_text())["projects"]
    assert (project["repository"], project["branch"]) == (f"/{path}", branch)


def test_init_prints_the_line_or_adds_it(llmops: Llmops, home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "zoo"
    line = f"- {{name: zoo, repository: {folder}, branch: main}}"
    done = llmops("init", folder)
    assert line in done.output and str(home / "settings.yaml") in done.output and not home.exists()
    assert llmops("init", folder, "--register").exit_code == 0
    assert line in (home / "settings.yaml").read_text()
    assert line not in llmops("init", folder).output
