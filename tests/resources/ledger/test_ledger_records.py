"""Records with their lineage and verdicts; releases and what served when."""

from typing import Any

import pytest

from llmops_assets.domain.rollout import Judgement, RolloutPolicy, advance, begin
from llmops_assets.domain.verdict import Verdict
from resources.ledger import Conflict, Ledger
from tests.resources.ledger.examples import A, B, release
from tests.support.records import VALUES, Memory, made_by


def test_a_record_comes_back_as_it_was_committed(ledger: Ledger) -> None:
    for record in Memory().deliver(VALUES).records.values():
        assert ledger.find(record.key) is None
        assert ledger.commit(record) == record == ledger.find(record.key)


def test_a_forgotten_record_is_made_again(ledger: Ledger) -> None:
    record = Memory().deliver(VALUES).records["ci_report"]
    ledger.commit(record)
    ledger.forget(record.key, "it is damaged")
    assert ledger.find(record.key) is None
    again = record.model_copy(update={"made_by": made_by("r2")})
    assert ledger.commit(again).made_by.revision == "r2"


def test_the_newest_rebuild_of_a_key_counts(ledger: Ledger, clock: Any) -> None:
    assert ledger.salt_of("key") is None
    ledger.rebuild("key", "faulty GPU")
    first = ledger.salt_of("key")
    clock.now += 1
    ledger.rebuild("key", "faulty GPU")
    assert first and first.startswith("faulty GPU") and ledger.salt_of("key") not in (None, first)


def test_a_revision_finds_what_it_uses_made_or_reused(ledger: Ledger) -> None:
    record = Memory().deliver(VALUES, "r1").records["ci_report"]
    ledger.commit(record)
    ledger.record_use("zoo", A, record, reused=False)
    ledger.record_use("zoo", B, record, reused=True)
    assert ledger.records_of("zoo", B) == {"ci_report": record} == ledger.records_of("zoo", A)
    assert [ledger.edges("zoo", r)["ci_report"].reused for r in (A, B)] == [False, True]
    newer = record.model_copy(update={"key": "newer"})
    ledger.commit(newer)
    ledger.record_use("zoo", B, newer, reused=False)
    assert ledger.records_of("zoo", B) == {"ci_report": newer}
    assert ledger.records_of("farm", B) == {}


def test_verdicts_are_kept_in_order_with_all_their_reasons(ledger: Ledger) -> None:
    found = [Verdict(subject="it", report="d", champion=None, failures=f) for f in ((), ("bleu 0.1", "rougeL 0.2"))]
    for verdict in found:
        ledger.add_verdict("zoo", A, "registered_model", verdict)
    assert ledger.verdicts("zoo", A) == [("registered_model", v) for v in found]
    assert ledger.verdicts("zoo", B) == []


def test_a_report_shows_the_verdict_of_its_own_commit_else_the_newest(ledger: Ledger) -> None:
    """A commit that reused a report showed the verdict of another commit's gates as its own."""

    def judged(**fields: Any) -> Verdict:
        return Verdict(
            **{"subject": "it", "report": "d", "champion": None, "check": "evaluation_report:gates", **fields}
        )

    first, newest = judged(), judged(failures=("too bad",))
    for revision, verdict in ((A, first), (B, newest), (B, judged(report="e")), (B, judged(check="it:evidence"))):
        ledger.add_verdict("zoo", revision, "production_endpoint", verdict)
    ledger.add_verdict("farm", A, "production_endpoint", judged(failures=("of another project",)))

    def shown(revision: str, report: str = "d") -> tuple[str, str, Verdict] | None:
        return ledger.verdict_on("zoo", "evaluation_report:gates", report, revision)

    assert shown(A) == (A, "production_endpoint", first)
    assert shown(B) == shown("c" * 40) == (B, "production_endpoint", newest)
    assert shown(A, report="f") is None


def test_a_release_keeps_its_first_author_and_is_found_by_a_prefix(ledger: Ledger) -> None:
    one, other = release(), release("b" * 64)
    ledger.add_release(one, A)
    ledger.add_release(one, B)
    ledger.add_release(other, B)
    assert ledger.release(one.digest[:12]) == one and ledger.release("") is None, "two are no answer"
    assert ledger.revision_of_release("zoo", one.digest[:12]) == (A, one.digest)
    assert ledger.revision_of_release("farm", one.digest[:12]) is None
    assert ledger.revision_of_release("zoo", one.digest[:5]) is None, "too short to be meant"


def test_an_environment_serves_what_came_last_and_remembers_what_it_served(ledger: Ledger, clock: Any) -> None:
    assert ledger.serving("zoo", "production") is None
    ledger.serve("zoo", "production", "one", A)
    clock.now += 10
    ledger.serve("zoo", "production", "one", A)
    serving = ledger.serving("zoo", "production")
    assert serving is not None and (serving.release, serving.since) == ("one", 1000.0), "the same again is no event"
    ledger.serve("zoo", "production", "two", B)
    ledger.serve("zoo", "staging", "three", B)
    serving = ledger.serving("zoo", "production")
    assert serving is not None and (serving.release, serving.revision) == ("two", B)
    assert ledger.has_served("zoo", "one") and not ledger.has_served("zoo", "three")
    assert ledger.has_served("zoo", "three", "staging") and not ledger.has_served("farm", "one")


def test_a_rollout_that_was_moved_by_somebody_else_is_not_moved_again(ledger: Ledger) -> None:
    state = begin("new", "old", RolloutPolicy())
    identity, version = ledger.begin_rollout("zoo", A, state)
    moved = advance(state, Judgement(status="passed", answers=59))
    assert ledger.save_rollout(identity, version, moved) == version + 1
    with pytest.raises(Conflict, match="changed by another run"):
        ledger.save_rollout(identity, version, moved)
    assert ledger.rollout("zoo") == (identity, version + 1, A, moved)
    assert ledger.rollout("farm") is None
