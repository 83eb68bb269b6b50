"""Secrets are planted wherever a location takes one; then everything that it wrote, showed or started is searched.

MLflow's address with its password was an argument that `ps` shows to every user, and stood in a file of mode 0644; the
repository's token was in a tick's reason and on the terminal.
"""

import base64
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, quote_plus

import dagster as dg
import pytest

from llmops_assets.config.secrets import FromEnvironment
from resources.local_services import services
from tests.support.commands import llmops
from tests.support.git_http import GitServer, command_lines
from tests.support.live import Live
from tests.support.projects import LIGHT, Project
from tests.support.waiting import wait_for

LEDGER, MLFLOW, TOKEN, STORAGE = "l3dger-p@ss/word", "mlfl0w-p@ss/word+1", "t0ken%of:the@robot", "st0rage/key+value=="
PLANTED = {"ledger": LEDGER, "mlflow": MLFLOW, "git": TOKEN, "storage": STORAGE}


def forms(secret: str) -> set[str]:
    """A secret as it may be written."""
    pairs = {base64.b64encode(f"{user}:{secret}".encode()).decode() for user in ("robot", "llmops")}
    return {secret, quote(secret, safe=""), quote_plus(secret), quote(secret), *pairs}


FORMS = {form: name for name, secret in PLANTED.items() for form in forms(secret)}


def secrets_of(text: str) -> set[str]:
    return {name for form, name in FORMS.items() if form in text}


class Story:
    """A live Dagster with all secrets, and everything that its commands printed."""

    def __init__(self, live: Live, server: GitServer):
        self.live, self.server = live, server
        self.printed: dict[str, str] = {}

    def llmops(self, *words: str, **variables: str) -> tuple[int, str]:
        done = llmops(*words, env=self.live.env | variables)
        self.printed[" ".join([*words, *variables])] = said = done.stdout + done.stderr
        return done.returncode, said

    def ticks(self, name: str) -> list[str]:
        instance = self.live.instance
        (state,) = [s for s in instance.all_instigator_state() if s.instigator_name == name]
        found = instance.get_ticks(state.instigator_origin_id, state.selector_id)
        return [f"{t.tick_data.skip_reason} {t.tick_data.error}" for t in found]


