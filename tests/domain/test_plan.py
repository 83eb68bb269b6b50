"""The plan for a change: one that runs too much wastes GPU hours, one that reuses too much ships a stale model."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmops_assets.domain.chain import CHAIN, STAGES, WORK, downstream_of
from llmops_assets.domain.config_diff import changes, describe, flatten
from llmops_assets.domain.plan import Plan, prompt_retrains
from llmops_assets.domain.records import Checkpoint
from llmops_assets.domain.verdict import Verdict
from tests.support.records import VALUES, Memory, changed

EVENTS = {s.name for s in CHAIN if s.kind == "event"}
NEW_TRAIN = {**VALUES["data"], "train": {"path": "train.jsonl", "version": "dvc:a2"}}
NEW_TEST = {**VALUES["data"], "test": {"path": "test.jsonl", "version": "dvc:b2"}}


def runs(plan: Plan) -> set[str]:
    return {s.stage for s in plan.stages if s.action == "run"}


def later(plan: Plan) -> set[str]:
    return {s.stage for s in plan.stages if s.action == "decide_later"}


def after_serving(change: dict[str, Any]) -> tuple[Plan, Memory]:
    """The plan of a changed revision of a project whose first revision is in production."""
    memory = Memory()
    serving = memory.release(VALUES)
    return memory.plan(changed(VALUES, **change), VALUES, serving), memory


def test_a_first_run_begins_with_code_and_data_and_decides_the_rest_later() -> None:
    plan = Memory().plan(VALUES)
    assert runs(plan) == {"ci_report", "container_image", "dataset_version"}
    assert later(plan) == {s.name for s in CHAIN} - {"ci_report", "container_image", "dataset_version"}
    assert plan["ci_report"].reasons == ("first run of this project",)
    assert plan["fine_tuned_checkpoint"].reasons == ("depends on the result of dataset_version",)
    assert plan.to_materialize == tuple(s.name for s in CHAIN)


@pytest.mark.parametrize(
    ("change", "running", "deciding"),
    [
        pytest.param({}, set(), set(), id="docs: nothing"),
        pytest.param({"policy": {"rollout": {"min_samples": 50}}}, set(), set(), id="rollout policy: nothing"),
        pytest.param({"gates": [{"metric": "perplexity", "at_most": 1.0}]}, set(), set(), id="gate: no computing"),
        pytest.param({"tree": {"digest": "tree-2"}}, {"ci_report"}, set(), id="lint fix: ci_report only"),
        pytest.param(
            {"prompt": "Say: {{ input }}"},
            {"evaluation_report", "served_evaluation_report"} | EVENTS,
            set(),
            id="serving prompt: evaluation and release, no training, no quantization",
        ),
        pytest.param({"data": NEW_TEST}, {"dataset_version"}, None, id="test rows: the dataset first"),
        pytest.param({"data": NEW_TRAIN}, {"dataset_version"}, None, id="train rows: the dataset first"),
        pytest.param(
            {"training": {"learning_rate": 0.0004, "lora": {"r": 16}}},
            {"fine_tuned_checkpoint"},
            {"evaluation_report", "registered_model", "quantized_artifact", "served_evaluation_report"} | EVENTS,
            id="learning rate: trains, and all below follows",
        ),
        pytest.param(
            {"quantization": {"scheme": "f16"}},
            {"quantized_artifact"},
            {"served_evaluation_report"} | EVENTS,
            id="scheme: quantizes again, no training",
        ),
        pytest.param(
            {"engine": {"engine": "llama.cpp", "serving": {"parallel": 2}}},
            {"served_evaluation_report"} | EVENTS,
            set(),
            id="serving: a release like any other",
        ),
        pytest.param({"evaluation": {"metrics": ["bleu"]}}, {"evaluation_report", "served_evaluation_report"}, set(),
                     id="metrics: measured again, deploys nothing"),
    ],
)  # fmt: skip
def test_a_change_runs_what_reads_it_and_nothing_else(
    change: dict[str, Any], running: set[str], deciding: set[str] | None
) -> None:
    plan, _ = after_serving(change)
    assert runs(plan) == running
    assert later(plan) == (
        set(downstream_of("dataset_version")) - {"dataset_version"} if deciding is None else deciding
    )


def test_new_test_rows_evaluate_again_but_never_train() -> None:
    plan, memory = after_serving({"data": NEW_TEST})
    head = changed(VALUES, data=NEW_TEST)
    memory.deliver(head, only=("dataset_version",))
    plan = memory.plan(head, VALUES, memory.release(VALUES))
    assert runs(plan) == {"evaluation_report", "served_evaluation_report"}
    assert plan["evaluation_report"].reasons == ("dataset_version.test changed",)
    assert not later(plan)


def test_new_train_rows_train_and_all_below_follows() -> None:
    plan, memory = after_serving({"data": NEW_TRAIN})
    head = changed(VALUES, data=NEW_TRAIN)
    memory.deliver(head, only=("dataset_version",))
    plan = memory.plan(head, VALUES, memory.release(VALUES))
    assert runs(plan) == {"fine_tuned_checkpoint"}
    assert plan["fine_tuned_checkpoint"].reasons == (
        "dataset_version.train changed",
        "dataset_version.validation changed",
    )
    assert later(plan) == set(downstream_of("fine_tuned_checkpoint")) - {"fine_tuned_checkpoint"}


def test_a_gate_asks_for_a_new_verdict_on_the_old_measurements() -> None:
    plan, _ = after_serving({"gates": [{"metric": "perplexity", "at_most": 1.0}]})
    assert plan.to_materialize == ("evaluation_report", "served_evaluation_report")
    assert {plan[s].action for s in plan.to_materialize} == {"reuse"}
    assert "gates changed" in plan["evaluation_report"].reasons[-1]


def test_a_reverted_commit_finds_everything_again_and_only_moves_traffic() -> None:
    memory = Memory()
    old = memory.release(VALUES)
    new = changed(VALUES, training={"learning_rate": 0.1}, prompt="Other: {{ input }}")
    memory.deliver(new, "r2")
    plan = memory.plan(VALUES, new, memory.release(new))
    assert runs(plan) == EVENTS
    assert all(plan[s.name].action == "reuse" for s in WORK)
    assert f"release {old[:12]}" in plan["production_endpoint"].reasons[0]


def test_data_that_differs_in_its_file_but_not_in_its_rows_stops_at_the_dataset() -> None:
    """Equal outputs stop the recomputation: a reformatted file is no reason to train."""
    memory = Memory()
    serving = memory.release(VALUES)
    head = changed(VALUES, data={**NEW_TRAIN, "note": "reformatted"})
    key = memory.plan(head)["dataset_version"].key
    old = memory.deliver(VALUES).records["dataset_version"]
    assert key is not None and key != old.key
    memory.records[key] = old.model_copy(update={"key": key})
    plan = memory.plan(head, VALUES, serving)
    assert plan.nothing_to_do


def test_a_checkpoint_that_came_out_equal_is_not_quantized_again() -> None:
    memory = Memory()
    old = memory.deliver(VALUES).records["fine_tuned_checkpoint"]
    assert isinstance(old, Checkpoint)
    head = changed(VALUES, training={"learning_rate": 0.3})
    key = memory.plan(head)["fine_tuned_checkpoint"].key
    assert key is not None
    memory.records[key] = old.model_copy(update={"key": key})
    assert memory.plan(head, VALUES, memory.release(VALUES)).nothing_to_do


def test_reasons_name_the_key_and_its_old_and_new_value() -> None:
    plan, _ = after_serving({"training": {"learning_rate": 0.0004, "lora": {"r": 8}}})
    assert plan["fine_tuned_checkpoint"].reasons == ("training.learning_rate 0.0002 → 0.0004, training.lora.r 16 → 8",)


def test_a_reused_stage_says_whose_work_it_is() -> None:
    memory = Memory()
    memory.deliver(VALUES, "abcdef0123456789")
    assert memory.plan(VALUES)["quantized_artifact"].reasons[0].startswith("made by abcdef012345;")


def test_a_rebuild_runs_its_stage_says_why_and_is_then_reused_itself() -> None:
    memory = Memory()
    serving = memory.release(VALUES)
    key = memory.deliver(VALUES).keys["fine_tuned_checkpoint"]
    memory.salts[key] = "the GPU was faulty"
    plan = memory.plan(VALUES, VALUES, serving)
    assert runs(plan) == {"fine_tuned_checkpoint"}
    assert plan["fine_tuned_checkpoint"].reasons == ("rebuild requested: the GPU was faulty",)
    memory.deliver(VALUES, "r2")
    again = memory.plan(VALUES, VALUES, serving)
    assert all(again[s.name].action == "reuse" for s in WORK)
    assert runs(again) == EVENTS, "other weights are another release"


def failing(*stages: str) -> Callable[[str], Verdict]:
    """Judges these stages' records as failed and all others as passed."""
    return lambda name: Verdict(
        subject=name, report="r", champion=None, failures=(f"{name} is bad",) if name in stages else ()
    )


