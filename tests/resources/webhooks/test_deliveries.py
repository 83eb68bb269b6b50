"""A delivery is accepted once, by whichever process, until it is too old to be remembered."""

import threading
from pathlib import Path

from resources.webhooks.deliveries import KEPT_S, Deliveries


def test_a_delivery_is_new_once_also_for_another_process(tmp_path: Path) -> None:
    assert Deliveries(tmp_path / "d.sqlite").add("github", ("id:1", "body:a"))
    again = Deliveries(tmp_path / "d.sqlite")
    assert not again.add("github", ("id:1", "body:b")), "the same id"
    assert not again.add("github", ("id:2", "body:a")), "the same body under another id"
    assert not again.add("github", ("id:3", "body:b")), "a body that was only ever refused"
    assert again.add("gitea", ("id:1", "body:a")), "another server counts by itself"


def test_of_many_at_once_one_is_new(tmp_path: Path) -> None:
    deliveries, found = Deliveries(tmp_path / "d.sqlite"), list[bool]()
    threads = [threading.Thread(target=lambda: found.append(deliveries.add("gitlab", ("id:1",)))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [False] * 15 + [True]


def test_the_memory_is_bounded_in_time_and_number(tmp_path: Path) -> None:
    now = 1_000_000.0
    deliveries = Deliveries(tmp_path / "d.sqlite", clock=lambda: now, most=3)
    assert deliveries.add("github", ("id:1",))
    now += KEPT_S + 1
    assert deliveries.add("github", ("id:1",)), "too long ago"
    for number in range(2, 6):
        now += 1
        assert deliveries.add("github", (f"id:{number}",))
    assert deliveries.add("github", ("id:1",)), "the oldest of too many"
    assert not deliveries.add("github", ("id:5",))
