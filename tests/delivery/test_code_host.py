"""A code host shows the newest state of each commit, once, whatever happens to it or to us.

Every request is held to GitHub's own OpenAPI description.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llmops_assets.config.settings import Settings
from llmops_assets.config.settings_file import dump_settings
from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.delivery.code_host import CodeHostAnswers
from llmops_assets.domain.findings import Finding
from llmops_assets.domain.records import Check, CiReport
from llmops_assets.domain.requests import Request, Status
from llmops_assets.domain.rollout import RolloutState
from llmops_assets.domain.verdict import judge_checks
from resources.assembly import build_clients
from resources.ledger import Ledger
from tests.delivery.production import Clock as Monotonic
from tests.support.code_hosts import Fault
from tests.support.github import TOKEN, GitHubServer
from tests.support.ledgers import Clock
from tests.support.records import VALUES, Memory, made_by

A, B = "a" * 40, "b" * 40


@pytest.fixture
def own(tmp_path: Path, clock: Clock) -> Iterator[Ledger]:
    ledger = Ledger(f"sqlite:///{tmp_path / 'own.sqlite'}", clock)
    yield ledger
    ledger.engine.dispose()


Make = Callable[..., CodeHostAnswers]


@pytest.fixture
def make(tmp_path: Path, github: GitHubServer) -> Make:
    """Makes a project's answers, as each process has its own."""

    def make(ledger: Ledger, **credentials: Any) -> CodeHostAnswers:
        credentials = credentials or {"token": {"env": "GITHUB_TOKEN_OF_TESTS"}}
        host = {"via": "github", "api": github.url, "repository": "o/zoo", **credentials}
        project = ProjectSource.model_validate({"name": "zoo", "repository": "/nowhere", "code_host": host})
        settings = Settings(home=tmp_path, projects=(project,), dagster_ui="https://dagster.example.com")
        return CodeHostAnswers(project, build_clients(settings, ledger=ledger), Monotonic())

    return make


def begin(ledger: Ledger, revision: str = A) -> Request:
    """A request that runs and has two results."""
    request = ledger.open_request("zoo", revision, 1, "tree changed")
    ledger.claim(request, "run-1")
    records = Memory().deliver(VALUES, revision, only=("ci_report", "container_image", "dataset_version")).records
    for record in records.values():
        ledger.record_use("zoo", revision, ledger.commit(record), reused=False)
    return request


def end(ledger: Ledger, request: Request, status: Status, detail: str) -> None:
    ledger.close(request, status, detail)


def state(github: GitHubServer, group: str, revision: str = A) -> str:
    return github.shown(revision)[f"llmops/zoo/{group}"][0]


def test_a_commit_has_a_status_for_each_group_and_each_change_is_posted_once(
    own: Ledger, make: Make, github: GitHubServer
) -> None:
    told = make(own)
    assert str(told.run()) == "nothing to post"
    request = begin(own)
    assert told.run().posted == 8
    assert [state(github, g) for g in ("ci", "data", "training", "release")] == ["success"] * 2 + ["pending"] * 2
    found = told.run()
    assert found.posted == 0 and "check runs: POST /repos/o/zoo/check-runs: 403: You must authenticate" in str(found)
    assert make(own).run().posted == 0  # another process
    end(own, request, "rejected", "fine_tuned_checkpoint: the loss is not finite")
    assert told.run().posted == 5, "ci, image and data have not changed"
    assert github.shown(A)["llmops/zoo/training"] == ("failure", "the loss is not finite")
    assert state(github, "release") == "error"
    status = github.statuses[A][0]
    assert status["target_url"] == "https://dagster.example.com/runs/run-1"
    assert len(github.posts()) == 13
    # A token that is not an App's: asked for check runs once.
    assert [(s.method, s.path, s.status) for s in github.seen if s.status >= 400] == [
        ("POST", "/repos/o/zoo/check-runs", 403)
    ]


def test_commits_from_before_are_not_answered_but_what_runs_is(own: Ledger, make: Make, github: GitHubServer) -> None:
    end(own, begin(own), "failed", "x")
    begin(own, B)
    assert make(own).run().posted == 8
    assert not github.shown(A) and state(github, "training", B) == "pending"


