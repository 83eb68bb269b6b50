"""`llmops` for people and scripts: exit codes 0, 1 and 2, one clear error, JSON on request."""

import json
import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from llmops_assets.config.serving import ServingSettings
from llmops_assets.config.settings import Settings
from llmops_assets.config.settings_file import dump_settings
from llmops_assets.config.watched_project import ProjectSource
from resources.ledger import Ledger
from tests.support import commands
from tests.support.ports import free_port
from tests.support.projects import Project, World, furnish
from tests.support.waiting import CEILING_S


class Terminal:
    def __init__(self, home: Path, project: Project):
        self.home, self.project = home, project
        furnish(home, World.cache)
        self.port = free_port()
        settings = Settings(
            home=home,
            projects=(ProjectSource(name="zoo", repository=str(project.remote)),),
            serving=ServingSettings(port=self.port),
        )
        self.file = home / "settings.yaml"
        self.file.write_text(dump_settings(settings))

    def __call__(self, *words: str, cwd: Path | None = None, settings: Path | None = None) -> tuple[int, str, str]:
        env = {k: v for k, v in os.environ.items() if k not in ("DAGSTER_HOME",)}
        env |= {"LLMOPS_USER": "eve@example.com"}
        env |= {"LLMOPS_HOME": str(self.home), "LLMOPS_SETTINGS": str(settings or self.file), "COLUMNS": "200"}
        done = commands.llmops(*words, env=env, cwd=cwd)
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def llmops(make_project: Callable[[], Project], tmp_path_factory: pytest.TempPathFactory) -> Terminal:
    project = make_project()
    project.push()
    return Terminal(tmp_path_factory.mktemp("terminal"), project)


def test_help_says_what_each_command_does(llmops: Terminal) -> None:
    code, out, _ = llmops("--help")
    assert code == 0
    commands = "check plan run status trace retry cancel approve reject rollback unhold audit endpoints demo down"
    for command in commands.split():
        assert command in out


def test_check_accepts_a_good_revision_and_refuses_a_bad_folder(llmops: Terminal) -> None:
    assert llmops("check")[0] == 0
    code, _, err = llmops("check", "--path", str(llmops.project.root))
    assert code == 2 and "llmops.yaml: no such file" in err
    assert llmops("check", "--path", str(llmops.project.folder))[0] == 0


def test_plan_of_a_new_project_computes_everything_and_touches_nothing(llmops: Terminal) -> None:
    code, out, _ = llmops("plan", "--json")
    plan = json.loads(out)
    assert code == 0
    assert (plan["project"], plan["revision"]) == ("zoo", llmops.project.head)
    actions = {s["stage"]: s["action"] for s in plan["stages"]}
    assert actions["ci_report"] == actions["dataset_version"] == "run"
    assert actions["fine_tuned_checkpoint"] == "decide_later"
    assert set(plan["stages"][0]) == {"stage", "action", "reasons", "key"}
    assert "simulated rollouts returned" in plan["canary"], "what the rollout's rules can tell apart"
    assert not (llmops.home / "jobs").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("plan", "bear"), "no such project: 'bear' (known: zoo)"),
        (("run", "--only", "trainng"), "no such stage: 'trainng' (known: ci_report"),
        (("plan", "--revision", "feedc0ffee"), "'feedc0ffee' is no commit, branch or tag"),
        (("plan", "--revision", "main:README.md"), "'main:README.md' is no commit, branch or tag"),
        (("run", "--rebuild", "ci_report"), "--rebuild needs --reason"),
        (("trace", "feedc0ffee"), "'feedc0ffee' is no commit"),
    ],
)
def test_a_wrong_project_stage_or_revision_is_one_clear_error(
    llmops: Terminal, words: tuple[str, ...], expected: str
) -> None:
    llmops("plan")
    code, _, err = llmops(*words)
    assert code == 2
    assert expected in err


@pytest.mark.parametrize(
    "words",
    [
        ("trace", "production"), ("retry",), ("cancel",), ("approve", "--reason", "fine"),
        ("reject", "--reason", "bad"), ("rollback", "--reason", "bad"), ("unhold", "--reason", "fixed"),
    ],
)  # fmt: skip
def test_what_cannot_be_answered_yet_is_answered_with_exit_code_1_and_not_as_a_fault(
    llmops: Terminal, words: tuple[str, ...]
) -> None:
    code, _, err = llmops(*words)
    assert code == 1
    assert err.strip()


