"""What `llmops` prints can be read: whole in a pipe, and within 80 columns on a terminal. No Python objects."""

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable

import pytest

from llmops_assets.domain.records import Release
from llmops_assets.domain.rollback import Hold
from tests.support.projects import LIGHT, Project, World

OBJECTS = re.compile(r"\{'|\['|': |\(\)|None|True|False|datetime|\w+\(\w+=")


@pytest.fixture(scope="module")
def home(make_project: Callable[[], Project], make_world: Callable[..., World], computed: object) -> World:
    """Real results of two commits; production served two releases, one of which was rolled back and is held."""
    project = make_project()
    project.ship("Light rows for a quick look", LIGHT)
    world = make_world(project, computed=computed)
    world.source().git.fetch()
    ledger = world.ledger
    weights = ledger.records_of("zoo", project.git("rev-parse", "HEAD~1"))["quantized_artifact"]
    assert weights.made is not None
    made = []
    for template in ("one", "two"):
        release = Release(
            project="zoo", artifact_digest="d", artifact_uri=weights.made, file="model.gguf", chat_template=template,
            engine="llama.cpp",
        )  # fmt: skip
        ledger.add_release(release, project.head)
        ledger.serve("zoo", "production", release.digest, project.head)
        made.append(release.digest)
    request = ledger.open_request(
        "zoo", project.head, 1, "training.learning_rate: 0.1 to 0.2; prompt: 12 lines changed"
    )
    ledger.close(request, "rejected", "perplexity 3982 must be at most 40; rougeL 7.9 must be at least 20")
    hold = Hold(project="zoo", release=made[1], reason="wrong animals", by="eve@example.com", since=ledger.clock())
    ledger.roll_back("zoo", made[0], project.head, hold)
    return world


def on_terminal(world: World, *words: str) -> list[str]:
    """What a command prints on a terminal of 80 columns, line by line, without colours."""
    world.llmops("schema")  # writes the settings
    own = {"LLMOPS_HOME": str(world.home), "LLMOPS_SETTINGS": str(world.home / "settings.yaml"), "COLUMNS": "80"}
    main, side = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "llmops_assets.cli", *words],
        env={**os.environ, **own, "TERM": "xterm", "LLMOPS_USER": "eve@example.com"}, stdout=side, stderr=side,
    )  # fmt: skip
    os.close(side)
    said = b""
    while True:
        try:
            part = os.read(main, 65536)
        except OSError:  # the other side is closed
            break
        if not part:
            break
        said += part
    os.close(main)
    assert process.wait() == 0, said.decode()
    return [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in said.decode().splitlines()]


def test_status_says_who_when_and_why_and_nothing_is_elided_in_a_pipe(home: World) -> None:
    """It had no times, authors or subjects, and cut its cells even when piped."""
    code, said = home.llmops("status")
    assert code == 0
    assert "Light rows for a quick look (Ada <ada@example.com>)" in said
    assert re.search(r"rejected +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", said)
    assert "why: training.learning_rate: 0.1 to 0.2; prompt: 12 lines changed" in said
    assert "perplexity 3982 must be at most 40; rougeL 7.9 must be at least 20" in said
    assert "held: release" in said and "wrong animals" in said
    assert "…" not in said and not OBJECTS.search(said), said
    [one] = json.loads(home.llmops("status", "--json")[1])
    assert one["requests"][-1]["subject"] == "Light rows for a quick look"
    assert one["requests"][-1]["updated"].endswith("+00:00")


@pytest.mark.parametrize("command", [("status",), ("releases",), ("plan",), ("trace", "zoo")], ids=lambda c: c[0])
def test_every_page_fits_on_80_columns(home: World, command: tuple[str, ...]) -> None:
    lines = on_terminal(home, *command)
    words = [word for line in lines for word in line.split()]
    assert "…" not in "".join(lines)
    too_long = [line for line in lines if len(line) > 80 and len(max(line.split(), key=len)) < 60]
    assert too_long == [] and words


def test_releases_say_what_a_rollback_can_go_to(home: World) -> None:
    code, said = home.llmops("releases", "--json")
    assert code == 0, said
    current, rolled_back = json.loads(said)
    assert (current["state"], rolled_back["state"]) == ("serves", "held")
    assert current["since"] and current["until"] is None
    assert not any(r["can_roll_back_to"] for r in (current, rolled_back))
    code, said = home.llmops("releases")
    assert current["release"][:12] in said and "in production since" in said
    assert "there is no release to roll back to" in said
    home.ledger.lift("zoo", [rolled_back["release"]], "eve@example.com", "fixed")
    code, said = home.llmops("releases", "zoo")
    assert f"`llmops rollback zoo --reason WHY` goes to {rolled_back['release'][:12]}" in said


@pytest.mark.parametrize("command", [("trace", "production"), ("audit",)], ids=lambda c: c[0])
def test_trace_and_audit_print_text_and_no_python_objects(home: World, command: tuple[str, ...]) -> None:
    """They printed dictionaries, lists and None."""
    code, said = home.llmops(*command)
    assert code == 0
    assert not OBJECTS.search(said), OBJECTS.search(said)


def test_the_project_of_a_trace_is_positional_and_the_old_form_still_works(home: World) -> None:
    code, expected = home.llmops("trace", "zoo", "production", "--json")
    assert code == 0, expected
    commit = json.loads(expected)["commit"]
    for words in (("trace",), ("trace", "zoo"), ("trace", "production"), ("trace", commit), ("trace", "zoo", commit)):
        code, said = home.llmops(*words, "--json")
        assert code == 0 and json.loads(said)["commit"] == commit, words
    code, said = home.llmops("trace", "production", "--project", "zoo")
    assert code == 0 and "warning: --project is deprecated; use `llmops trace PROJECT WHAT`" in said


def test_a_first_plan_says_once_what_is_not_known_yet(
    make_project: Callable[[], Project], make_world: Callable[..., World]
) -> None:
    """It said "decide later" ten times."""
    project = make_project()
    project.push()
    world = make_world(project)
    code, said = world.llmops("plan")
    assert code == 0
    assert "decide" not in said
    assert len(said.splitlines()) < 10, said
    assert re.search(r"ci_report +run +first run", said)
    assert "then fine_tuned_checkpoint, evaluation_report," in said and "endpoint_health" in said


def test_help_version_and_completion_exist(home: World) -> None:
    code, said = home.llmops("-h")
    assert code == 0 and "releases" in said and "--install-completion" in said
    assert home.llmops("plan", "-h")[0] == 0
    assert re.fullmatch(r"llmops \d+\.\d+.*\n", home.llmops("--version")[1])
