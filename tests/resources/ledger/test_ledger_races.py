"""Many processes at once: one wins, or all adopt the first. On SQLite and PostgreSQL."""

import multiprocessing
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from typing import Any

import pytest

from llmops_assets.domain.records import CiReport
from llmops_assets.domain.rollout import RolloutPolicy, begin
from resources.ledger import Conflict, Ledger
from tests.resources.ledger.examples import A
from tests.support.records import made_by
from tests.support.waiting import CEILING_S

PROCESSES, ROUNDS = 6, 20

ONE_WINS = ("same request", "any request", "next generation", "claim", "close", "rollout")

ALL_ADOPT = ("commit", "pin")

ALL_WRITE = ("own request",)


def _rival(url: str, who: int, barrier: Barrier, answers: Any) -> None:
    """Does the same as its rivals at the same moment, round after round; puts each round's result into the queue."""
    rounds = [(action, n) for action in (*ALL_WRITE, *ONE_WINS, *ALL_ADOPT) for n in range(ROUNDS)]
    try:
        barrier.wait(CEILING_S)
        ledger = Ledger(url).patient(CEILING_S)  # opens it; a busy machine's disk serves some of them late
        answers.put([(action, n, _attempt(ledger, action, who, n, barrier)) for action, n in rounds])
    except Exception as error:
        barrier.abort()
        answers.put(repr(error))


def _rivals(url: str, answers: Any) -> None:
    """Forks the rivals from a process that has no threads and has opened nothing: each would import for a second."""
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(PROCESSES)
    rivals = [context.Process(target=_rival, args=(url, n, barrier, answers)) for n in range(PROCESSES)]
    for rival in rivals:
        rival.start()
    for rival in rivals:
        rival.join()


def _attempt(ledger: Ledger, action: str, who: int, number: int, barrier: Barrier) -> str | None:
    project = f"{action} {number}"
    barrier.wait(CEILING_S)
    try:
        if action == "own request":
            ledger.open_request(f"{project} {who}", A, 1, "nobody is in the way")
        elif action == "same request":
            ledger.open_request(project, A, 1, f"by {who}")
        elif action == "any request":
            ledger.open_request(project, f"{who}" * 40, 1, f"by {who}")
        elif action == "next generation":
            if who == 0:
                ledger.open_request(project, A, 1, "first")
            barrier.wait(CEILING_S)
            ledger.next_generation(ledger.requests(project)[-1], 2, "it died")
        elif action == "claim":
            if who == 0:
                ledger.open_request(project, A, 1, "first")
            barrier.wait(CEILING_S)
            ledger.claim(ledger.requests(project)[-1], f"run-{who}")
        elif action == "close":
            if who == 0:
                ledger.open_request(project, A, 1, "first")
            barrier.wait(CEILING_S)
            return f"{who}" if ledger.close(ledger.requests(project)[-1], "failed", f"by {who}") else None
        elif action == "commit":
            return ledger.commit(
                CiReport(key=f"key-{number}", made_by=made_by(f"revision-{who}"), checks=())
            ).made_by.revision
        elif action == "pin":
            return ledger.pin("run", project, f"revision-{who}")
        elif action == "rollout":
            state = begin("new", "old", RolloutPolicy())
            if who == 0:
                ledger.begin_rollout(project, A, state)
            barrier.wait(CEILING_S)
            found = ledger.rollout(project)
            assert found is not None
            barrier.wait(CEILING_S)
            ledger.save_rollout(found[0], found[1], state.model_copy(update={"requests": who}))
    except Conflict:
        return None
    return str(who)


@dataclass
class Race:
    """The results of all rivals without a `Conflict`, for each action and round, and the resulting ledger."""

    answers: dict[tuple[str, int], list[str]]
    ledger: Ledger

    def rounds(self, action: str) -> list[list[str]]:
        return [self.answers[action, n] for n in range(ROUNDS)]


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def race(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Race]:
    """Six processes that open a ledger which does not exist yet, and run all actions concurrently."""
    url = request.getfixturevalue("new_ledger_url")(request.param, tmp_path_factory.mktemp("race"))
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_rivals, args=(url, queue))
    process.start()
    answers: dict[tuple[str, int], list[str]] = {}
    for _ in range(PROCESSES):
        found = queue.get(timeout=CEILING_S)
        assert not isinstance(found, str), found
        for action, number, answer in found:
            answers.setdefault((action, number), []).extend([answer] if answer is not None else [])
    process.join()
    ledger = Ledger(url)
    yield Race(answers, ledger)
    ledger.engine.dispose()


@pytest.mark.parametrize("action", ONE_WINS)
def test_exactly_one_of_many_concurrent_requests_is_opened(race: Race, action: str) -> None:
    assert [len(winners) for winners in race.rounds(action)] == [1] * ROUNDS
    for number in range(ROUNDS):
        requests = race.ledger.requests(f"{action} {number}")
        assert sum(r.active for r in requests) == (0 if action in ("close", "rollout") else 1)
        assert len(requests) == {"next generation": 2, "rollout": 0}.get(action, 1)


@pytest.mark.parametrize("action", ALL_ADOPT)
def test_the_first_of_many_concurrent_commits_wins_and_the_others_adopt_it(race: Race, action: str) -> None:
    """Otherwise two steps of one run could use two revisions, and deploy a mixture of both."""
    for answers in race.rounds(action):
        assert len(answers) == PROCESSES and len(set(answers)) == 1


def test_the_chain_of_events_is_complete_after_concurrent_writes(race: Race) -> None:
    """Two events with the same predecessor would permanently look like an altered chain."""
    assert [len(rivals) for rivals in race.rounds("own request")] == [PROCESSES] * ROUNDS
    assert race.ledger.verify_audit() >= PROCESSES * ROUNDS
