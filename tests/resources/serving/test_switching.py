"""Traffic moves between releases behind one address, by weight, and no user notices.

If a deployment broke answers in progress, or the address changed with the release, every rollout would be an incident.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from llmops_assets.config.serving import ServingSettings
from llmops_assets.domain.records import Release
from resources.serving.client import Answer, ask, ask_many
from resources.serving.interface import RELEASE_HEADER, ServingError
from resources.serving.local.serving import LocalServing
from tests.support.ports import free_port
from tests.support.waiting import CEILING_S

MakeRelease = Callable[[str], Release]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, processes: Callable[[Path], list[psutil.Process]]) -> Iterator[Path]:
    """One home for all tests of this file: what a test leaves running, the next one switches."""
    folder = tmp_path_factory.mktemp("switching") / "home"
    yield folder
    LocalServing(folder, ServingSettings()).down()
    assert not processes(folder)


@pytest.fixture(scope="module")
def serving(home: Path) -> LocalServing:
    return LocalServing(home, ServingSettings(port=free_port()), start_timeout_s=CEILING_S)


@pytest.fixture
def two(serving: LocalServing, model_file: Path, release: MakeRelease) -> tuple[str, str]:
    """Two releases, deployed if they are not yet; the first has all the traffic."""
    for name in ("first", "second"):
        serving.deploy("demo", "production", release(name), model_file)
    first, second = release("first").digest, release("second").digest
    serving.route("demo", "production", {first: 1.0})
    return first, second


def test_the_address_stays_while_the_release_behind_it_changes(serving: LocalServing, two: tuple[str, str]) -> None:
    first, second = two
    url = serving.base_url("demo", "production")
    assert ask(url, "demo", "Hello", max_tokens=4).release == first
    serving.route("demo", "production", {second: 1.0})
    answer = ask(url, "demo", "Hello", max_tokens=4, stream=False)
    assert (answer.ok, answer.release) == (True, second)
    assert serving.base_url("demo", "production") == url
    assert [(e.release, e.status) for e in serving.endpoints("demo")] == [(second, "serving"), (first, "candidate")]
    assert {e.base_url for e in serving.endpoints()} == {url}
    models = httpx.get(f"{url}/models", trust_env=False).json()
    assert [model["id"] for model in models["data"]] == ["demo"], "clients name the model by its project"


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_traffic_is_shared_by_weight(serving: LocalServing, two: tuple[str, str], share: float) -> None:
    first, second = two
    serving.route("demo", "production", {first: 1 - share, second: share})
    assert serving.weights("demo", "production") == {first: 1 - share, second: share}
    asked = 800
    with httpx.Client(trust_env=False) as client:
        url = f"{serving.base_url('demo', 'production')}/models"
        seen = Counter(client.get(url).headers[RELEASE_HEADER] for _ in range(asked))
    assert seen[first] + seen[second] == asked
    deviation = (asked * share * (1 - share)) ** 0.5
    assert abs(seen[second] - asked * share) < 4.5 * deviation, "one run in 150,000 fails by chance"


def test_a_new_weight_holds_for_the_very_next_request(serving: LocalServing, two: tuple[str, str]) -> None:
    """`route` must not return while the gateway still uses the old routes: the next measurement would be wrong."""
    url = f"{serving.base_url('demo', 'production')}/models"
    with httpx.Client(trust_env=False) as client:
        for target in two * 15:
            serving.route("demo", "production", {target: 1.0})
            assert client.get(url).headers[RELEASE_HEADER] == target


def test_a_request_that_names_a_release_reaches_it_whatever_the_weights(
    serving: LocalServing, two: tuple[str, str]
) -> None:
    first, second = two
    url = serving.base_url("demo", "production")
    answers = ask_many(url, "demo", ["Hello"] * 12, headers=serving.candidate_headers(second), max_tokens=4)
    assert {a.release for a in answers} == {second}
    assert all(a.ok for a in answers)
    assert serving.traffic("demo", "production", second).requests >= 12
    unknown = ask(url, "demo", "Hello", headers=serving.candidate_headers("0" * 64))
    assert unknown.status == 404, "never answered by another release than the one that was asked"
    assert first not in unknown.error and second not in unknown.error, "digests are for those who know them"


def test_no_stream_breaks_while_releases_are_switched_and_retired(
    serving: LocalServing, two: tuple[str, str], model_file: Path, release: MakeRelease
) -> None:
    url, over, answers = serving.base_url("demo", "production"), threading.Event(), list[Answer]()

    def user() -> None:
        while not over.is_set():
            answers.append(ask(url, "demo", "Tell me something long", max_tokens=96))

    users = [threading.Thread(target=user) for _ in range(6)]
    for thread in users:
        thread.start()
    first, second = two
    try:
        while len(answers) < 100:
            for weights in ({first: 0.9, second: 0.1}, {first: 0.5, second: 0.5}, {second: 1.0}):
                serving.route("demo", "production", weights)
                time.sleep(0.1)
            serving.retire("demo", "production", first, drain_s=CEILING_S)
            assert serving.deployed("demo", "production") == (second,)
            serving.deploy("demo", "production", release("first"), model_file)
            serving.route("demo", "production", {first: 1.0})
            serving.retire("demo", "production", second, drain_s=CEILING_S)
            serving.deploy("demo", "production", release("second"), model_file)
    finally:
        over.set()
        for thread in users:
            thread.join()
    assert [a for a in answers if not a.ok] == []
    assert {a.release for a in answers} == {first, second}


def test_a_retiring_release_finishes_its_answers_first(serving: LocalServing, two: tuple[str, str]) -> None:
    first, second = two
    url, headers = serving.base_url("demo", "production"), serving.candidate_headers(second)
    answers: list[Answer] = []
    request = threading.Thread(target=lambda: answers.extend(ask_many(url, "demo", ["Hello"] * 4, headers=headers)))
    request.start()
    while not serving.traffic("demo", "production", second).active:
        assert request.is_alive()
    serving.retire("demo", "production", second, drain_s=CEILING_S)
    request.join()
    assert [a.broken for a in answers] == [False] * 4
    assert serving.deployed("demo", "production") == (first,)
    assert ask(url, "demo", "Hello", headers=headers).status == 404
    serving.retire("demo", "production", second, drain_s=CEILING_S)


def test_a_release_with_traffic_is_not_retired(serving: LocalServing, two: tuple[str, str]) -> None:
    with pytest.raises(ServingError, match="route it to another release first"):
        serving.retire("demo", "production", two[0], drain_s=0)
    assert ask(serving.base_url("demo", "production"), "demo", "Hello", max_tokens=4).ok


def test_traffic_goes_only_to_what_is_deployed_and_in_shares_that_sum_to_one(
    serving: LocalServing, two: tuple[str, str]
) -> None:
    first, second = two
    for weights, complaint in (
        ({"0" * 64: 1.0}, "deploy it first"),
        ({first: 0.5}, "sum to 1"),
        ({first: 1.5, second: -0.5}, "sum to 1"),
    ):
        with pytest.raises(ServingError, match=complaint):
            serving.route("demo", "production", weights)
    assert serving.weights("demo", "production") == {first: 1.0}


def test_a_request_that_nobody_serves_gets_the_reason(serving: LocalServing, two: tuple[str, str]) -> None:
    base = serving.base_url("demo", "production")
    with httpx.Client(trust_env=False) as client:
        for path in ("elsewhere/v1/models", "demo/production/health", "demo/production/v1/../../../health", ""):
            lost = client.get(base.replace("demo/production/v1", path))
            assert lost.status_code == 404, path
            assert "/demo/production/v1/" in lost.json()["error"]["message"], "names what there is"
        serving.route("demo", "production", {})
        waiting = client.get(f"{base}/models")
    assert waiting.status_code == 503
    assert "no release yet" in waiting.json()["error"]["message"]