@pytest.mark.parametrize("failed", ["ci_report", "dataset_version", "registered_model"])
def test_a_failed_stage_that_is_reused_refuses_the_release_of_every_later_change(failed: str) -> None:
    """Rows that leaked were rejected with the first push, and the next new prompt released them."""
    memory = Memory()
    serving = memory.release(VALUES)
    head = changed(VALUES, prompt="Say: {{ input }}")
    plan = memory.plan(head, VALUES, serving, judge=failing(failed))
    assert plan["staging_endpoint"].action == "refuse"
    assert plan["staging_endpoint"].reasons == (f"{failed}: {failed} is bad",)
    assert {plan[s].action for s in EVENTS} == {"refuse"}, "whatever follows does not act either"
    assert plan["smoke_test_report"].reasons == ("staging_endpoint refuses",)
    assert set(plan.to_materialize) == {"evaluation_report", "served_evaluation_report"} | EVENTS, "it judges again"


def test_a_stage_that_has_not_run_is_not_judged_in_advance() -> None:
    memory = Memory()
    memory.deliver(VALUES)
    plan = memory.plan(changed(VALUES, tree={"digest": "t2"}, prompt="x {{ input }}"), judge=failing("ci_report"))
    assert plan["ci_report"].action == plan["staging_endpoint"].action == "run"


