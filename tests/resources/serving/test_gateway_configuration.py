"""The gateway's configuration is a pure function of the state."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmops_assets.config.serving import ServingSettings
from llmops_assets.programs.runtime.specs import ServeSpec
from resources.serving.local.envoy_config import OWN_TRAFFIC, TOTAL_WEIGHT, Rules, clusters, integer_weights, routes
from resources.serving.local.state import Replica, State


def replica(release: str, port: int, environment: str = "production", draining: bool = False) -> Replica:
    spec = ServeSpec(model="m.gguf", alias="demo", chat_template="", port=port)
    return Replica(project="demo", environment=environment, release=release, spec=spec, draining=draining)


def routes_of(state: State, **settings: Any) -> list[dict[str, Any]]:
    tokens = {name: f"token of {name}" for name in (OWN_TRAFFIC, *(r.release for r in state.replicas))}
    rules = Rules(settings=ServingSettings(**settings), tokens=tokens)
    found: list[dict[str, Any]] = routes(state, rules)["virtual_hosts"][0]["routes"]
    return found


@given(st.lists(st.floats(min_value=0.001, max_value=1), min_size=1, max_size=8))
def test_integer_weights_sum_to_the_total_and_stay_next_to_the_shares(parts: list[float]) -> None:
    shares = {str(n): part / sum(parts) for n, part in enumerate(parts)}
    weights = integer_weights(shares)
    assert sum(weights.values()) == TOTAL_WEIGHT
    assert all(abs(weights[name] - share * TOTAL_WEIGHT) < 1 + 1e-6 for name, share in shares.items())


@pytest.mark.parametrize(("shares", "expected"), [({}, {}), ({"a": 0.9, "b": 0.1}, {"a": 900, "b": 100})])
def test_shares_in_tenths_of_a_percent_are_exact(shares: dict[str, float], expected: dict[str, int]) -> None:
    assert integer_weights(shares) == expected


def test_a_named_release_is_matched_before_the_weights_are_drawn() -> None:
    """The first matching route wins: after the weighted route, a candidate would be reached only by chance."""
    state = State(replicas=(replica("a", 1), replica("b", 2)), weights={"demo/production": {"a": 1.0}})
    found = routes_of(state)
    assert [route["route"].get("cluster") for route in found[:2]] == ["demo/production/a", "demo/production/b"]
    assert found[3]["direct_response"]["status"] == 404, "a release that is not here is never answered by another"
    (share,) = found[4]["route"]["weighted_clusters"]["clusters"]
    assert (share["name"], share["weight"]) == ("demo/production/a", TOTAL_WEIGHT)


def test_a_draining_release_keeps_its_cluster_and_loses_its_routes() -> None:
    """Without the cluster, answers in progress would be cut off."""
    state = State(replicas=(replica("a", 1), replica("b", 2, draining=True)), weights={"demo/production": {"a": 1.0}})
    assert [cluster["name"] for cluster in clusters(state.replicas)] == ["demo/production/a", "demo/production/b"]
    assert "demo/production/b" not in str(routes_of(state))


def test_connections_to_an_engine_are_never_reused_and_answers_end_only_when_nothing_is_said() -> None:
    state = State(replicas=(replica("a", 1),), weights={"demo/production": {"a": 1.0}})
    (cluster,) = clusters(state.replicas)
    options = next(iter(cluster["typed_extension_protocol_options"].values()))
    assert options["common_http_protocol_options"] == {"max_requests_per_connection": 1}
    for route in (route["route"] for route in routes_of(state) if "route" in route):
        assert (route["timeout"], route["idle_timeout"]) == ("0s", "600s")


def test_a_request_is_limited_to_what_fits_the_largest_context_that_may_answer_it() -> None:
    """An engine tokenizes a prompt before it finds that it does not fit; 20 MB took half a minute."""
    small, large = replica("a", 1), replica("b", 2)
    large = large.model_copy(update={"spec": large.spec.model_copy(update={"serving": {"context_length": 8192}})})
    state = State(replicas=(small, large), weights={"demo/production": {"a": 0.5, "b": 0.5}})

    def limits(**settings: Any) -> list[int]:
        parts = [
            next(iter(r["typed_per_filter_config"].values())) for r in routes_of(state, **settings) if "route" in r
        ]
        return [part["buffer"]["max_request_bytes"] for part in parts]

    of_small, of_large = (64 << 10) + 32 * 2048, (64 << 10) + 32 * 8192
    assert limits() == [of_small, of_large, of_large, of_large]
    assert limits(max_body=4096) == [4096] * 4
