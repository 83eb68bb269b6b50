"""A canary is judged on what users get: the real gateway between users and two engines, one of which fails them.

All probes succeed in each of these rollouts, so that a rollout which judges only them promotes every release.
"""

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from llmops_assets.config.serving import ServingSettings
from llmops_assets.delivery.rollout import Rollout
from llmops_assets.domain.records import Release
from llmops_assets.domain.rollout import Analysis, RolloutPolicy, RolloutState, RolloutStep, begin
from resources.ledger import Ledger
from resources.serving.local.serving import LocalServing
from tests.support.ports import free_port
from tests.support.waiting import CEILING_S

ENGINE = Path(__file__).parents[1] / "support" / "unreliable_engine.py"
POLICY = RolloutPolicy(
    steps=(RolloutStep(weight=0.5, hold=4.0),),  # long enough for a busy machine to see some dozens of users
    analysis=(
        Analysis(metric="error_rate", at_most=0.05),
        Analysis(metric="empty_rate", at_most=0.05),
        Analysis(metric="p95_latency", at_most=1.0),
    ),
    decide_within=60.0,
)


def release(manner: str) -> Release:
    return Release(
        project="zoo", artifact_digest=manner, artifact_uri="", file="m", chat_template=manner, engine="llama.cpp"
    )


class Users:
    """Ask production all the time, inside the block."""

    def __init__(self, url: str, number: int = 6) -> None:
        self._url, self._over = url, threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(number)]
        self.statuses: list[int] = []

    def _run(self) -> None:
        body = {"model": "zoo", "messages": [{"role": "user", "content": "I am a user"}]}
        with httpx.Client(trust_env=False, timeout=CEILING_S) as client:
            while not self._over.wait(0.03):
                try:
                    self.statuses.append(client.post(f"{self._url}/chat/completions", json=body).status_code)
                except httpx.HTTPError:
                    self.statuses.append(0)

    def __enter__(self) -> "Users":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()


class Production:
    def __init__(self, home: Path) -> None:
        engine = (sys.executable, str(ENGINE))
        self.serving = LocalServing(home, ServingSettings(port=free_port()), CEILING_S, engine)
        self.ledger = Ledger(f"sqlite:///{home.parent / 'ledger.sqlite'}")
        self.weights = home.parent / "m"
        self.weights.touch()
        self._deploy(release("champion"))
        self.champion = release("champion").digest
        self.serving.route("zoo", "production", {self.champion: 1.0})
        self.url = self.serving.base_url("zoo", "production")

    def _deploy(self, wanted: Release) -> None:
        self.serving.deploy("zoo", "production", wanted, self.weights)

    def roll_out(self, manner: str) -> RolloutState:
        candidate = release(manner)
        rollout = Rollout(
            project="zoo",
            revision="a" * 40,
            release=candidate,
            policy=POLICY,
            ledger=self.ledger,
            serving=self.serving,
            drain=0.0,
            deploy=lambda: self._deploy(candidate),
            inputs=lambda: ["a probe"],
            answer_tokens=8,
            say=lambda text: None,
            request=self.ledger.active_request("zoo") or self.ledger.open_request("zoo", "a" * 40, 1, "because"),
        )
        return rollout.run(begin(candidate.digest, self.champion, POLICY))


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Production]:
    home = tmp_path_factory.mktemp("canary") / "home"
    made = Production(home)
    yield made
    made.serving.down(forget=True)


@pytest.mark.parametrize(
    ("manner", "reason"),
    [
        ("errors", "error_rate"),
        ("breaks", "error_rate"),
        ("slow", "p95_latency"),
        ("refuses", "were refused with a status of 400 to 499"),
    ],
)
def test_a_release_that_treats_each_tenth_user_badly_is_returned(
    production: Production, manner: str, reason: str
) -> None:
    """It was promoted: what the gateway counts of users' requests was never judged."""
    with Users(production.url):
        state = production.roll_out(manner)
    assert state.status == "returned", state.reasons
    (said,) = state.reasons
    assert said.startswith("at 50%") and reason in said and "users" in said
    assert production.serving.weights("zoo", "production") == {production.champion: 1.0}
    assert production.serving.deployed("zoo", "production") == (production.champion,)


def test_a_good_release_is_promoted_on_its_users_evidence(production: Production) -> None:
    with Users(production.url) as users:
        state = production.roll_out("good")
    assert state.status == "promoted", state.reasons
    counted = next(r for r in state.reasons if "error_rate" in r)
    assert "users 0 of" in counted and "probes 0 of" in counted
    assert set(users.statuses) == {200}
    assert state.requests >= 59
