"""The settings: read from a file, with defaults from the home; every mistake has its line."""

import re
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from llmops_assets.config.settings import Settings, default_home
from llmops_assets.config.settings_file import dump_settings, load_settings
from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.config.yaml_validation import ConfigError
from tests.config.mistakes import NOTIFY, WEBHOOKS, told

TWO = """\
projects:
  - {name: zoo, repository: https://example.com/zoo.git}
  - {name: big-farm, repository: ../farm, branch: trunk, owners: [ada@example.com, "team:ml"]}
home: state
"""


def test_relative_paths_are_relative_to_the_file_not_to_the_reading_process(
    settings_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Daemon, workers and command line have different working directories: each would have had its own ledger."""
    settings_file.write_text(TWO)
    monkeypatch.chdir("/")
    settings = load_settings()
    assert settings.home == tmp_path / "conf" / "state"
    assert [p.repository for p in settings.projects] == ["https://example.com/zoo.git", str(tmp_path / "farm")]


def test_everything_else_follows_from_home(settings_file: Path, tmp_path: Path) -> None:
    settings_file.write_text("projects: []\n")
    settings = load_settings()
    home = (tmp_path / "home").resolve()
    assert settings.home == home
    assert settings.ledger_url == f"sqlite:///{home}/ledger.sqlite"
    assert (settings.store_url, settings.mlflow_uri) == (f"{home}/store", f"sqlite:///{home}/mlflow.sqlite")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("projets: []\n", ":1: projets: unknown key; did you mean 'projects'?"),
        ("projects:\n  - {name: zoo}\n", ":2: projects.0.repository: is missing; add it"),
        ("projects:\n  - {name: Zoo, repository: x}\n", ":2: projects.0.name: string should match"),
        ("projects:\n  - {name: a, repository: x, owners: [ada]}\n", ":2: projects.0.owners.0: string should match"),
        ("compute: {price_per_hour: {cpu-2: -1}}\n", ":1: compute.price_per_hour.cpu-2: input should be"),
        ("compute:\n  price_per_hour: 0.5\n", ":2: compute.price_per_hour: "),
        ("poll: 0\n", ":1: poll: input should be greater than or equal to 1, not 0"),
        ("serving: {port: 99999}\n", ":1: serving.port: input should be less than or equal to 65535, not 99999"),
        ("projects:\n  - {name: a, repository: x}\n  - {name: a, repository: y}\n", ":1: projects: two projects are"),
        ("judges:\n  - {name: a, model: m, base_url: localhost}\n", ":2: judges.0.base_url: string should match"),
        (
            "judges:\n  - {name: a, model: m, base_url: 'http://x:s3cret@h/v1'}\n",
            ":2: judges.0.base_url: it contains a password or token; leave it out, and put it into the environment",
        ),
        ("judges:\n  - {name: a, model: m, base_url: http://h, api_key: sk-1}\n", ":2: judges.0.api_key: a key never"),
        ("judges:\n- {name: a, model: m, base_url: http://h}\n- {name: a, model: n, base_url: http://h}\n",
         ":1: judges: two judges are called a; names must differ"),
        ("home: a\nhome: b\n", ":2: home: already given on line 1"),
        ("", ": it is empty"),
        ("{", ":1: not valid YAML"),
    ],
)  # fmt: skip
def test_a_mistake_is_reported_with_its_line(settings_file: Path, text: str, problem: str) -> None:
    found = told(settings_file, text)
    assert len(found) == 1 and found[0].startswith(problem)


def test_a_file_that_is_not_there_is_not_an_empty_one(settings_file: Path) -> None:
    with pytest.raises(ConfigError, match="no such file; LLMOPS_SETTINGS must name"):
        load_settings()


def test_a_file_that_is_no_text_is_reported(settings_file: Path) -> None:
    settings_file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_settings()


def test_without_settings_there_is_a_hint_and_with_those_of_the_demo_there_is_the_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LLMOPS_SETTINGS", raising=False)
    monkeypatch.setenv("LLMOPS_HOME", str(tmp_path))
    assert default_home() == tmp_path.resolve()
    empty = load_settings()
    assert empty.projects == () and "make demo" in (empty.hint or "")
    demo = Settings(home=tmp_path, projects=(ProjectSource(name="demo", repository="/x"),), poll=5)
    (tmp_path / "settings.yaml").write_text(dump_settings(demo))
    assert load_settings() == demo


@pytest.mark.skipif(sys.platform != "linux", reason="each system has a data folder of its own")
def test_without_a_home_of_its_own_all_state_is_in_the_users_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The default on Linux must not change: another folder would look like a new, empty installation."""
    monkeypatch.delenv("LLMOPS_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    assert default_home() == tmp_path / ".local/share/llmops"
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert default_home() == tmp_path / "data/llmops"
    monkeypatch.setenv("LLMOPS_HOME", str(tmp_path / "own"))
    assert default_home() == tmp_path / "own"


@pytest.mark.parametrize(
    ("projects", "poll", "looks", "upkeep"),
    [(1, 2, 2, 2), (5, 2, 3, 3), (100, 2, 50, 50), (10, 3600, 3600, 5), (1000, 3600, 3600, 500)],
)
def test_sensors_of_many_projects_tick_less_often(projects: int, poll: int, looks: int, upkeep: int) -> None:
    sources = tuple(ProjectSource(name=f"p{n}", repository="/nowhere") for n in range(projects))
    settings = Settings(projects=sources, poll=poll)
    assert (settings.look_every, settings.upkeep) == (looks, upkeep)


def test_a_project_is_found_by_name_or_by_being_the_only_one() -> None:
    zoo, farm = ProjectSource(name="zoo", repository="z"), ProjectSource(name="big-farm", repository="f")
    assert Settings(projects=(zoo,)).project(None) is zoo
    both = Settings(projects=(zoo, farm))
    assert both.project("big-farm") is farm and farm.group == "big_farm"
    with pytest.raises(ConfigError, match=r"name a project \(known: zoo, big-farm\)"):
        both.project(None)
    with pytest.raises(ConfigError, match=r"no such project: 'zo' \(known: zoo, big-farm\)"):
        both.project("zo")
    with pytest.raises(ConfigError, match=r"known: none"):
        Settings().project(None)


@pytest.mark.parametrize(
    ("repository", "web", "page"),
    [
        ("git@github.com:team/zoo.git", None, "https://github.com/team/zoo/commit/abc"),
        ("https://gitlab.com/group/sub/zoo.git", None, "https://gitlab.com/group/sub/zoo/commit/abc"),
        ("ssh://git@codeberg.org/team/zoo", None, "https://codeberg.org/team/zoo/commit/abc"),
        ("git@git.example.com:team/zoo.git", None, None),
        ("https://github.com.evil.example/team/zoo.git", None, None),
        ("/srv/git/zoo.git", None, None),
        ("git@git.example.com:team/zoo.git", "https://git.example.com/team/zoo/", "https://git.example.com/team/zoo/commit/abc"),
    ],
)  # fmt: skip
def test_a_commit_is_linked_where_its_page_is_known(repository: str, web: str | None, page: str | None) -> None:
    """A broken link is worse than none."""
    assert ProjectSource(name="zoo", repository=repository, web=web).commit_page("abc") == page


def test_links_go_where_llmops_up_started_a_page_unless_the_settings_name_another(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    assert settings.ui("mlflow") is None
    (tmp_path / "services").mkdir()
    (tmp_path / "services" / "mlflow.url").write_text("http://127.0.0.1:5100")
    assert settings.ui("mlflow") == "http://127.0.0.1:5100" and settings.ui("dagster") is None
    assert Settings(home=tmp_path, mlflow_ui="https://mlflow.example.com/").ui("mlflow") == "https://mlflow.example.com"
    assert Settings(home=tmp_path, mlflow="https://mlflow.example.com/").ui("mlflow") == "https://mlflow.example.com"


@pytest.mark.parametrize(
    "mlflow, needed",
    [(None, True), ("postgresql://db/mlflow", True), ("https://mlflow.example.com", False), ("databricks", False)],
)
def test_llmops_up_starts_mlflows_server_for_a_database_only(tmp_path: Path, mlflow: str | None, needed: bool) -> None:
    """A team's own server was taken for a database: `llmops up` waited for a second server that could not start."""
    assert Settings(home=tmp_path, mlflow=mlflow).needs_mlflow_server == needed


@pytest.mark.parametrize(
    "repository",
    [
        "https://ada:s3cret-value@example.com/zoo.git",
        "https://s3cret-value@example.com/zoo.git",
        "https://example.com/zoo.git?private_token=s3cret-value",
        "ssh://git:s3cret-value@example.com/zoo.git",
        "oauth2:s3cret-value@example.com/zoo.git",
    ],
)
def test_credentials_in_a_repository_are_refused_with_the_remedy(settings_file: Path, repository: str) -> None:
    """The token of a robot stood in the settings, in every tick's reason, and on the terminal."""
    (problem,) = told(settings_file, f"projects:\n  - {{name: zoo, repository: '{repository}'}}\n")
    assert problem.startswith(":2: projects.0.repository: it contains a password or token; ")
    for remedy in ("credential helper", "deploy key", "{env: NAME}"):
        assert remedy in problem
    assert "s3cret-value" not in problem


def test_a_repository_may_come_from_the_environment(settings_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = "https://ada:s3cret-value@github.com/team/zoo.git"
    settings_file.write_text("projects:\n  - {name: zoo, repository: {env: ZOO_REPOSITORY}}\n")
    with pytest.raises(ConfigError, match="ZOO_REPOSITORY, which the settings name, is not set"):
        load_settings()
    monkeypatch.setenv("ZOO_REPOSITORY", address)
    settings = load_settings()
    (zoo,) = settings.projects
    assert (zoo.address, zoo.shown) == (address, "https://***@github.com/team/zoo.git")
    assert zoo.commit_page("abc") == "https://github.com/team/zoo/commit/abc"
    assert "s3cret-value" not in repr(settings) + dump_settings(settings)


@pytest.mark.parametrize("folder", ["../other", "/srv/project", "", "a/../b"])
def test_a_folder_lies_within_its_repository(folder: str) -> None:
    with pytest.raises(ValidationError, match="must be a path within the project"):
        ProjectSource(name="zoo", repository="/srv/zoo.git", folder=folder)


@pytest.mark.parametrize(
    ("schedule", "problem"),
    [
        ("{cron: '0 3 * *'}", "no cron schedule; write five fields"),
        ("{cron: '0 25 * * *'}", "no cron schedule"),
        ("{cron: '@daily'}", "no cron schedule"),
        ("{cron: '0 3 * * 1', timezone: Mars/Olympus}", "no time zone"),
        ("{cron: '0 3 * * 1', timezone: ../etc/passwd}", "no time zone"),
        ("{cron: '0 3 * * 1', rebuild: production_endpoint}", "evaluation_report"),
    ],
)
def test_a_schedule_that_never_comes_is_refused(settings_file: Path, schedule: str, problem: str) -> None:
    text = f"projects:\n- name: zoo\n  repository: /srv/zoo\n  schedules:\n  - {schedule}\n"
    [said] = told(settings_file, text)
    assert said.startswith(":5: projects.0.schedules.0.") and problem in said


@pytest.mark.parametrize(
    "text",
    [
        WEBHOOKS + "{secrets: [s3cret-value]}\n",
        WEBHOOKS + "{secrets: s3cret-value}\n",
        WEBHOOKS + "{secrets: [{env: s3cret-value}]}\n",
        WEBHOOKS + "{secrets: [{env: [s3cret-value]}]}\n",
        f"{NOTIFY}    via: cloudevents\n    to: {{env: X}}\n    token: s3cret-value\n",
        "judges:\n  - {name: j, base_url: 'http://x/v1', model: m, api_key: s3cret-value}\n",
        "ledger: {env: s3cret-value}\n",
    ],
)
def test_a_secret_that_was_pasted_into_the_settings_is_refused_and_not_shown(text: str, settings_file: Path) -> None:
    """The message repeated it, in Dagster's UI too."""
    settings_file.write_text(text)
    with pytest.raises(ConfigError) as error:
        load_settings()
    assert "s3cret" not in str(error.value) and re.search(r"settings\S*:\d+: ", str(error.value)), error.value
