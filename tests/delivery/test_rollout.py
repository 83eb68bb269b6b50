"""A rollout whose run was ended gives its traffic back: nobody watches what has half of it by then."""

from pathlib import Path
from typing import Any

import pytest

from llmops_assets.delivery.rollout import abandon
from llmops_assets.domain.rollout import RolloutPolicy, begin
from resources.ledger import Ledger


class MemoryServing:
    """Which release has an engine and how much traffic, and nothing else of the interface."""

    def __init__(self, *deployed: str, weights: dict[str, float]):
        self.engines, self.shares = list(deployed), weights

    def deployed(self, project: str, environment: str) -> tuple[str, ...]:
        return tuple(self.engines)

    def route(self, project: str, environment: str, weights: dict[str, float]) -> None:
        assert set(weights) <= set(self.engines)
        self.shares = weights

    def retire(self, project: str, environment: str, release: str, drain_s: float) -> None:
        assert not self.shares.get(release), "it has traffic"
        self.engines.remove(release)


def given_back(ledger: Ledger, serving: MemoryServing) -> str | None:
    found: Any = serving
    return abandon(ledger, found, "zoo", "cancelled by a person", 0.0)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")


def test_the_champion_has_all_traffic_again_and_the_candidate_no_engine(ledger: Ledger) -> None:
    ledger.begin_rollout("zoo", "a" * 40, begin("new", "old", RolloutPolicy()))
    serving = MemoryServing("old", "new", weights={"old": 0.9, "new": 0.1})
    assert given_back(ledger, serving) == "new"
    assert (serving.shares, serving.engines) == ({"old": 1.0}, ["old"])
    found = ledger.rollout("zoo")
    assert found is not None and (found[3].status, found[3].reasons) == ("returned", ("cancelled by a person",))
    assert given_back(ledger, serving) is None, "once is enough"


def test_a_first_release_that_was_cut_off_leaves_nothing(ledger: Ledger) -> None:
    ledger.begin_rollout("zoo", "a" * 40, begin("new", None, RolloutPolicy()))
    serving = MemoryServing("new", weights={})
    assert given_back(ledger, serving) == "new"
    assert (serving.shares, serving.engines) == ({}, [])


def test_a_rollout_that_came_to_its_end_is_left_alone(ledger: Ledger) -> None:
    state = begin("new", "old", RolloutPolicy())
    identity, version = ledger.begin_rollout("zoo", "a" * 40, state)
    ledger.save_rollout(identity, version, state.model_copy(update={"status": "promoted"}))
    serving = MemoryServing("new", weights={"new": 1.0})
    assert given_back(ledger, serving) is None and serving.shares == {"new": 1.0}