def test_endpoints_of_a_new_project_are_an_empty_list(llmops: Terminal) -> None:
    code, out, _ = llmops("endpoints", "--json")
    assert (code, json.loads(out)) == (0, [])


def test_settings_that_are_missing_or_wrong_are_named(llmops: Terminal, tmp_path: Path) -> None:
    code, _, err = llmops("status", settings=tmp_path / "none.yaml")
    assert code == 2 and "none.yaml: no such file" in err
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("projects:\n  - {name: zoo, repo: x}\n")
    code, _, err = llmops("status", settings=wrong)
    assert code == 2 and "wrong.yaml:2: projects.0.repo: unknown key" in err


def test_a_taken_port_is_named_and_nothing_is_started(llmops: Terminal) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        code, _, err = llmops("up", "--dagster-port", str(port), "--mlflow-port", str(free_port()))
    assert code == 2
    assert f"port {port} is in use by pid {os.getpid()}" in err and "`llmops up --dagster-port " in err
    assert not (llmops.home / "services" / "supervisord.pid").exists()


def test_a_taken_port_of_the_gateway_is_told_before_anything_is_computed(llmops: Terminal) -> None:
    """After the demo, a new project's first run computed seven stages and then ended in "port taken"."""
    with socket.socket() as demo:
        demo.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        demo.bind(("127.0.0.1", llmops.port))
        demo.listen()
        code, _, err = llmops("run", "--wait")
        assert code == 2
        assert f"port {llmops.port} on 127.0.0.1 is in use by pid {os.getpid()}" in err
        assert "set another port in the settings file (LLMOPS_SETTINGS), such as `serving: {port: " in err
        code, out, _ = llmops("check")
        assert code == 0 and f"still to do: port {llmops.port}" in out
    assert json.loads(llmops("status", "--json")[1])[0]["requests"] == []
    assert "still to do: port" not in llmops("check")[1]


def test_one_stage_runs_without_a_daemon_and_is_shown_by_status_and_trace(llmops: Terminal) -> None:
    code, out, err = llmops("run", "--only", "ci_report", "--wait")
    assert code == 0, err
    assert "ci_report: passes: passed: configuration: llmops.yaml" in err
    code, out, _ = llmops("status", "--json")
    [status] = json.loads(out)
    assert code == 0
    assert [(r["revision"], r["status"], r["asked_by"]) for r in status["requests"]] == [
        (llmops.project.head, "done", "person, some stages")
    ]
    assert status["serving"] == {"staging": None, "production": None}
    code, out, _ = llmops("trace", llmops.project.head, "--json")
    found = json.loads(out)
    assert code == 0
    assert found["commit"] == llmops.project.head
    assert {
        "data",
        "prompt",
        "configuration",
        "checkpoint",
        "evaluation",
        "registered_model",
        "quantized_artifact",
        "release",
        "approval",
    } <= set(found)


def test_a_run_prints_progress_and_reasons_and_neither_bookkeeping_nor_a_traceback(llmops: Terminal) -> None:
    code, out, err = llmops("run", "--only", "fine_tuned_checkpoint", "--wait")
    assert code == 1
    told = f"dataset_version of {llmops.project.head[:12]} must exist first. Remedy: materialize it"
    assert f"fine_tuned_checkpoint: error: {told}" in err
    assert f"is failed: {told}" in err, "and it is over: nothing waits for it"
    for noise in ("DEBUG", "STEP_", "ENGINE_EVENT", "Stack Trace", "Traceback", "site-packages"):
        assert noise not in out + err, noise


def test_a_rebuild_makes_a_result_once_and_for_all(llmops: Terminal) -> None:
    before = {s["stage"]: s for s in json.loads(llmops("plan", "--json")[1])["stages"]}
    assert before["ci_report"]["action"] == "reuse"
    code, _, err = llmops("run", "--rebuild", "ci_report", "--reason", "flaky", "--only", "ci_report", "--wait")
    assert code == 0, err
    after = {s["stage"]: s for s in json.loads(llmops("plan", "--json")[1])["stages"]}
    assert after["ci_report"]["action"] == "reuse"
    assert after["ci_report"]["key"] != before["ci_report"]["key"]
    code, _, err = llmops("run", "--rebuild", "registered_model", "--reason", "why not")
    assert code == 1 and "cannot be rebuilt yet" in err


