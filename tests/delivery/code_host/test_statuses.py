"""Statuses of a commit on a code host: each state once, whatever fails. A real HTTP server."""

import os
import threading
from pathlib import Path

import pytest

from llmops_assets.config.settings_file import dump_settings
from resources.ledger import Ledger
from tests.delivery.code_host.answers import A, B, Make, begin, end
from tests.support import commands
from tests.support.code_hosts import Fault
from tests.support.github import TOKEN, GitHubServer
from tests.support.ledgers import Clock


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


def test_the_command_says_what_the_token_lacks(make: Make, own: Ledger, github: GitHubServer, tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text(dump_settings(make(own).clients.settings))

    def llmops(*words: str) -> tuple[int, str]:
        env = {**os.environ, "LLMOPS_SETTINGS": str(settings), "LLMOPS_HOME": str(tmp_path), "COLUMNS": "200"}
        done = commands.llmops("code-host", *words, env=env)
        return done.returncode, done.stdout + done.stderr

    code, said = llmops()
    assert code == 0 and f"o/zoo at {github.url}" in said, said
    assert "post check runs: no: POST /repos/o/zoo/check-runs: 403: You must authenticate via a GitHub App." in said
    assert "post commit statuses: yes" in said and "comment on pull requests: unknown" in said
    github.faults = [Fault("POST .*/deployments", 403, message="Resource not accessible by personal access token")]
    code, said = llmops("--json")
    assert code == 1 and "the token may not create deployments" in said, said
    assert not github.posts()
