"""Many deliveries lead to few looks, a slow project delays no other, and a commit that waits is looked at again."""

import threading
from collections.abc import Callable

from resources.webhooks.wakes import Looked, Wakes
from tests.support.waiting import wait_for

DONE = Looked("started")
LATER = Looked("waits", waits=True)


class Looks:
    """Counts the looks at each project, and answers as it is told."""

    def __init__(self, answer: Callable[[str, int], Looked] = lambda project, number: DONE):
        self.seen: list[str] = []
        self._answer = answer

    def __call__(self, project: str) -> Looked:
        self.seen.append(project)
        return self._answer(project, self.seen.count(project))


def test_a_flood_of_deliveries_during_a_look_leads_to_one_more() -> None:
    looking, go_on = threading.Event(), threading.Event()

    def answer(project: str, number: int) -> Looked:
        looking.set()
        assert go_on.wait(60)
        return DONE

    looks = Looks(answer)
    wakes = Wakes(looks, poll_s=3600, spacing_s=0)
    wakes.wake(["zoo"])
    assert looking.wait(60)
    for _ in range(1000):
        wakes.wake(["zoo"])
    go_on.set()
    wait_for("the look at what arrived meanwhile", lambda: len(looks.seen) == 2)
    wakes.wake(["other"])
    wait_for("another project", lambda: "other" in looks.seen)
    assert looks.seen.count("zoo") == 2


def test_a_project_whose_remote_hangs_delays_no_other() -> None:
    for_ever = threading.Event()
    looks = Looks(lambda project, number: DONE if project != "slow" else (for_ever.wait(600), DONE)[1])
    wakes = Wakes(looks, poll_s=3600)
    wakes.wake(["slow", "one", "two"])
    wait_for("the others", lambda: {"one", "two"} <= set(looks.seen))
    for_ever.set()


def test_a_commit_that_waits_is_looked_at_until_it_does_not() -> None:
    looks = Looks(lambda project, number: LATER if number < 4 else DONE)
    wakes = Wakes(looks, poll_s=3600, spacing_s=0, first_again_s=0.01)
    wakes.wake(["zoo"])
    wait_for("the fourth look", lambda: len(looks.seen) == 4)
    wakes.wake(["other"])
    wait_for("another project", lambda: "other" in looks.seen)
    assert looks.seen.count("zoo") == 4


def test_where_the_poll_comes_sooner_it_is_left_to_the_poll() -> None:
    looks = Looks(lambda project, number: LATER)
    wakes = Wakes(looks, poll_s=0.001, spacing_s=0, first_again_s=0.01)
    wakes.wake(["zoo"])
    wait_for("the look", lambda: looks.seen == ["zoo"])
    wakes.wake(["zoo"])
    wait_for("the second delivery's look", lambda: looks.seen == ["zoo", "zoo"])


def test_a_fault_of_dagster_is_tried_again() -> None:
    def answer(project: str, number: int) -> Looked:
        if number == 1:
            raise ConnectionError("the code server is away")
        return DONE

    looks = Looks(answer)
    Wakes(looks, poll_s=3600, spacing_s=0, first_again_s=0.01).wake(["zoo"])
    wait_for("the second look", lambda: len(looks.seen) == 2)