def test_a_gate_that_refuses_shows_in_the_plan_and_all_below_depends_on_it() -> None:
    """The plan of a rejected commit said "run" for the stage that would refuse again."""
    memory = Memory()
    memory.deliver(VALUES, only=("ci_report", "dataset_version", "fine_tuned_checkpoint", "evaluation_report"))
    plan = memory.plan(VALUES, judge=failing("evaluation_report"))
    assert plan["registered_model"].reasons == ("evaluation_report: evaluation_report is bad",)
    below = set(downstream_of("registered_model"))
    assert {s.stage for s in plan.stages if s.action == "refuse"} == below
    assert plan["quantized_artifact"].reasons == ("registered_model refuses",)


def test_what_production_serves_already_is_not_refused() -> None:
    memory = Memory()
    plan = memory.plan(VALUES, VALUES, memory.release(VALUES), judge=failing("ci_report", "dataset_version"))
    assert plan.nothing_to_do


def test_a_report_that_must_be_compared_with_a_new_champion_is_selected_again() -> None:
    """The champion's report on these rows is made where the report is; a reused one was not selected."""
    memory = Memory()
    memory.release(VALUES)
    plan = memory.plan(VALUES, VALUES, "another", lacks_comparison=lambda stage: stage == "evaluation_report")
    assert plan["evaluation_report"].judge_again and "evaluation_report" in plan.to_materialize
    assert "the champion is measured on the same rows first" in plan["evaluation_report"].reasons
    assert plan["staging_endpoint"].action == "run"
    alike = memory.plan(VALUES, VALUES, memory.release(VALUES), lacks_comparison=lambda stage: True)
    assert alike.nothing_to_do, "nothing is released, so nothing is compared"


def test_a_revision_outside_the_watched_branch_is_evaluated_and_not_deployed() -> None:
    plan = Memory().plan(VALUES, elsewhere="it is not in the watched branch")
    assert set(plan.to_materialize) == {s.name for s in WORK}
    assert plan.evaluates_only == "it is not in the watched branch"
    assert Memory().plan(VALUES).evaluates_only is None