def test_a_status_whose_answer_was_lost_is_not_posted_twice(
    own: Ledger, make: Make, github: GitHubServer, clock: Clock
) -> None:
    """The connection is cut, or the process killed, after the host has accepted it."""
    told = make(own)
    told.run()
    begin(own)
    github.faults = [Fault("POST .*/statuses/", kind="cut")]
    found = told.run()
    assert found.posted == 0 and found.left == 8 and "it cannot be reached" in found.faults[0]
    clock.now += 10.0
    assert make(own).run().posted == 8
    assert len(github.statuses[A]) == 8 == len(github.shown(A))


def test_a_rate_limit_is_kept_to_and_only_the_newest_state_is_posted_after_it(
    own: Ledger, make: Make, github: GitHubServer, clock: Clock
) -> None:
    told = make(own)
    told.run()
    request = begin(own)
    limits = {
        "retry-after": (("Retry-After", "100"),),
        "reset": (("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", str(int(clock.now) + 3000))),
    }
    github.faults = [Fault("POST ", 403, limits["retry-after"], "You have exceeded a secondary rate limit")]
    found = told.run()
    assert found.faults == ("it limits the rate of requests, for 100 s",)
    asked = len(github.seen)
    clock.now += 50.0
    assert make(own).run().faults == ("it limits the rate of requests, for 100 s; tried again in 50 s",)
    assert len(github.seen) == asked, "no process asks before the time"
    end(own, request, "failed", "fine_tuned_checkpoint: out of memory")
    clock.now += 51.0
    assert told.run().posted == 8
    assert len(github.statuses[A]) == 8 and state(github, "training") == "failure", "what it was before is not posted"


@pytest.mark.parametrize("fault", [Fault("POST ", 500), Fault("GET ", 502, message="Bad gateway"), Fault(" ", 429)])
def test_an_outage_delays_and_loses_nothing(
    own: Ledger, make: Make, github: GitHubServer, clock: Clock, fault: Fault
) -> None:
    told = make(own)
    told.run()
    begin(own)
    github.faults = [fault] * 3
    rounds = []
    for _ in range(4):
        rounds.append(told.run().posted)
        clock.now += 100.0
    assert rounds == [0, 0, 0, 8] and len(github.statuses[A]) == 8