def test_audit_names_what_was_changed_and_checks_a_head_that_was_kept(llmops: Terminal, tmp_path: Path) -> None:
    """An approval that was added by plain SQL released a model, and the trail was called intact."""
    head = tmp_path / "head.json"
    code, out, _ = llmops("audit", "--export", str(head))
    assert code == 0 and "is intact, with all" in out and str(head) in out
    code, out, _ = llmops("audit", "--against", str(head))
    assert code == 0 and "it continues from the head" in out

    ledger = sqlite3.connect(llmops.home / "ledger.sqlite", isolation_level=None)
    (detail,) = ledger.execute("SELECT detail FROM requests WHERE id = 1").fetchone()
    ledger.execute("UPDATE requests SET detail = 'all is well' WHERE id = 1")
    ledger.execute(
        "INSERT INTO approvals (project, release, choice, decided_by, body, created) "
        "VALUES ('zoo', 'x', 'approved', 'me', '', 1)"
    )
    code, out, err = llmops("audit")
    assert code == 1 and "is intact" not in out
    assert "requests 1 (project zoo" in err and "altered; event " in err
    assert "approvals 1 (project zoo" in err and "not covered" in err
    code, out, _ = llmops("audit", "--json", "--export", str(tmp_path / "none.json"))
    assert code == 1 and len(json.loads(out)["findings"]) == 2
    assert not (tmp_path / "none.json").exists(), "a head is exported only of what is intact"
    ledger.execute("DELETE FROM approvals")
    ledger.execute("UPDATE requests SET detail = ? WHERE id = 1", (detail,))
    assert llmops("audit")[0] == 0

    ledger.execute("DELETE FROM audit WHERE id = (SELECT max(id) FROM audit)")
    code, _, err = llmops("audit", "--against", str(head))
    assert code == 1 and "is gone: the chain was cut off" in err
    ledger.close()
    code, _, err = llmops("audit", "--against", str(llmops.file))
    assert code == 2 and "is not a head that" in err


def test_keys_are_shown_once_listed_without_them_and_revoked(llmops: Terminal) -> None:
    code, key, err = llmops("keys", "add", "ada@example.com", "--project", "zoo")
    assert code == 0 and key.startswith("llmops-") and "still answer without a key" in err
    code, out, _ = llmops("keys", "list", "--json")
    (listed,) = json.loads(out)
    assert (listed["client"], listed["project"]) == ("ada@example.com", "zoo") and key.strip() not in out
    assert llmops("keys", "add", "ada", "--project", "nothing")[0] == 2
    assert "no such key" in llmops("keys", "revoke", "bo")[2]
    code, out, _ = llmops("keys", "revoke", "ada@example.com")
    assert code == 0 and listed["id"] in out
    assert "no keys" in llmops("keys", "list")[1]
    code, out, _ = llmops("audit", "--json")
    events = [e for e in json.loads(out)["events"] if e["event"].startswith("API key")]
    assert [(e["event"], e["key"], e["by"]) for e in events] == [
        ("API key added", listed["id"], "eve@example.com"), ("API key revoked", listed["id"], "eve@example.com"),
    ]  # fmt: skip


def test_run_wait_answers_for_the_run_that_it_waits_for(llmops: Terminal) -> None:
    """It answered for the newest request: that of a commit which came while it waited."""
    ledger = Ledger(f"sqlite:///{llmops.home / 'ledger.sqlite'}")
    mine = ledger.open_request("zoo", llmops.project.head, 9, "because")
    command = [sys.executable, "-m", "llmops_assets.cli", "run", "--wait"]
    env = {**os.environ, "LLMOPS_HOME": str(llmops.home), "LLMOPS_SETTINGS": str(llmops.file)}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as waiting:
        assert waiting.stdout is not None
        assert "is already running" in waiting.stdout.readline()
        ledger.close(mine, "released", "it serves")
        ledger.close(ledger.open_request("zoo", "f" * 40, 1, "another commit"), "failed", "it does not train")
        out, err = waiting.communicate(timeout=CEILING_S)
    assert (waiting.returncode, err) == (0, "") and "is released: it serves" in out
    ledger.engine.dispose()