def test_a_prompt_that_is_also_the_training_prompt_retrains_and_the_plan_says_how_to_avoid_it() -> None:
    memory = Memory()
    shared = changed(VALUES, training__prompt="Ask: {{ input }}", training__prompt__own=False)
    memory.deliver(shared)
    head = changed(shared, training__prompt="Say: {{ input }}", prompt="Say: {{ input }}")
    assert "set training.prompt" in (prompt_retrains(head, memory.plan(head, shared)) or "")
    own = changed(VALUES, training__prompt="Other: {{ input }}")
    memory.deliver(VALUES)
    assert prompt_retrains(own, memory.plan(own, VALUES)) is None


# -- properties -----------------------------------------------------------------------------------------------------

some_values = st.fixed_dictionaries(
    {},
    optional={
        "tree": st.sampled_from([{"digest": "1"}, {"digest": "2"}]),
        "data": st.sampled_from([VALUES["data"], NEW_TRAIN, NEW_TEST]),
        "training": st.sampled_from([{}, {"epochs": 2.0}]),
        "prompt": st.sampled_from(["A {{ input }}", "B {{ input }}"]),
        "evaluation": st.sampled_from([{"metrics": ["bleu"]}, {"metrics": ["perplexity"], "max_rows": 2}]),
        "quantization": st.sampled_from([{}, {"scheme": "f16"}]),
        "gates": st.sampled_from([[], [{"metric": "perplexity", "at_most": 2.0}]]),
    },
)
known_stages = st.sets(st.sampled_from([s.name for s in WORK])).map(tuple)


@given(some_values, some_values, known_stages)
def test_a_stage_is_decided_later_exactly_when_something_it_reads_is_not_known_yet(
    before: dict[str, Any], after: dict[str, Any], only: tuple[str, ...]
) -> None:
    memory = Memory()
    memory.deliver(changed(VALUES, **before))
    head = changed(VALUES, **after)
    resolved = memory.deliver(head, "r2", only=only)
    plan = memory.plan(head, changed(VALUES, **before))
    for stage in WORK:
        unknown = any(r not in resolved.outputs for r in stage.records)
        assert (plan[stage.name].action == "decide_later") == unknown
        assert (plan[stage.name].action == "reuse") == (stage.name in resolved.records)
        assert (plan[stage.name].key is None) == unknown
    assert all((plan[e].action == "decide_later") == ("quantized_artifact" not in resolved.records) for e in EVENTS)
    assert all(s.reasons and all(s.reasons) for s in plan.stages), "every stage says why"


@given(some_values, some_values)
def test_once_delivered_there_is_no_work_left_to_plan(before: dict[str, Any], after: dict[str, Any]) -> None:
    memory = Memory()
    base, head = changed(VALUES, **before), changed(VALUES, **after)
    memory.deliver(base)
    memory.deliver(head, "r2")
    plan = memory.plan(head, base, memory.release(head))
    assert runs(plan) == later(plan) == set()


@given(some_values, st.sampled_from(sorted(STAGES)))
def test_a_value_that_no_stage_reads_changes_no_key(values: dict[str, Any], name: str) -> None:
    memory = Memory()
    head = changed(VALUES, **values)
    memory.deliver(head)
    keys = {s.stage: s.key for s in memory.plan(head).stages}
    assert {s.stage: s.key for s in memory.plan({**head, f"unrelated.{name}": 1}).stages} == keys


# -- messages -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        ({"rate": 0.1}, {"rate": 0.2}, "t.rate 0.1 → 0.2"),
        ({}, {"scheme": "f16"}, "t.scheme set to f16"),
        ({"scheme": "f16"}, {}, "t.scheme f16 → default"),
        ({"serving": {}}, {"serving": {"parallel": 4}}, "t.serving.parallel set to 4"),
        ({"a": True}, {"a": False}, "t.a True → False"),
        ("one\ntwo", "one\nthree", "t changed"),
        (None, {"a": 1}, "t.a changed"),
        ({"x": 1}, None, "t.x 1 → default"),
        ([{"metric": "a"}], [], "t changed"),
        ({}, {"nested": {}}, "t changed"),
    ],
)
def test_a_change_is_described(before: Any, after: Any, text: str) -> None:
    """A key added to an empty mapping was once reported as "t removed, t.scheme set to f16"."""
    assert describe("t", before, after) == text


