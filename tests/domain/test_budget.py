"""Budgets: kept by the upper end of an estimate, exceeded by what is unknown, and only by a person's decision."""

import pytest
from pydantic import ValidationError

from llmops_assets.domain.approval import Author, Rules, Waiting
from llmops_assets.domain.budget import (
    Budget,
    BudgetAsk,
    BudgetDecision,
    MaxCost,
    Spent,
    WithinBudget,
    evaluate_budget,
    loosened_budget,
    month_start,
    over_limits,
    stricter_budget,
)

ADA, EVE = "ada@example.com", "eve@example.com"
AUTHORS = [Author(name="Ada", email=ADA)]
DAY = 86400.0


def budget(**limits: float) -> Budget:
    return Budget(max_cost=MaxCost(**limits))


def over(of: Budget, cost: float | None, spent: Spent = Spent()) -> dict[str, str]:
    return {o.limit: o.text for o in over_limits(of, cost, "no history", spent, "USD")}


def decision(choice: str = "approved", by: str = EVE, at: float = 0.0, **ask: object) -> BudgetDecision:
    given = {"project": "zoo", "revision": "r1", "over": ("run",), "cost": 10.0, **ask}
    return BudgetDecision.model_validate({"ask": given, "choice": choice, "by": by, "reason": "worth it", "at": at})


def evaluated(*decisions: BudgetDecision, now: float = DAY, **ask: object) -> WithinBudget | Waiting:
    asked = BudgetAsk.model_validate({"project": "zoo", "revision": "r1", "over": ("run",), "cost": 10.0, **ask})
    return evaluate_budget(asked, decisions, Rules(key="budget"), AUTHORS, now)


def test_each_limit_counts_what_it_is_about() -> None:
    every = budget(run=5, month=100, project=1000)
    assert over(every, 4, Spent(month=90, project=900)) == {}
    assert set(over(every, 6, Spent(month=90, project=900))) == {"run"}
    assert set(over(every, 4, Spent(month=97, project=900))) == {"month"}
    assert over(every, 4, Spent(month=97, project=999))["project"] == (
        "budget.max_cost.project is 1000 USD; 999 USD were spent, and this run may cost up to 4 USD"
    )


def test_exactly_the_limit_is_within_it_and_a_limit_of_zero_allows_nothing_that_costs() -> None:
    assert over(budget(run=5), 5) == {} and set(over(budget(run=0), 0.01)) == {"run"}


def test_an_unknown_cost_is_over_every_limit_and_says_why() -> None:
    found = over(budget(run=5, month=100), None)
    assert set(found) == {"run", "month"} and all("not known: no history" in text for text in found.values())
    assert "h200 worked for it" in over(budget(month=100), 1, Spent(month_unpriced=("h200",)))["month"]


def test_what_computes_nothing_is_never_held_up_even_if_the_month_is_spent() -> None:
    assert over(budget(run=0, month=1, project=1), 0, Spent(month=50, project=50)) == {}


def test_a_person_may_exceed_it_for_one_commit_up_to_the_cost_that_was_asked() -> None:
    given = decision()
    assert isinstance(evaluated(given), WithinBudget)
    assert isinstance(evaluated(given, cost=4.0), WithinBudget), "part of it was computed since"
    for change, said in (
        ({"cost": 12.0}, "the cost was 10, and may be 12 now"),
        ({"cost": None}, "the cost was 10, and is not known now"),
        ({"over": ("run", "month")}, "max_cost.month is exceeded now too"),
        ({"revision": "r2"}, "for another commit"),
    ):
        found = evaluated(given, **change)
        assert isinstance(found, Waiting) and said in found.reasons[0]
    assert isinstance(evaluated(decision(cost=None), cost=99.0), WithinBudget), "an unknown cost was approved"


def test_an_author_an_expired_and_a_revoked_decision_do_not_count() -> None:
    for decisions, said in (
        ([decision(by=ADA)], "is an author of this change"),
        ([decision(at=-8 * DAY)], "it expired"),
        ([decision(), decision("rejected")], "rejected by eve@example.com: worth it"),
    ):
        found = evaluated(*decisions)
        assert isinstance(found, Waiting) and said in found.reasons[0]


def test_the_stricter_of_two_budgets_applies_and_looser_ones_are_named() -> None:
    least = Budget(max_cost=MaxCost(run=5, month=100), approvers=(EVE,))
    both = stricter_budget(Budget(max_cost=MaxCost(run=9, project=50), approvers=(ADA, EVE)), least)
    assert both.limits == {"run": 5, "month": 100, "project": 50} and both.approvers == (EVE,)
    assert loosened_budget(least, Budget(max_cost=MaxCost(run=9))) == (
        "budget raised: max_cost.run 5 → 9",
        "budget removed: max_cost.month 100",
        "approvers of the budget widened: anyone except the authors",
    )
    assert loosened_budget(budget(run=5), budget(run=4, month=1)) == () == loosened_budget(Budget(), budget(run=4))


@pytest.mark.parametrize("wrong", [{"run": -1}, {"run": float("inf")}, {"week": 3}, {"run": "much"}])
def test_a_limit_is_a_number_that_is_not_negative(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        MaxCost.model_validate(wrong)


def test_a_month_begins_on_its_first_day_in_utc() -> None:
    assert month_start(1_772_323_200.0) == 1_772_323_200.0, "2026-03-01T00:00:00Z"
    assert month_start(1_772_323_199.0) == 1_769_904_000.0, "2026-02-28T23:59:59Z belongs to February"
