"""The provenance of a release: records that match, or an error that names all mismatches."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmops_assets.domain.provenance import Edge, ProvenanceError, check_chain, trace
from llmops_assets.domain.records import (
    AnyRecord,
    QuantizedArtifact,
    Release,
    ReleaseApproval,
    parse_record,
)
from llmops_assets.domain.release import release_of
from tests.support.records import VALUES, Memory, changed, made_by


def delivered() -> tuple[dict[str, AnyRecord], Release]:
    records: dict[str, AnyRecord] = dict(Memory().deliver(VALUES, "made-first").records)
    artifact = records["quantized_artifact"]
    assert isinstance(artifact, QuantizedArtifact)
    release = release_of("zoo", VALUES, artifact)
    records["release_approval"] = approval(release.digest)
    return records, release


def approval(release: str) -> ReleaseApproval:
    return ReleaseApproval(
        key="approval", made_by=made_by(), release=release, decision="approved", by="ada", reason="looks good",
        environment="production", replaces=None, reports=("d",),
    )  # fmt: skip


def test_a_trace_holds_everything_behind_a_release() -> None:
    records, release = delivered()
    edges = {
        s: Edge(project="zoo", revision="asked-now", stage=s, key=r.key, reused=s == "fine_tuned_checkpoint")
        for s, r in records.items()
    }
    found = trace("zoo", "asked-now", VALUES, records, edges, release)
    assert found["project"] == "zoo" and found["commit"] == "asked-now"
    assert found["data"]["versions"] == VALUES["data"]
    assert found["data"]["rows"] == {"train": 9, "validation": 1, "test": 8}
    assert found["prompt"] == VALUES["prompt"]
    assert found["configuration"]["training"] == VALUES["training"]
    checkpoint = found["checkpoint"]
    assert checkpoint["made_by_commit"] == "made-first", "a reused record is never the work of another commit"
    assert checkpoint["reused"] and not found["data"]["reused"]
    assert checkpoint["digest"] == records["fine_tuned_checkpoint"].outputs[""]
    assert found["evaluation"]["metrics"] == {"perplexity": 10.0}
    assert found["registered_model"]["uri"] == "models:/zoo/1"
    assert found["quantized_artifact"]["scheme"] == "q8_0"
    assert found["release"] == release.digest
    assert found["approval"] == {"decision": "approved", "by": "ada", "reason": "looks good", "replaces": None}


def test_a_missing_part_is_none_and_never_guessed() -> None:
    found = trace("zoo", "r", VALUES, {}, {}, None)
    parts = ("data", "checkpoint", "evaluation", "registered_model", "quantized_artifact", "release", "approval")
    assert [found[p] for p in parts] == [None] * len(parts)
    assert found["commit"] == "r" and found["prompt"] == VALUES["prompt"]


def test_an_approval_of_another_release_is_not_this_ones() -> None:
    """A rebuild makes another release of the same commit: an approval of the first does not apply to it."""
    records, release = delivered()
    records["release_approval"] = approval("0" * 64)
    assert trace("zoo", "r", VALUES, records, {}, release)["approval"] is None


def test_records_that_were_not_made_from_each_other_are_refused_with_all_mismatches() -> None:
    records, release = delivered()
    other = Memory().deliver(changed(VALUES, training={"epochs": 3.0})).records
    mixed = records | {"fine_tuned_checkpoint": other["fine_tuned_checkpoint"]}
    with pytest.raises(ProvenanceError) as error:
        trace("zoo", "r", VALUES, mixed, {}, release)
    text = str(error.value)
    for stage in ("evaluation_report", "registered_model", "quantized_artifact"):
        assert f"{stage} was made from fine_tuned_checkpoint" in text
    assert text.endswith("Remedy: `llmops run` this revision again")


@given(st.sets(st.sampled_from(sorted(Memory().deliver(VALUES).records))))
def test_records_of_one_delivery_belong_together_however_many_are_at_hand(stages: set[str]) -> None:
    records = Memory().deliver(VALUES).records
    check_chain({s: records[s] for s in stages})


@pytest.mark.parametrize("record", delivered()[0].values(), ids=lambda r: r.stage)
def test_a_record_survives_its_json(record: Any) -> None:
    assert parse_record(record.model_dump_json()) == record


def test_a_record_with_an_unknown_field_is_refused() -> None:
    """Another version of the code wrote it: the field's meaning is unknown to this one."""
    record = delivered()[0]["quantized_artifact"].model_dump(mode="json") | {"from_the_future": 1}
    with pytest.raises(ValueError, match="from_the_future"):
        parse_record(json.dumps(record))