@given(
    st.dictionaries(st.text(max_size=3), st.integers() | st.dictionaries(st.text(max_size=3), st.text()), max_size=3)
)
def test_equal_values_are_no_change_and_flat_names_are_unique(value: dict[str, Any]) -> None:
    assert changes({"training": value}, {"training": dict(value)}) == ()
    assert not any(isinstance(v, dict) for v in flatten(value).values())


def test_changes_come_in_the_order_of_the_chain() -> None:
    found = changes(VALUES, changed(VALUES, prompt="x", tree={}, policy={}, data={}))
    assert [c.value for c in found] == ["tree", "data", "prompt", "policy"]


def test_a_held_release_is_not_deployed_by_a_plan_and_the_reason_stands_there() -> None:
    """Otherwise a lint fix on top of a bad release would deploy it again after its rollback."""
    memory = Memory()
    release = memory.release(VALUES)
    plan = memory.plan(changed(VALUES, tree={"digest": "tree-2"}), VALUES, "another", {release: "it is held by ada"})
    assert plan.to_materialize == ("ci_report",)
    assert all(plan[s].reasons == ("production stays unchanged: it is held by ada",) for s in EVENTS)
    assert runs(memory.plan(VALUES, VALUES, "another", {"yet another": "it is held"})) == EVENTS


# -- reviews --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "asks"),
    [
        ({"prompt": "Say: {{ input }}"}, True),
        ({"engine": {"engine": "llama.cpp", "serving": {"parallel": 2}}}, True),
        ({"evaluation": {"metrics": ["bleu"]}}, False),
        ({"tree": {"digest": "tree-2"}}, False),
        ({"policy": {"review": {"required": True}}}, False),
    ],
)
def test_an_existing_registration_waits_for_a_review_only_if_something_depends_on_it(
    change: dict[str, Any], asks: bool
) -> None:
    """If it waits, the run skips all that follows: also the served evaluation, whose own inputs exist already."""
    memory = Memory()
    serving = memory.release(VALUES)
    plan = memory.plan(changed(VALUES, **change), VALUES, serving, review=lambda known: f"waits, known {known}")
    selected = {"registered_model", "quantized_artifact"} & set(plan.to_materialize)
    assert selected == ({"registered_model", "quantized_artifact"} if asks else set())
    assert plan["registered_model"].action == "reuse"
    told = [r for r in plan["registered_model"].reasons if r.startswith("waits")]
    assert told == ([f"waits, known {plan['evaluation_report'].action == 'reuse'}"] if asks else [])


def test_a_review_that_led_to_the_registration_selects_nothing() -> None:
    memory = Memory()
    serving = memory.release(VALUES)
    plan = memory.plan(changed(VALUES, prompt="Say: {{ input }}"), VALUES, serving, review=lambda known: None)
    assert "registered_model" not in plan.to_materialize


@pytest.mark.parametrize(
    ("change", "asks"),
    [
        ({"prompt": "Say: {{ input }}"}, True),
        ({"engine": {"engine": "llama.cpp", "serving": {"parallel": 2}}}, True),
        ({"evaluation": {"metrics": ["bleu"]}}, False),
    ],
)
def test_outside_of_the_watched_branch_an_evaluation_as_served_waits_for_the_review_too(
    change: dict[str, Any], asks: bool
) -> None:
    """No endpoint is planned there, so nothing asked for the review of a checkpoint that was registered already."""
    memory = Memory()
    serving = memory.release(VALUES)
    plan = memory.plan(
        changed(VALUES, **change), VALUES, serving, elsewhere="not on main", review=lambda known: "it waits"
    )
    assert plan["served_evaluation_report"].action == "run" and plan["registered_model"].action == "reuse"
    selected = {"registered_model", "quantized_artifact"} & set(plan.to_materialize)
    assert selected == ({"registered_model", "quantized_artifact"} if asks else set())
