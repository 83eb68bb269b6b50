"""The comment on a pull request: one, updated, and without markup of other people."""

from pathlib import Path

from resources.ledger import Ledger
from tests.delivery.code_host.answers import A, B, Make, begin, end
from tests.support.code_hosts import Fault
from tests.support.github import GitHubServer
from tests.support.ledgers import Clock


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
