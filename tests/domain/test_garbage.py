"""What garbage collection keeps: everything that someone can still ask for, and nothing else."""

from typing import Any

import pytest

from llmops_assets.domain.garbage import (
    DAY_S,
    Approved,
    Claim,
    Inventory,
    Keep,
    ReleaseArtifact,
    Result,
    Served,
    Use,
    find_live,
    find_unused,
    known_artifacts,
)

NOW = 1000 * DAY_S
OLD = NOW - 100 * DAY_S
STAGES = ("dataset", "checkpoint", "weights")


def history(count: int, **extra: Any) -> Inventory:
    """Old revisions r0, r1, …, each with its own results and its release R0, R1, …; all share the base model."""
    results = [
        Result(
            key=f"{stage}{n}", stage=stage, project="zoo", revision=f"r{n}", at=OLD, made=f"a-{stage}{n}",
            artifacts=(f"a-{stage}{n}", *(("base",) if stage == "checkpoint" else ())),
        )
        for n in range(count)
        for stage in STAGES
    ]  # fmt: skip
    values: dict[str, Any] = {
        "uses": tuple(Use(project="zoo", revision=r.revision, key=r.key, at=OLD) for r in results),
        "results": tuple(results),
        "releases": tuple(
            ReleaseArtifact(project="zoo", release=f"R{n}", revision=f"r{n}", artifact=f"a-weights{n}")
            for n in range(count)
        ),
    }
    return Inventory(**{**values, **extra})


def serves(*numbers: int, environment: str = "production") -> tuple[Served, ...]:
    return tuple(
        Served(project="zoo", environment=environment, release=f"R{n}", revision=f"r{n}") for n in numbers
    )  # fmt: skip


def gone_keys(inventory: Inventory) -> set[str]:
    return {r.key for r in find_unused(inventory, find_live(inventory, Keep(), NOW))}


def gone(inventory: Inventory, now: float = NOW, **keep: Any) -> set[str]:
    """The revisions of which something is collected."""
    live = find_live(inventory, Keep(**keep), now)
    return {r.revision for r in find_unused(inventory, live)}


def test_the_champion_and_the_releases_before_it_stay_for_a_rollback() -> None:
    inventory = history(5, served=serves(0, 1, 2, 3))
    assert gone(inventory, keep_served=2) == {"r0", "r1", "r4"}
    assert gone(inventory, keep_served=9) == {"r4"}, "r4 never served"


def test_a_release_that_served_again_counts_as_new() -> None:
    """A rollback to R0 made R0 the newest: counting rows would collect what production serves."""
    inventory = history(3, served=serves(0, 1, 2, 0))
    assert gone(inventory, keep_served=1) == {"r1", "r2"}


def test_each_environment_keeps_its_own_releases() -> None:
    inventory = history(3, served=(*serves(0), *serves(1, environment="staging")))
    assert gone(inventory, keep_served=1) == {"r2"}


@pytest.mark.parametrize(
    "claim",
    [
        Claim(why="held", project="zoo", release="R0"),
        Claim(why="its request is waiting", project="zoo", revision="r0"),
        Claim(why="its rollout runs", project="zoo", revision="r0", release="R0"),
        Claim(why="an engine of staging runs it", project="zoo", release="R0"),
    ],
    ids=lambda c: c.why,
)  # fmt: skip
def test_what_a_person_or_a_run_holds_stays(claim: Claim) -> None:
    assert gone(history(2, claims=(claim,))) == {"r1"}


def test_an_approved_release_stays_forever_unless_the_settings_limit_it() -> None:
    approved = (Approved(project="zoo", revision="r0", release="R0", at=OLD),)
    inventory = history(2, approved=approved)
    assert gone(inventory) == {"r1"}
    assert gone(inventory, keep_approved="30d") == {"r0", "r1"}


def test_a_result_stays_for_a_while_after_its_last_use() -> None:
    inventory = history(2)
    used = tuple(u.model_copy(update={"at": NOW - 5 * DAY_S}) if u.revision == "r0" else u for u in inventory.uses)
    inventory = inventory.model_copy(update={"uses": used})
    assert gone(inventory, keep_unused="7d") == {"r1"}
    assert gone(inventory, keep_unused="3d") == {"r0", "r1"}


def test_a_new_result_that_no_revision_uses_yet_stays() -> None:
    """A run commits a record first and its lineage edge afterwards."""
    inventory = history(1, uses=())
    fresh = tuple(r.model_copy(update={"at": NOW - 60}) for r in inventory.results)
    assert gone(inventory.model_copy(update={"results": fresh})) == set()


def test_the_champions_figures_that_a_waiting_release_was_compared_with_stay() -> None:
    """They are measured for the candidate, and no revision uses them: without them its approval would be refused."""
    compared = Result(
        key="champion", stage="evaluation", project="zoo", revision="r0", at=OLD, made="a-champion",
        artifacts=("a-champion",),
    )  # fmt: skip
    inventory = history(2, claims=(Claim(why="its request is waiting", project="zoo", revision="r0"),))
    inventory = inventory.model_copy(update={"results": (*inventory.results, compared)})
    assert gone_keys(inventory) == {f"{stage}1" for stage in STAGES}


def test_an_artifact_that_a_live_result_shares_stays_and_so_does_every_result_that_made_it() -> None:
    """Equal content is one artifact: the base model of all checkpoints, or two runs with equal output."""
    inventory = history(2, served=serves(0))
    twin = Result(
        key="twin", stage="weights", project="zoo", revision="r1", at=OLD, made="a-weights0", artifacts=("a-weights0",)
    )
    inventory = inventory.model_copy(update={"results": (*inventory.results, twin)})
    live = find_live(inventory, Keep(), NOW)
    assert "base" in live.artifacts
    assert "twin" in live.keys


def test_a_result_whose_artifact_was_just_used_keeps_what_it_needs() -> None:
    """A person materializes an old evaluation by hand: its checkpoint was fetched, and needs its base model."""
    inventory = history(1)
    live = find_live(inventory, Keep(), NOW, touched=["a-checkpoint0"])
    assert live.artifacts == {"a-checkpoint0", "base"}
    assert {r.key for r in find_unused(inventory, live)} == {"dataset0", "weights0"}


def test_results_that_an_open_request_will_reuse_stay() -> None:
    inventory = history(1)
    live = find_live(inventory, Keep(), NOW, needed=["dataset0", "a key without a result yet"])
    assert live.artifacts == {"a-dataset0"}


def test_a_record_that_this_code_cannot_read_keeps_all_that_it_names() -> None:
    """Newer code wrote it; after a downgrade it is unknown what it needs."""
    unreadable = Result(
        key="new",
        stage="weights",
        project="",
        revision="",
        at=OLD,
        made=None,
        artifacts=("a-dataset0",),
        readable=False,
    )
    inventory = history(1)
    inventory = inventory.model_copy(update={"results": (*inventory.results, unreadable)})
    assert "a-dataset0" in find_live(inventory, Keep(), NOW).artifacts


def test_what_was_collected_is_not_collected_again() -> None:
    inventory = history(1)
    buried = tuple(r.model_copy(update={"collected": True}) for r in inventory.results)
    assert gone(inventory.model_copy(update={"results": buried})) == set()


def test_every_root_says_why_it_stays() -> None:
    inventory = history(2, served=serves(0, 1), claims=(Claim(why="held", project="zoo", release="R0"),))
    assert find_live(inventory, Keep(), NOW).reasons == (
        "zoo: R1: serves production", "zoo: R0: served production", "zoo: R0: held",
    )  # fmt: skip
    assert known_artifacts(inventory) >= {"base", "a-weights1"}