@pytest.fixture(scope="module")
def story(
    make_project: Callable[[], Project],
    new_ledger_url: Callable[[str, Path], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Story]:
    """A commit whose own test prints its environment and fails; then the Git server lets nobody in any more."""
    project, home = make_project(), tmp_path_factory.mktemp("live")
    project.configure(LIGHT)
    project.write(
        ".dvc/config",
        f"[core]\n    remote = storage\n['remote \"storage\"']\n    url = {project.root / 'dvc-remote'}\n",
    )
    project.write("tests/test_leak.py", "import os\n\ndef test_leaks():\n    assert not dict(os.environ), 'red'\n")
    project.ship("Careless")
    home.chmod(0o755)
    (home / "of-an-earlier-version").write_text("x")
    (home / "of-an-earlier-version").chmod(0o644)
    server = GitServer(project.root, "robot", TOKEN)
    server.publish(project.remote)

    def database(password: str) -> str:
        return new_ledger_url("postgres", home).replace("llmops@", f"llmops:{quote(password, safe='')}@")

    with pytest.MonkeyPatch.context() as patch, server.serving():
        patch.setenv("ZOO_LEDGER", database(LEDGER))
        patch.setenv("ZOO_MLFLOW", database(MLFLOW))
        patch.setenv("ZOO_REPOSITORY", f"http://robot:{quote(TOKEN, safe='')}@{server.host}/{project.remote.name}")
        patch.setenv("AWS_SECRET_ACCESS_KEY", STORAGE)
        live = Live(
            home, project, repository=FromEnvironment(env="ZOO_REPOSITORY"), mlflow_server=True, alone=True, poll=2,
            ledger=FromEnvironment(env="ZOO_LEDGER"), mlflow=FromEnvironment(env="ZOO_MLFLOW"),
        )  # fmt: skip
        with live.running():
            told = Story(live, server)
            wait_for("the outcome", lambda: live.ended(project.head), every_s=0.5)
            for words in (
                ("status",),
                ("plan",),
                ("check",),
                ("audit", "--json"),
                ("trace", project.head),
                ("endpoints",),
            ):
                told.llmops(*words)
            server.closed = True
            wait_for("a tick without its remote", lambda: "unreachable" in told.ticks("zoo_git")[0])
            yield told
        live.ledger.engine.dispose()


def test_the_location_works_with_secrets_from_the_environment(story: Story) -> None:
    """Otherwise the searches below would find nothing because nothing happened."""
    (request,) = story.live.requests(story.live.project.head)
    assert (request.status, "1 failed" in request.detail) == ("rejected", True), request
    assert set(services.processes(story.live.settings)) >= {"mlflow", "dagster-daemon", "dagster-webserver"}
    assert "released" not in story.printed["status"] and "rejected" in story.printed["status"]
    assert story.live.clients.tracking.client.search_experiments()


def test_no_process_has_a_secret_among_its_arguments(story: Story) -> None:
    lines = story.server.listed | command_lines()
    assert any("remote-http" in line for line in lines) and any("mlflow" in line and "server" in line for line in lines)
    assert not [line for line in lines if secrets_of(line)]


def test_no_file_of_the_home_has_a_secret(story: Story) -> None:
    written = {}
    for path in story.live.settings.home.rglob("*"):
        with suppress(FileNotFoundError):  # services are running: SQLite removes a -wal with its last connection
            if path.is_file():
                written[str(path)] = path.read_bytes().decode("latin-1")
    assert len(written) > 50
    found = {path: names for path, text in written.items() if (names := secrets_of(text))}
    assert found == {}


def test_the_ledger_and_mlflows_database_have_no_secret(story: Story) -> None:
    from sqlalchemy import MetaData, create_engine, select

    for url in (story.live.settings.ledger_url, story.live.settings.mlflow_uri):
        engine, tables = create_engine(url), MetaData()
        tables.reflect(engine)
        with engine.connect() as c:
            for table in tables.sorted_tables:
                assert not secrets_of(str(c.execute(select(table)).all())), table.name
        engine.dispose()


def test_no_tick_and_no_run_shows_a_secret(story: Story) -> None:
    instance = story.live.instance
    told = [text for name in ("zoo_git", "zoo_dvc", "zoo_recovery") for text in story.ticks(name)]
    told += [str(entry) for run in instance.get_runs() for entry in instance.all_logs(run.run_id)]
    told += [str(run.tags) + str(run.run_config) for run in instance.get_runs()]
    events = instance.get_event_records(dg.EventRecordsFilter(dg.DagsterEventType.ASSET_MATERIALIZATION))
    told += [str(event) for event in events]
    assert len(told) > 30 and not [text for text in told if secrets_of(text)]
    assert any(f"http://***@{story.server.host}" in text for text in told), "the reason says which server it was"


@pytest.mark.parametrize("variable", ["ZOO_LEDGER", "ZOO_REPOSITORY", "ZOO_MLFLOW"])
def test_no_command_prints_a_secret_also_when_it_fails(story: Story, variable: str) -> None:
    value = story.live.env[variable]
    broken = value.replace("?host=/tmp", "?host=/nowhere").replace(story.server.host, "127.0.0.1:1")
    story.llmops("check", **{variable: broken})
    assert {"status", "plan", "audit --json"} <= set(story.printed)
    assert not {words: said for words, said in story.printed.items() if secrets_of(said)}


def test_the_home_is_closed_to_other_users(story: Story) -> None:
    home = story.live.settings.home
    assert stat.S_IMODE(home.stat().st_mode) == 0o700, "it was 0755"
    assert stat.S_IMODE((home / "of-an-earlier-version").stat().st_mode) == 0o600
    found = {}
    for path in home.rglob("*"):
        with suppress(FileNotFoundError):
            if not path.is_symlink() and not path.is_socket():
                found[path] = stat.S_IMODE(path.lstat().st_mode)
    dvcs_own = {home / "dvc-cache", home / "work"}  # DVC marks its unchanged files by the mode 0444
    open_to_others = {str(p): oct(m) for p, m in found.items() if m & 0o077 and not dvcs_own & set(p.parents)}
    assert open_to_others == {}
