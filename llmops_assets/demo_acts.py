"""The demo's five acts: what each pushes, and what must be true afterwards. Pure but for the pushes themselves."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import ConfigDict

from llmops_assets.domain.base import Frozen
from llmops_assets.domain.chain import CHAIN, WORK
from llmops_assets.domain.keys import short

REVERT_WITHIN_S = 60.0


class Act(Frozen):
    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    number: int
    title: str
    push: Callable[[], str]
    check: Callable[[Any, list[Any]], tuple[str, ...]]


class Ran(Frozen):
    """What an act brought."""

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
    problems: tuple[str, ...] = ()


def _all(*found: str | None) -> tuple[str, ...]:
    return tuple(f for f in found if f)


def _released(r: Ran) -> str | None:
    return None if r.status == "released" else f"it should have been released, but is {r.status}: {r.why}"


def _computed(r: Ran, *names: str) -> str | None:
    missing = [n for n in names if n not in r.stages]
    return f"{', '.join(missing)} should have been computed" if missing else None


def _not_computed(r: Ran, *names: str) -> str | None:
    wrong = [n for n in names if n in r.stages or n not in r.reused]
    return f"{', '.join(wrong)} should have been reused" if wrong else None


def _another_release(r: Ran, before: list[Ran]) -> str | None:
    return "production should serve another release" if before and r.release == before[-1].release else None


def first_push(r: Ran, before: list[Ran]) -> tuple[str, ...]:
    return _all(_released(r), _computed(r, *(s.name for s in CHAIN)))


def readme(r: Ran, before: list[Ran]) -> tuple[str, ...]:
    ran = f"nothing should have run, but {', '.join(r.stages)} did" if r.stages else None
    said = None if "README.md" in r.tick else f"the tick should have named README.md, it said {r.tick!r}"
    still = None if r.release == before[-1].release else "production should not have changed"
    return _all(None if r.status == "skipped" else f"it should have been skipped, but is {r.status}", ran, said, still)


def serving_prompt(r: Ran, before: list[Ran]) -> tuple[str, ...]:
    return _all(
        _released(r),
        _computed(r, "evaluation_report", "served_evaluation_report", "production_endpoint"),
        _not_computed(r, "dataset_version", "fine_tuned_checkpoint", "quantized_artifact"),
        _another_release(r, before),
    )


def more_data(r: Ran, before: list[Ran]) -> tuple[str, ...]:
    return _all(
        _released(r),
        _computed(r, "dataset_version", "fine_tuned_checkpoint", "evaluation_report", "quantized_artifact"),
        _not_computed(r, "ci_report"),
        _another_release(r, before),
    )


def revert(r: Ran, before: list[Ran]) -> tuple[str, ...]:
    earlier = before[-2].release
    same = (
        None
        if r.release == earlier
        else f"release {short(earlier or '')} should be back, {short(r.release or '')} serves"
    )
    slow = f"it took {r.seconds:.0f} s, more than {REVERT_WITHIN_S:g} s" if r.seconds > REVERT_WITHIN_S else None
    return _all(_released(r), _not_computed(r, *(s.name for s in WORK)), same, slow)


def acts(builder: ModuleType, folder: Path) -> tuple[Act, ...]:
    """The five acts on the project in `folder`."""

    def pushed(change: Callable[[Path], str]) -> Callable[[], str]:
        def push() -> str:
            change(folder)
            return str(builder.push(folder))

        return push

    return (
        Act(number=1, title="first push", push=pushed(lambda f: ""), check=first_push),
        Act(number=2, title="README changed", push=pushed(builder.change_readme), check=readme),
        Act(number=3, title="serving prompt changed", push=pushed(builder.change_serving_prompt), check=serving_prompt),
        Act(number=4, title="more training data", push=pushed(builder.add_training_data), check=more_data),
        Act(number=5, title="that commit reverted", push=pushed(builder.revert_last), check=revert),
    )
