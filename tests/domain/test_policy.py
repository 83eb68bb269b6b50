"""What a commit loosens compared with the champion's policy, and the floor that no commit can lower."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmops_assets.config.project import ProjectConfig
from llmops_assets.domain.policy import Policy, loosened, newest_policy
from llmops_assets.domain.policy_floor import PolicyFloor, below_floor, floor_in_words, with_floor
from tests.support.projects import merge

EVE, BOB = "eve@example.com", "bob@example.com"
BASE: dict[str, Any] = {
    "name": "zoo", "model": {"base": {"path": "models/base"}},
    "data": {"train": "data/train.jsonl", "test": "data/test.jsonl"},
    "evaluation": {"metrics": ["perplexity", "rougeL"], "max_new_tokens": 32},
    "gates": [
        {"metric": "perplexity", "at_most": 30}, {"metric": "rougeL", "at_least": 0.2},
        {"metric": "perplexity", "no_worse_than": "champion", "margin": "10%"},
        {"metric": "perplexity", "of": "served", "no_worse_than": "unquantized", "margin": "2%"},
    ],
    "deployment": {
        "approval": {"approvers": [EVE], "expires_after": "2d"},
        "review": {"approvers": [EVE, BOB], "count": 2, "expires_after": "2d"},
        "rollout": {
            "steps": [{"weight": "10%", "hold": "60s"}, {"weight": "50%", "hold": "60s"}],
            "analysis": [{"metric": "error_rate", "at_most": "1%"}, {"metric": "p95_latency", "at_most": "5s"}],
            "min_samples": 50,
        },
    },
    "ci": {
        "ignore": ["docs/**", "*.md", "!docs/api.md"], "tests": "required",
        "commands": [{"name": "bandit", "run": ["python", "-m", "bandit"]}],
        "licences": {"allow": ["MIT"]},
    },
}  # fmt: skip
SMOKE = ({"name": "answers", "input": "cat"}, {"name": "polite", "input": "dog", "expect": {"contains": "please"}})


def policy(
    change: dict[str, Any] | None = None, rows: str = "dvc:1", smoke: tuple[dict[str, Any], ...] = SMOKE, **more: Any
) -> Policy:
    config = ProjectConfig.model_validate(merge(BASE, change or {}))
    evaluation = {"metrics": list(config.evaluation.names), "max_new_tokens": config.evaluation.max_new_tokens, **more}
    return config.policy(rows, evaluation, smoke)


def gates(*changed: tuple[int, dict[str, Any] | None]) -> dict[str, Any]:
    """The gates with some replaced, or removed by None."""
    replaced = dict(changed)
    return {"gates": [found for n, gate in enumerate(BASE["gates"]) if (found := replaced.get(n, gate)) is not None]}


def test_a_bound_that_is_certain_is_not_replaced_by_two_gates_with_half_of_it_each() -> None:
    """One stated the bound, the other the confidence, and nothing was named."""
    sure = {"metric": "rougeL", "at_least": 0.2, "confidence": "95%"}
    before, name = policy({"gates": [sure]}), "confidence lowered: rougeL of checkpoint at least 0.2"
    halves = [{"metric": "rougeL", "at_least": 0.2}, {**sure, "at_least": 0.0}]
    assert loosened(before, policy({"gates": halves})) == (f"{name} (0.95 → the value is judged)",)
    less = [{**sure, "confidence": "80%"}, {**sure, "at_least": 0.0, "confidence": "99%"}]
    assert loosened(before, policy({"gates": less})) == (f"{name} (0.95 → 0.8)",)
    assert loosened(before, policy({"gates": [{**sure, "at_least": 0.3, "confidence": "99%"}]})) == ()


def rollout(**change: Any) -> dict[str, Any]:
    return {"deployment": {"rollout": change}}


def approval(**change: Any) -> dict[str, Any]:
    return {"deployment": {"approval": change}}


def review(**change: Any) -> dict[str, Any]:
    return {"deployment": {"review": change}}


LOOSER: list[tuple[dict[str, Any], str]] = [
    (gates((0, None)), "gate removed: perplexity of checkpoint at most 30"),
    (gates((0, {"metric": "perplexity", "at_most": 40})), "gate weakened: perplexity of checkpoint at most 30 → 40"),
    (gates((1, {"metric": "rougeL", "at_least": 0.1})), "gate weakened: rougeL of checkpoint at least 0.2 → 0.1"),
    (gates((1, {"metric": "rougeL", "of": "served", "at_least": 0.2})), "gate removed: rougeL of checkpoint"),
    (gates((2, None)), "gate removed: perplexity of checkpoint no worse than champion"),
    (gates((2, {"metric": "perplexity", "no_worse_than": "champion", "margin": "50%"})), "margin 10% → 50%"),
    (
        gates((2, {"metric": "perplexity", "no_worse_than": "champion", "margin": "10%", "confidence": "80%"})),
        "confidence lowered: perplexity of checkpoint no worse than champion (0.95 → 0.8)",
    ),
    # Two gates, of which one is as strict and the other as certain: neither asks for what the one had asked.
    ({"gates": [*BASE["gates"][:2], {**BASE["gates"][2], "confidence": "80%"}, {**BASE["gates"][2], "margin": "900%"},
                BASE["gates"][3]]},
     "confidence lowered: perplexity of checkpoint no worse than champion (0.95 → 0.8)"),
    (gates((2, {"metric": "perplexity", "no_worse_than": "champion", "margin": 5.0})), "margin 10% → 5"),
    (gates((3, {"metric": "perplexity", "of": "served", "at_most": 9e9})), "no worse than unquantized"),
    ({"gates": []}, "gate removed: rougeL of checkpoint at least 0.2"),
    ({"evaluation": {"metrics": ["perplexity", "bleu"]}, **gates((1, None))}, "metric removed: rougeL"),
    ({"evaluation": {"max_new_tokens": 2}}, "evaluation.max_new_tokens 32 → 2"),
    (approval(required=False), "approval dropped"),
    (approval(approvers=[EVE, BOB]), f"approvers widened: {BOB} added"),
    (approval(approvers=[BOB]), f"approvers widened: {BOB} added"),
    (approval(approvers=None, required=True), f"approvers widened: {EVE} → anyone except the authors"),
    (approval(expires_after="30d"), "approvals expire later: 2 d → 30 d"),
    (review(required=False), "review dropped: no person has to accept the evaluation report"),
    (review(approvers=[EVE, BOB, "carl"]), "reviewers widened: carl added"),
    (review(approvers=None, required=True), f"reviewers widened: {EVE}, {BOB} → anyone except the authors"),
    (review(count=1), "fewer reviews: 2 → 1"),
    (review(expires_after="30d"), "reviews expire later: 2 d → 30 d"),
    (rollout(analysis=[{"metric": "error_rate", "at_most": "1%"}]), "analysis removed: p95_latency at most 5"),
    (rollout(analysis=[{"metric": "error_rate", "at_most": "9%"}, {"metric": "p95_latency", "at_most": "5s"}]),
     "analysis loosened: error_rate at most 0.01 → 0.09"),
    (rollout(analysis=[{"metric": "error_rate", "no_worse_than": "champion", "margin": "1%"},
                       {"metric": "p95_latency", "at_most": "5s"}]), "analysis removed: error_rate at most 0.01"),
    (rollout(confidence="80%"), "rollout: confidence 0.95 → 0.8"),
    (rollout(min_samples=5), "min_samples 50 → 5"),
    (rollout(strategy="all_at_once"), "strategy canary → all_at_once"),
    (rollout(steps=[{"weight": "10%", "hold": "1s"}, {"weight": "50%", "hold": "1s"}]),
     "held at up to 10% for less time, 60 s → 1 s"),
    (rollout(steps=[{"weight": "100%", "hold": "200s"}]), "held at up to 10% for less time, 60 s → 0 s"),
    (rollout(steps=[]), "the largest increase of traffic is 50% → 100%"),
    # Two that had the same first step and held as long in all as before, and were not named:
    (rollout(steps=[{"weight": "10%", "hold": "120s"}]), "the largest increase of traffic is 50% → 90%"),
    (rollout(steps=[{"weight": "10%", "hold": "0s"}, {"weight": "50%", "hold": "120s"}]),
     "held at up to 10% for less time, 60 s → 0 s"),
    ({"ci": {"tests": False}}, "ci.tests switched off"),
    ({"ci": {"tests": True}}, "ci.tests no longer required"),
    ({"ci": {"ruff": False}}, "ci.ruff switched off"),
    ({"ci": {"secrets": False}}, "ci.secrets switched off"),
    ({"ci": {"types": False}}, "ci.types switched off"),
    ({"ci": {"licences": None}}, "ci.licences removed"),
    ({"ci": {"licences": {"allow": ["MIT", "GPL-3.0-only"]}}}, "ci.licences.allow widened: GPL-3.0-only added"),
    ({"ci": {"licences": {"packages": {"a": "MIT"}}}}, "ci.licences.packages changed"),
    ({"ci": {"commands": []}}, "ci.commands: bandit removed"),
    ({"ci": {"commands": [{"name": "bandit", "run": ["true"]}]}}, "ci.commands: bandit changed"),
    ({"ci": {"ignore": ["docs/**", "*.md", "!docs/api.md", "tests/**"]}}, "ci.ignore widened: tests/** added"),
    ({"ci": {"ignore": ["docs/**", "*.md"]}}, "ci.ignore widened: !docs/api.md removed"),
    ({"ci": {"ignore": ["!docs/api.md", "docs/**", "*.md"]}}, "the order of its patterns changed"),
]  # fmt: skip
TIGHTER: list[dict[str, Any]] = [
    {},
    gates((0, {"metric": "perplexity", "at_most": 20})),
    gates((0, {"metric": "perplexity", "at_most": 30, "no_worse_than": "champion", "margin": "5%"}), (2, None)),
    gates((2, {"metric": "perplexity", "no_worse_than": "champion"})),
    {"gates": [*BASE["gates"], {"metric": "rougeL", "of": "served", "at_least": 0.1}]},
    {"evaluation": {"metrics": ["perplexity", "rougeL", "bleu"]}},
    approval(expires_after="1h"),
    review(expires_after="1h"),
    review(approvers=[EVE, BOB], count=2),
    rollout(min_samples=100),
    rollout(analysis=[*BASE["deployment"]["rollout"]["analysis"], {"metric": "cut_rate", "at_most": "1%"}]),
    rollout(steps=[{"weight": "5%", "hold": "60s"}, {"weight": "50%", "hold": "90s"}]),
    {"ci": {"ignore": ["docs/**", "!docs/api.md"]}},
    {"ci": {"ignore": ["docs/**", "*.md", "!docs/api.md", "!docs/more.md"]}},
    {"training": {"learning_rate": 0.5}},
]


@pytest.mark.parametrize(("change", "text"), LOOSER, ids=[text for _, text in LOOSER])
def test_whatever_asks_for_less_than_before_is_named(change: dict[str, Any], text: str) -> None:
    """A commit could drop its own approval and gates, and nothing said so."""
    said = loosened(policy(), policy(change))
    assert any(text in one for one in said), said


@pytest.mark.parametrize("change", TIGHTER)
def test_what_asks_for_as_much_or_more_is_no_loosening(change: dict[str, Any]) -> None:
    assert loosened(policy(), policy(change)) == ()


def test_other_test_rows_metric_code_and_smoke_tests_are_named() -> None:
    assert loosened(policy(), policy(rows="dvc:2")) == ("test rows changed",)
    own = [{"name": "own", "function": "m.py:f", "code": "1"}]
    assert loosened(policy(metrics=own), policy(metrics=[{**own[0], "code": "2"}])) == ("metric changed: own",)
    assert loosened(policy(), policy(smoke=SMOKE[:1])) == ("smoke test removed: polite",)
    weaker = (SMOKE[0], {"name": "polite", "input": "dog"})
    assert loosened(policy(), policy(smoke=weaker)) == ("smoke test changed: polite",)
    assert loosened(policy(), policy(smoke=(*SMOKE, {"name": "third", "input": "owl"}))) == ()
    assert loosened(policy(), policy(max_rows=3)) == ("evaluation.max_rows default → 3",)


def test_everything_that_was_dropped_at_once_is_named_at_once() -> None:
    bare = {"gates": [], "deployment": None, "ci": {"tests": False, "ruff": False}}
    said = loosened(policy(), policy(bare, smoke=()))
    assert len(said) >= 11 and len(set(said)) == len(said)


@given(st.sampled_from([change for change, _ in LOOSER]), st.sampled_from(TIGHTER))
def test_a_floor_that_holds_what_a_commit_drops_leaves_nothing_loosened(
    looser: dict[str, Any], tighter: dict[str, Any]
) -> None:
    """For gates, approval and analysis: what the floor does not cover, such as steps and smoke tests, stays named."""
    floor = PolicyFloor.model_validate(
        {
            "gates": BASE["gates"],
            "approval": {"approvers": [EVE], "expires_after": "2d"},
            "review": {"approvers": [EVE, BOB], "count": 2, "expires_after": "2d"},
            "analysis": BASE["deployment"]["rollout"]["analysis"],
            "min_samples": 50,
        }
    )
    before, after = with_floor(policy(tighter), floor), with_floor(policy(looser), floor)
    kinds = ("gate removed", "gate weakened", "margin", "approv", "review", "fewer", "analysis", "rollout: min_samples")
    assert [text for text in loosened(policy(), after) if text.startswith(kinds)] == []
    assert with_floor(after, floor) == after, "applied twice it changes nothing"
    assert before.approval.needed and after.approval.approvers == (EVE,)


def test_a_floor_applies_where_llmops_yaml_is_silent() -> None:
    floor = PolicyFloor.model_validate(
        {"gates": [{"metric": "rougeL", "at_least": 0.3}], "approval": {"required": True}}
    )
    silent = policy({"gates": None, "deployment": None})
    found = with_floor(silent, floor)
    assert found.approval.needed and [str(g) for g in found.gates] == ["rougeL of checkpoint: at least 0.3"]
    assert below_floor(silent, floor) == ()
    assert floor_in_words(floor) == ("gate rougeL of checkpoint: at least 0.3", "approval by a person")
    two = PolicyFloor.model_validate({"review": {"count": 2}})
    assert with_floor(silent, two).review.needed and with_floor(silent, two).review.count == 2
    assert below_floor(silent, two) == () and floor_in_words(two) == ("review by 2",)


@pytest.mark.parametrize(
    ("floor", "change", "text"),
    [
        ({"approval": {"required": True}}, approval(approvers=None, required=False), "required is false"),
        ({"approval": {"approvers": [EVE]}}, approval(approvers=[EVE, BOB]), f"{BOB} may not approve; allowed: {EVE}"),
        ({"approval": {"expires_after": "1d"}}, approval(expires_after="3d"), "is 3 d; at most 1 d applies"),
        (
            {"gates": [{"metric": "perplexity", "at_most": 20}]},
            {},
            "weakened: perplexity of checkpoint at most 20 → 30",
        ),
        ({"gates": [{"metric": "bleu", "at_least": 1}]}, {}, "needs the metric bleu; add it to evaluation.metrics"),
        ({"analysis": [{"metric": "p95_latency", "at_most": "1s"}]}, {}, "p95_latency at most 1 → 5"),
        ({"min_samples": 80}, {}, "min_samples is 50; at least 80 applies"),
        (
            {"licences": {"allow": ["MIT"]}},
            {"ci": {"licences": {"allow": ["mit", "GPL-3.0-only"]}}},
            "ci.licences.allow: GPL-3.0-only may not be used; allowed: MIT",
        ),
        (
            {"review": {"required": True}},
            review(approvers=None, count=None, required=False),
            "review.required is false",
        ),
        ({"review": {"approvers": [EVE]}}, review(count=1), f"review.approvers: {BOB} may not review; allowed: {EVE}"),
        ({"review": {"count": 2}}, review(count=1), "deployment.review.count is 1; at least 2 applies"),
        ({"review": {"count": 3}}, review(count=None), "review.approvers names 2, but 3 people must review; name more"),
        ({"review": {"expires_after": "1d"}}, review(), "deployment.review.expires_after is 2 d; at most 1 d applies"),
    ],
)
def test_what_llmops_yaml_sets_below_the_floor_is_named_and_the_floor_applies(
    floor: dict[str, Any], change: dict[str, Any], text: str
) -> None:
    least = PolicyFloor.model_validate(floor)
    said = below_floor(policy(change), least)
    assert len(said) == 1 and text in said[0], said
    assert with_floor(policy(change), least) != policy(change)


def test_approvers_outside_the_floor_do_not_count_and_the_floors_own_stand_in() -> None:
    floor = PolicyFloor.model_validate({"approval": {"approvers": [EVE, "carl@example.com"]}})
    assert with_floor(policy(approval(approvers=["Eve <EVE@example.com>", BOB])), floor).approval.approvers == (
        "Eve <EVE@example.com>",
    )
    assert with_floor(policy(approval(approvers=[BOB])), floor).approval.approvers == (EVE, "carl@example.com")


def test_fewer_allowed_reviewers_than_the_floor_needs_stand_in_for_none() -> None:
    floor = PolicyFloor.model_validate({"review": {"approvers": [EVE, "carl@example.com"], "count": 2}})
    found = with_floor(policy(), floor).review
    assert found.approvers == (EVE, "carl@example.com") and found.count == 2
    with pytest.raises(ValueError, match="is 2, but approvers names 1; lower it, or name more"):
        PolicyFloor.model_validate({"review": {"approvers": [EVE], "count": 2}})


def test_a_rollback_does_not_bring_an_older_policy_back_into_force() -> None:
    """After a rollback to a release from before approvals, the next commit could have dropped them unnoticed."""
    assert newest_policy([]) is None
    assert newest_policy([("a", "r1")]) == "r1"
    assert newest_policy([("a", "r1"), ("b", "r2"), ("a", "r1")]) == "r2"
    assert newest_policy([("a", "r1"), ("b", "r2"), ("a", "r3")]) == "r3", "a revert is a new revision"
