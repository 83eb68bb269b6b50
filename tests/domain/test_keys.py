"""Keys identify equal work: one that changes needlessly trains again, one that fails to change reuses stale results."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmops_assets.domain.chain import CHAIN, HEAVY, STAGES, WORK, downstream_of
from llmops_assets.domain.keys import digest, stage_key
from llmops_assets.domain.records import Release, named_outputs
from tests.support.records import VALUES, Memory, changed

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
mappings = st.dictionaries(st.text(max_size=4), json_values, max_size=4)


def reversed_order(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: reversed_order(v) for k, v in reversed(value.items())}
    return [reversed_order(v) for v in value] if isinstance(value, list) else value


@given(mappings)
def test_the_order_in_which_a_person_writes_keys_is_not_part_of_a_key(values: dict[str, Any]) -> None:
    assert digest(values) == digest(reversed_order(values))


@given(mappings, mappings)
def test_different_values_have_different_keys(one: dict[str, Any], other: dict[str, Any]) -> None:
    def key(values: dict[str, Any]) -> str:
        return stage_key("train", 1, values, {})

    assert (key(one) == key(other)) == (repr(reversed_order(_sorted(one))) == repr(reversed_order(_sorted(other))))


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _sorted(value[k]) for k in sorted(value)}
    return [_sorted(v) for v in value] if isinstance(value, list) else value


def test_a_key_covers_stage_version_values_records_and_salt() -> None:
    keys = {
        stage_key("train", 1, {"a": 1}, {"data": "x"}),
        stage_key("evaluate", 1, {"a": 1}, {"data": "x"}),
        stage_key("train", 2, {"a": 1}, {"data": "x"}),
        stage_key("train", 1, {"a": 2}, {"data": "x"}),
        stage_key("train", 1, {"a": 1}, {"data": "y"}),
        stage_key("train", 1, {"a": 1}, {"other": "x"}),
        stage_key("train", 1, {"a": 1}, {"data": "x"}, salt="again"),
        stage_key("train", 1, {"a": 1, "data": "x"}, {}),
    }
    assert len(keys) == 8


def test_an_unset_salt_is_no_salt() -> None:
    assert stage_key("train", 1, {}, {}, None) == stage_key("train", 1, {}, {}, "") == stage_key("train", 1, {}, {})


def test_a_key_stays_the_same_from_release_to_release_of_this_code() -> None:
    """A frozen value: if it changes, every project trains again after the upgrade."""
    key = stage_key("train", 1, {"rate": 0.0002, "name": "ü"}, {"dataset_version.train": "abc"})
    assert key == "8e4d0497e429782a2fde6824990a0883ffc07764b21e8cc163872fc16334af29"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_value_that_is_not_json_has_no_digest(value: float) -> None:
    with pytest.raises(ValueError):
        digest({"rate": value})


def test_a_value_left_out_gives_the_key_of_before_it_existed() -> None:
    """A new field in the schema must not cause recomputation in projects that do not use it."""
    stage = STAGES["evaluation_report"]
    outputs = {"fine_tuned_checkpoint": "c", "dataset_version.test": "t"}
    assert stage.key(VALUES, outputs) == stage.key({**VALUES, "added.later": 1}, outputs)


@pytest.mark.parametrize("stage", WORK, ids=lambda s: s.name)
def test_each_value_and_record_that_a_stage_reads_is_in_its_key_and_no_other(stage: Any) -> None:
    outputs = Memory().deliver(VALUES).outputs
    key = stage.key(VALUES, outputs)
    for name in VALUES:
        other = stage.key(changed(VALUES, **{name: "something else"}), outputs)
        assert (other != key) == (name in stage.values), name
    for name in outputs:
        other = stage.key(VALUES, {**outputs, name: "something else"})
        assert (other != key) == (name in stage.records), name


def test_a_stage_has_no_key_before_what_it_reads_exists() -> None:
    with pytest.raises(KeyError):
        STAGES["evaluation_report"].key(VALUES, {"fine_tuned_checkpoint": "c"})


# -- the chain ------------------------------------------------------------------------------------------------------


def test_stages_stand_on_earlier_stages_only() -> None:
    seen: set[str] = set()
    for stage in CHAIN:
        assert set(stage.upstream) <= seen, stage.name
        seen.add(stage.name)
    assert len(seen) == len(CHAIN)


def test_every_record_that_a_stage_reads_is_an_output_that_an_earlier_stage_has() -> None:
    """A misspelt name would leave the stage in "decide later" permanently."""
    records = Memory().deliver(VALUES).records
    outputs = {name for record in records.values() for name in named_outputs(record)}
    assert {r for stage in CHAIN for r in stage.records} <= outputs


def test_every_value_that_a_stage_reads_is_one_that_a_revision_has() -> None:
    assert {v for stage in CHAIN for v in stage.values} <= set(VALUES)


def test_no_work_stands_on_an_event() -> None:
    """Work is found by key; an event's key contains its run, so it never matches again."""
    events = {s.name for s in CHAIN if s.kind == "event"}
    assert not [s.name for s in WORK if events & set(s.upstream)]
    assert {s.name for s in WORK} >= HEAVY


def test_every_stage_says_what_it_does() -> None:
    assert not [s.name for s in CHAIN if len(s.does) < 20]


def test_downstream_is_the_stage_itself_and_all_that_stands_on_it_in_order() -> None:
    assert downstream_of("quantized_artifact") == (
        "quantized_artifact", "served_evaluation_report", "staging_endpoint", "smoke_test_report", "release_approval",
        "production_endpoint", "endpoint_health",
    )  # fmt: skip
    assert downstream_of("endpoint_health") == ("endpoint_health",)
    assert downstream_of("ci_report") == tuple(s.name for s in CHAIN if s.name != "dataset_version")


# -- releases -------------------------------------------------------------------------------------------------------


def test_a_release_is_known_by_what_it_serves_not_by_where_it_lies() -> None:
    fields: dict[str, Any] = {
        "project": "zoo", "artifact_digest": "a", "file": "m.gguf", "chat_template": "t", "engine": "llama.cpp",
    }  # fmt: skip
    here = Release(**fields, artifact_uri="/here", serving={"parallel": 4})
    assert here.digest == Release(**fields, artifact_uri="s3://there", serving={"parallel": 4}).digest
    others = [{"chat_template": "u"}, {"artifact_digest": "b"}, {"engine": "vllm"}, {"project": "farm"}]
    digests = {Release(**{**fields, **o}, artifact_uri="/here", serving={"parallel": 4}).digest for o in others}
    digests.add(Release(**fields, artifact_uri="/here", serving={"parallel": 8}).digest)
    assert len(digests | {here.digest}) == 6


def test_a_release_of_a_version_without_sampling_keeps_the_digest_under_which_it_was_approved_and_served() -> None:
    """With another digest, a rollback to it would start a second engine and record a release that nobody approved."""
    body = {
        "project": "zoo", "artifact_digest": "a", "file": "m.gguf", "chat_template": "t", "engine": "llama.cpp",
        "serving": {"parallel": 4},
    }  # fmt: skip
    old = Release.model_validate_json(json.dumps({**body, "artifact_uri": "/here"}))
    assert old.digest == digest(body)
    greedy = old.model_copy(update={"sampling": {"temperature": 0.0}})
    assert len({old.digest, greedy.digest, greedy.model_copy(update={"sampling": {"temperature": 0.8}}).digest}) == 3
