"""What a commit's stages took, and what that costs at the configured prices. Pure."""

from collections.abc import Iterable, Mapping

from llmops_assets.domain.chain import WORK
from llmops_assets.domain.records import Record
from llmops_assets.domain.review import Cost, StageCost


def cost_of(records: Iterable[Record], revision: str, prices: Mapping[str, float], currency: str) -> Cost:
    """The cost of a revision's stages so far.

    Args:
        records: those that the revision uses. One that another commit made cost this one nothing.
        prices: hardware class → price of one hour.
        currency: of the prices, as text.
    """
    order = [stage.name for stage in WORK]
    mine = sorted((r for r in records if r.stage in order), key=lambda r: order.index(r.stage))
    stages = tuple(_stage(record, record.made_by.revision != revision, prices) for record in mine)
    computed = [s for s in stages if not s.reused]
    unpriced = sorted({s.hardware or "unknown hardware" for s in computed if s.cost is None})
    note = ""
    if not prices:
        note = "no price configured (compute.price_per_hour in the settings)"
    elif unpriced:
        note = f"no price configured for {', '.join(unpriced)} (compute.price_per_hour in the settings)"
    return Cost(
        stages=stages,
        seconds=sum(s.seconds for s in computed),
        reused_seconds=sum(s.seconds for s in stages if s.reused),
        cost=None if note else sum(s.cost or 0.0 for s in computed),
        currency=currency if prices else "",
        note=note,
    )


def _stage(record: Record, reused: bool, prices: Mapping[str, float]) -> StageCost:
    made = record.made_by
    price = prices.get(made.hardware)
    return StageCost(
        stage=record.stage,
        seconds=made.seconds,
        reused=reused,
        hardware=made.hardware,
        cost=None if reused or price is None else price * made.seconds / 3600,
    )
