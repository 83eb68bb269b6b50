"""The demo's seven acts: what each pushes, and the expected outcome. Pure except for the pushes."""

from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import ConfigDict

from llmops_assets.domain.chain import CHAIN, WORK
from llmops_assets.domain.keys import short
from llmops_assets.domain.models import Frozen
from llmops_assets.domain.review import Review
from llmops_assets.domain.verdict import Verdict

PROMPT_ACT = 3
REVERT_SHARE = 0.5
"""Of the first act: a revert takes 33 to 98 s, for its canary, and the whole chain four to five times as long."""
WATCHED_S = 12.0  # two sensor ticks: a retry would have started by then


class Act(Frozen):
    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    number: int
    title: str
    push: Callable[[Sequence[Any]], str]
    """(results of the earlier acts) → the pushed revision."""
    check: Callable[[Any, Sequence[Any]], tuple[str, ...]]
    """(this act's result, results of the earlier acts) → problems."""
    watched_s: float = 0.0
    """Seconds after the act's end during which nothing more may happen."""


class Ran(Frozen):
    """An act's result."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    act: Act
    revision: str
    seconds: float
    status: str
    why: str
    stages: tuple[str, ...]
    reused: tuple[str, ...]
    release: str | None
    before: dict[str, float]
    after: dict[str, float]
    tick: str = ""
    verdicts: tuple[Verdict, ...] = ()
    """The verdicts that failed."""
    review: Review | None = None
    """Of its evaluation report, as the page of the verdict shows it."""
    runs: int = 0
    asked: int = 0
    """Requests that users sent to production during the act."""
    unanswered: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def _all(*found: str | None) -> tuple[str, ...]:
    return tuple(f for f in found if f)


def _released(r: Ran) -> str | None:
    return None if r.status == "released" else f"expected released, got {r.status}: {r.why}"


def _computed(r: Ran, *names: str) -> str | None:
    missing = [n for n in names if n not in r.stages]
    return f"not computed: {', '.join(missing)}" if missing else None


def _not_computed(r: Ran, *names: str) -> str | None:
    wrong = [n for n in names if n in r.stages or n not in r.reused]
    return f"not reused: {', '.join(wrong)}" if wrong else None


def _another_release(r: Ran, before: Sequence[Ran]) -> str | None:
    return "production still serves the same release" if before and r.release == before[-1].release else None


def _same_release(r: Ran, before: Sequence[Ran]) -> str | None:
    return None if r.release == before[-1].release else "production serves another release"


def _answered(r: Ran) -> str | None:
    if not r.asked:
        return "no user sent a request to production"
    return f"{len(r.unanswered)} of {r.asked} requests got no answer: {r.unanswered[0]}" if r.unanswered else None


def _rejected(r: Ran, *reasons: str) -> tuple[str, ...]:
    """Problems unless the act was rejected for these reasons, by one run: rejections are not retried."""
    said = "; ".join([r.why, *(f for v in r.verdicts for f in v.against)])
    return _all(
        None if r.status == "rejected" else f"expected rejected, got {r.status}: {r.why}",
        None if r.runs == 1 else f"expected one run, got {r.runs}",
        *(None if reason in said else f"{reason} is missing from the reasons: {said}" for reason in reasons),
    )


def _reviewed(r: Ran) -> tuple[str, ...]:
    """Problems unless a reviewer sees intervals beside the champion's, a slice, and the rows lost and won."""
    if (found := r.review) is None:
        return ("its evaluation report has no review",)
    beside = [f for f in found.figures if f.champion and f.champion.low is not None and f.difference]
    judged = [value for column in found.slices for value in column.values if value.figures]
    changed = found.regressions
    return _all(
        None if beside else "its review has no interval beside the champion's",
        None if judged else "its review has no slice with figures",
        None if changed and changed.lost + changed.won else "its review has no row lost or won",
        *found.notes,
    )


def _data_added(r: Ran) -> str | None:
    splits = r.review.data.splits if r.review and r.review.data else ()
    added = any(s.split == "train" and s.added and s.added_examples for s in splits)
    return None if added else "its review does not show the added training rows"


def first_push(r: Ran, before: Sequence[Ran]) -> tuple[str, ...]:
    return _all(_released(r), _computed(r, *(s.name for s in CHAIN)))