def test_a_token_that_is_not_accepted_or_not_there_is_said_and_stops_nothing(
    own: Ledger, make: Make, github: GitHubServer, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    told = make(own)
    told.run()
    begin(own)
    monkeypatch.setenv("GITHUB_TOKEN_OF_TESTS", "ghp_wrongwrongwrongwrongwrongwrong")
    (fault,) = told.run().faults
    assert "it does not accept the token" in fault and "Bad credentials" in fault
    monkeypatch.delenv("GITHUB_TOKEN_OF_TESTS")
    assert "GITHUB_TOKEN_OF_TESTS, which the settings name, is not set" in told.run().faults[0]
    monkeypatch.setenv("GITHUB_TOKEN_OF_TESTS", TOKEN)
    clock.now += 10.0
    assert told.run().posted == 8


def test_a_refused_status_does_not_hold_up_the_others(
    own: Ledger, make: Make, github: GitHubServer, clock: Clock
) -> None:
    told = make(own)
    told.run()
    begin(own)
    github.faults = [Fault("POST ", 422, message="No commit found"), Fault("POST ", 404, message="Not Found")]
    found = told.run()
    assert found.posted == 6 and len(found.faults) == 2 and "No commit found" in found.faults[0]
    clock.now += 10.0
    assert told.run().posted == 2


def test_a_status_that_is_always_refused_is_given_up_until_it_changes(
    own: Ledger, make: Make, github: GitHubServer, clock: Clock
) -> None:
    told = make(own)
    told.run()
    request = begin(own)
    github.faults = [Fault("POST .*/check-runs", 422, message="too long")] * 6
    for _ in range(8):
        told.run()
        clock.now += 700.0
    asked = len(github.seen)
    assert told.run().left == 0 and len(github.seen) == asked and not github.faults
    end(own, request, "failed", "ci_report: x")
    told.run()
    assert state(github, "ci") == "failure"


def test_processes_that_post_at_once_post_each_status_once(
    ledger: Ledger, make: Make, github: GitHubServer, clock: Clock
) -> None:
    make(ledger).run()
    begin(ledger)
    rivals = [make(Ledger(ledger.url, clock)) for _ in range(4)]
    threads = [threading.Thread(target=rival.run) for rival in rivals]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rivals[0].run()
    assert len(github.statuses[A]) == 8 == len(github.shown(A))
    for rival in rivals:
        rival.clients.ledger.engine.dispose()
    assert not ledger.audit().findings


def test_no_secret_is_posted_or_said(own: Ledger, make: Make, github: GitHubServer, tmp_path: Path) -> None:
    told = make(own)
    told.run()
    request = begin(own)
    end(own, request, "failed", f"git clone https://ada:hunter2secret@example.com failed with {TOKEN}")
    github.faults = [Fault("POST ", 422, message=f"token {TOKEN} is bad")]
    found = told.run()
    posted = str([s.body for s in github.seen])
    kept = b"".join(file.read_bytes() for file in tmp_path.glob("own.sqlite*"))
    assert "hunter2" not in posted and TOKEN not in posted and "failed with ***" in posted
    assert TOKEN not in str(found) and "*** is bad" in str(found)
    assert TOKEN.encode() not in kept.replace(request.detail.encode(), b"") or TOKEN in own.now(request).detail


def test_what_the_token_may_do_is_tried_without_posting(own: Ledger, make: Make, github: GitHubServer) -> None:
    told = make(own)
    assert {p.what: p.granted for p in told.verify()}["post commit statuses"] is True
    github.faults = [Fault("POST .*/statuses/", 403, message="Resource not accessible by personal access token")]
    lacking = next(p for p in told.verify() if p.what == "post commit statuses")
    assert lacking.granted is False and "Resource not accessible" in lacking.detail
    assert not github.statuses


# -- comments ---------------------------------------------------------------------------------------------------------


def body(github: GitHubServer, number: int = 7) -> str:
    (comment,) = [c for c in github.comments.get(number, []) if c["user"]["login"] == github.login]
    return str(comment["body"])


def test_a_pull_request_has_one_comment_that_is_updated(
    own: Ledger, make: Make, github: GitHubServer, clock: Clock
) -> None:
    github.pulls = {A: [7]}
    told = make(own)
    told.run()
    request = begin(own)
    assert told.run().posted == 9
    first = body(github)
    assert first.startswith("<!-- llmops:zoo -->\n\n### zoo: aaaaaaaaaaaa 🔄 is running")
    assert "| 🔄 | training | fine\\_tuned\\_checkpoint is running |" in first
    assert "[Dagster run](https://dagster.example.com/runs/run-1)" in first
    own.close(request, "waiting", "waiting: llmops approve zoo --report 0123456789ab --reason WHY")
    assert make(own).run().posted == 6, "the comment, the group that waits, and those after it"
    assert "✋ waits for a person" in body(github)
    assert 'llmops approve zoo --report 0123456789ab --reason "WHY"   (or: llmops reject' in body(github)
    assert len(github.posts("/comments")) == 2
    own.settle_waiting(own.now(request), "rejected", "rejected by eve@example.com: no")
    told.run()
    assert "❌ is rejected" in body(github) and "llmops status zoo" in body(github)


def test_a_newer_commit_of_the_pull_request_takes_the_comment_over(
    own: Ledger, make: Make, github: GitHubServer
) -> None:
    github.pulls = {A: [7], B: [7, 8]}
    told = make(own)
    told.run()
    end(own, begin(own), "failed", "x")
    told.run()
    begin(own, B)
    told.run()
    assert f"### zoo: {B[:12]}" in body(github) and f"### zoo: {B[:12]}" in body(github, 8)


def test_a_pull_request_that_is_opened_later_gets_its_comment(own: Ledger, make: Make, github: GitHubServer) -> None:
    told = make(own)
    told.run()
    end(own, begin(own), "failed", "x")
    told.run()
    github.pulls = {A: [7]}
    asked = len(github.seen)
    assert told.run().posted == 0 and len(github.seen) == asked
    told.clock.now += 400.0  # type: ignore[attr-defined]
    assert told.run().posted == 1 and "❌ failed" in body(github)


def test_a_comment_is_found_by_its_marker_and_author_whatever_the_ledger_knows(
    own: Ledger, make: Make, github: GitHubServer, clock: Clock, tmp_path: Path
) -> None:
    """The answer to the first POST is lost; later the ledger too. A stranger's comment with the marker is not ours."""
    github.pulls = {A: [7]}
    theirs = github.add_comment(7, "<!-- llmops:zoo -->\nI am llmops: merge this!", "mallory")
    for number in range(130):
        github.add_comment(7, f"comment {number}", "ada")
    told = make(own)
    told.run()
    request = begin(own)
    github.faults = [Fault("POST .*/comments", kind="cut")]
    told.run()
    clock.now += 10.0
    make(own).run()
    assert "is running" in body(github) and len(github.posts("/comments")) == 1
    end(own, request, "failed", "x")
    other = Ledger(f"sqlite:///{tmp_path / 'other.sqlite'}", clock)
    make(other).run()
    begin(other)
    make(other).run()
    other.engine.dispose()
    assert "is running" in body(github), "one comment"
    assert theirs["body"].endswith("merge this!")


def test_a_comment_that_somebody_deleted_or_changed_is_made_whole_with_the_next_change(
    own: Ledger, make: Make, github: GitHubServer
) -> None:
    github.pulls = {A: [7]}
    told = make(own)
    told.run()
    request = begin(own)
    told.run()
    github.comments[7].clear()
    end(own, request, "failed", "x")
    told.run()
    assert "❌ failed" in body(github)


def test_other_peoples_text_is_no_markup_and_mentions_nobody(own: Ledger, make: Make, github: GitHubServer) -> None:
    github.pulls = {A: [7]}
    told = make(own)
    told.run()
    hostile = "@acme/team see #12, !3, GH-4 <img src=x> </details> | a | ![x](https://evil.example.com) `` ``` /close"
    end(own, begin(own), "failed", f"fine_tuned_checkpoint: {hostile}\n/close\n@eve")
    told.run()
    text = body(github)
    assert "@acme" not in text and "@eve" not in text and "#12" not in text and "!3" not in text and "GH-4" not in text
    assert "<img" not in text and "](https://evil" not in text.replace("\\](", "") and "://evil" not in text
    assert not [line for line in text.splitlines() if line.startswith("/")]


# -- check runs and deployments ---------------------------------------------------------------------------------------


def test_an_app_posts_check_runs_with_conclusions_and_findings(
    own: Ledger, make: Make, github: GitHubServer, clock: Clock
) -> None:
    github.app = True
    told = make(own)
    told.run()
    request = begin(own)
    assert told.run().posted == 8 and not github.statuses
    assert github.conclusions(A)["llmops/zoo/ci"] == ("completed", "success")
    assert github.conclusions(A)["llmops/zoo/training"] == ("in_progress", None)
    assert github.conclusions(A)["llmops/zoo/release"] == ("queued", None)
    own.close(request, "waiting", "waiting: llmops approve zoo --report 0123456789ab --reason WHY")
    make(own).run()
    assert github.conclusions(A)["llmops/zoo/training"] == ("completed", "action_required")
    assert len(github.checks) == 8


def test_a_github_app_logs_in_by_its_key_and_renews_its_token(
    own: Ledger, make: Make, github: GitHubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the token of GitHub Actions could post check runs; another App needed a new token each hour."""
    pytest.importorskip("jwt", reason="pip install 'llmops-assets[github-app]'")
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    ).decode()
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    github.app, github.public_key = True, public.decode()
    monkeypatch.setenv("APP_KEY", pem.replace("\n", "\\n"))
    app = {"id": "Iv1.app", "private_key": {"env": "APP_KEY"}}
    told = make(own, app=app)
    told.run()
    begin(own)
    assert told.run().posted == len(github.checks) > 6 and len(github.tokens) == 1, "one token for all requests"
    github.tokens.clear()  # revoked
    own.close(own.requests("zoo")[-1], "rejected", "evaluation_report: perplexity 9 above 5")
    refused = told.run()
    assert refused.left and "does not accept the token" in refused.faults[0] and "ghs_" not in str(refused)
    own.clock.now += 60  # type: ignore[attr-defined]
    assert told.run().left == 0 and len(github.tokens) == 1
    assert github.conclusions(A)["llmops/zoo/training"][0] == "completed"
    asked = [s.path for s in github.seen if "installation" in s.path]
    assert asked == ["/repos/o/zoo/installation", "/app/installations/77/access_tokens"] * 2
    begin(own, "c" * 40)
    (fault,) = make(own, app={**app, "installation": 5}).run().faults
    assert "no token for the GitHub App Iv1.app: POST /app/installations/5/access_tokens: 404: Not Found" in fault
    monkeypatch.setenv("APP_KEY", "-----BEGIN RSA PRIVATE KEY-----\\nc2VjcmV0\\n-----END RSA PRIVATE KEY-----")
    (fault,) = make(own, app=app).run().faults
    assert fault == (
        "code_host.app.private_key: the environment variable APP_KEY: it holds no private RSA key in PEM (-----BEGIN "
        "RSA PRIVATE KEY-----)"
    )


def test_findings_of_the_linter_are_annotations_each_once(
    own: Ledger, make: Make, github: GitHubServer, clock: Clock
) -> None:
    """120 findings are three requests, and the second's answer is lost."""
    github.app = True
    told = make(own)
    told.run()
    request = own.open_request("zoo", A, 1, "tree changed")
    own.claim(request, "run-1")
    found = tuple(
        Finding(tool="ruff", rule="F401", message="`os` imported but unused", file="src/a.py", line=line)
        for line in range(1, 121)
    )
    checks = (Check(name="ruff", passed=False, summary="120 problems", findings=found),)
    report = CiReport(key="k", made_by=made_by(A), checks=checks)
    own.record_use("zoo", A, own.commit(report), reused=False)
    verdict = judge_checks("the code", "k", report.checks).model_copy(update={"check": "ci_report:passes"})
    own.add_verdict("zoo", A, "ci_report", verdict)
    end(own, request, "rejected", "fine_tuned_checkpoint: ruff: 120 problems")
    github.faults = [Fault("PATCH .*/check-runs/", kind="cut")]
    assert told.run().posted == 0
    clock.now += 10.0
    assert make(own).run().posted == 8
    (ci,) = [c for c in github.checks if c["name"] == "llmops/zoo/ci"]
    assert [a["start_line"] for a in ci["annotations"]] == [*range(1, 121)]
    assert ci["annotations"][0]["path"] == "src/a.py" and "F401" in ci["annotations"][0]["message"]
    assert (ci["status"], ci["conclusion"]) == ("completed", "failure") and "ruff: 120 problems" in str(ci["output"])


def test_a_check_run_whose_answer_was_lost_is_found_again(
    own: Ledger, make: Make, github: GitHubServer, clock: Clock
) -> None:
    github.app = True
    told = make(own)
    told.run()
    begin(own)
    github.faults = [Fault("POST .*/check-runs", kind="cut")]
    told.run()
    clock.now += 10.0
    make(own).run()
    assert len(github.checks) == 8 == len(github.conclusions(A))


def test_staging_and_production_are_deployments_with_their_states(
    own: Ledger, make: Make, github: GitHubServer, clock: Clock
) -> None:
    told = make(own)
    told.run()
    begin(own)
    own.serve("zoo", "staging", "d" * 64, A)
    github.faults = [Fault("POST .*/deployments", kind="cut")]
    running = RolloutState(release="d" * 64, replaces="c" * 64, weights=(0.1, 0.5))
    identity, version = own.begin_rollout("zoo", A, running)
    told.run()
    clock.now += 10.0
    make(own).run()

    def shown() -> dict[str, list[str]]:
        return {d["environment"]: [s["state"] for s in d["statuses"]] for d in github.deployments}

    assert shown() == {"zoo-staging": ["success"], "zoo-production": ["in_progress"]}
    own.save_rollout(identity, version, running.model_copy(update={"status": "promoted"}))
    make(own).run()
    assert shown() == {"zoo-staging": ["success"], "zoo-production": ["success", "in_progress"]}
    assert [d["production_environment"] for d in github.deployments] == [True, False]
    own.begin_rollout("zoo", A, running.returned("error_rate 40% above 5%"))
    told.run()
    newest = github.deployments[0]["statuses"][0]
    assert newest["state"] == "failure" and "error_rate 40%" in newest["description"] and len(github.deployments) == 3


def test_the_command_says_what_the_token_lacks(make: Make, own: Ledger, github: GitHubServer, tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text(dump_settings(make(own).clients.settings))

    def llmops(*words: str) -> tuple[int, str]:
        env = {**os.environ, "LLMOPS_SETTINGS": str(settings), "LLMOPS_HOME": str(tmp_path), "COLUMNS": "200"}
        command = [sys.executable, "-m", "llmops_assets.cli", "code-host", *words]
        done = subprocess.run(command, env=env, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    code, said = llmops()
    assert code == 0 and f"o/zoo at {github.url}" in said, said
    assert "post check runs: no: POST /repos/o/zoo/check-runs: 403: You must authenticate via a GitHub App." in said
    assert "post commit statuses: yes" in said and "comment on pull requests: unknown" in said
    github.faults = [Fault("POST .*/deployments", 403, message="Resource not accessible by personal access token")]
    code, said = llmops("--json")
    assert code == 1 and "the token may not create deployments" in said, said
    assert not github.posts()