def readme(r: Ran, before: Sequence[Ran]) -> tuple[str, ...]:
    ran = f"expected no run, but {', '.join(r.stages)} ran" if r.stages else None
    said = None if "README.md" in r.tick else f"the tick does not name README.md: {r.tick!r}"
    skipped = None if r.status == "skipped" else f"expected skipped, got {r.status}"
    return _all(skipped, ran, said, _same_release(r, before), _answered(r))


def serving_prompt(r: Ran, before: Sequence[Ran]) -> tuple[str, ...]:
    return _all(
        _released(r),
        _computed(r, "evaluation_report", "served_evaluation_report", "production_endpoint"),
        _not_computed(r, "dataset_version", "fine_tuned_checkpoint", "quantized_artifact"),
        _another_release(r, before),
        _answered(r),
        *_reviewed(r),
        None if r.review and r.review.prompts else "its review does not show the prompt's change",
    )


def more_data(r: Ran, before: Sequence[Ran]) -> tuple[str, ...]:
    return _all(
        _released(r),
        _computed(r, "dataset_version", "fine_tuned_checkpoint", "evaluation_report", "quantized_artifact"),
        _not_computed(r, "ci_report"),
        _another_release(r, before),
        _answered(r),
        *_reviewed(r),
        _data_added(r),
    )


def undertrained(r: Ran, before: Sequence[Ran]) -> tuple[str, ...]:
    """A training that ends well, so that the gates must see it: one that diverges ends early and has no model."""
    return _all(
        *_rejected(r, "perplexity", "rougeL"),
        _computed(r, "fine_tuned_checkpoint", "evaluation_report"),
        _not_computed(r, "dataset_version"),
        "the rejected model was deployed to staging" if "staging_endpoint" in r.stages else None,
        _same_release(r, before),
        _answered(r),
    )


def bad_canary(r: Ran, before: Sequence[Ran]) -> tuple[str, ...]:
    return _all(
        *_rejected(r, "cut_rate"),
        _computed(r, "served_evaluation_report", "staging_endpoint", "smoke_test_report"),
        _not_computed(r, "dataset_version", "fine_tuned_checkpoint", "quantized_artifact"),
        _same_release(r, before),
        _answered(r),
    )


def revert(r: Ran, before: Sequence[Ran]) -> tuple[str, ...]:
    earlier = before[PROMPT_ACT - 1].release
    serves = f"expected release {short(earlier or '')} in production, got {short(r.release or '')}"
    whole = before[0].seconds
    slow = f"it took {r.seconds:.0f} s, more than half of the first act's {whole:.0f} s"
    return _all(
        _released(r),
        _not_computed(r, *(s.name for s in WORK)),
        None if r.release == earlier else serves,
        slow if r.seconds > REVERT_SHARE * whole else None,
        _answered(r),
    )


def acts(builder: ModuleType, folder: Path) -> tuple[Act, ...]:
    """The acts for the project in `folder`, which the example's own builder edits."""

    def pushed(change: Callable[[Path], object]) -> Callable[[Sequence[Ran]], str]:
        def push(before: Sequence[Ran]) -> str:
            change(folder)
            return str(builder.push(folder))

        return push

    def push_reverts(before: Sequence[Ran]) -> str:
        builder.revert_since(folder, before[PROMPT_ACT - 1].revision)
        return str(builder.push(folder))

    return (
        Act(number=1, title="first push", push=pushed(lambda f: None), check=first_push),
        Act(number=2, title="README changed", push=pushed(builder.change_readme), check=readme),
        Act(
            number=PROMPT_ACT,
            title="serving prompt changed",
            push=pushed(builder.change_serving_prompt),
            check=serving_prompt,
        ),
        Act(number=4, title="more training data", push=pushed(builder.add_training_data), check=more_data),
        Act(
            number=5,
            title="training of a single step",
            push=pushed(builder.train_too_little),
            check=undertrained,
            watched_s=WATCHED_S,
        ),
        Act(
            number=6,
            title="training restored, answers truncated",
            push=pushed(builder.cut_answers),
            check=bad_canary,
            watched_s=WATCHED_S,
        ),
        Act(number=7, title=f"all since act {PROMPT_ACT} reverted", push=push_reverts, check=revert),
    )
