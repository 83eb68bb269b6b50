"""A rollout moves traffic on answers that it asked for itself, and gives it back if they are bad, few or cut off."""

from pathlib import Path

import pytest

from llmops_assets.config.settings import ProjectSource, Settings
from llmops_assets.delivery.rollout import Rollout, abandon, questions
from llmops_assets.domain.records import Release
from llmops_assets.domain.rollout import RolloutPolicy, RolloutStep, begin
from llmops_assets.programs.data.rows import write_rows
from resources.ledger import Ledger
from resources.project_source.revisions import ProjectRepository
from tests.delivery.production import MemoryServing, reachable
from tests.projects import Project

RELEASE = Release(
    project="zoo",
    artifact_digest="new",
    artifact_uri="file:///nowhere",
    file="model.gguf",
    chat_template="",
    engine="llama.cpp",
    serving={},
)
NEW = RELEASE.digest


def rollout(ledger: Ledger, serving: MemoryServing, **change: object) -> Rollout:
    """The way of the release into production; asked without a pause, and judged on four answers."""
    fields = {
        "project": "zoo",
        "revision": "a" * 40,
        "release": RELEASE,
        "policy": RolloutPolicy(steps=(RolloutStep(weight=0.5, hold=0.0),), min_samples=4),
        "ledger": ledger,
        "serving": serving,
        "drain": 0.0,
        "deploy": lambda: serving.engines.append(NEW) if NEW not in serving.engines else None,
        "inputs": lambda: ["Hello"],
        "answer_tokens": 8,
        "say": lambda text: None,
    }
    return Rollout(**{**fields, **change})  # type: ignore[arg-type]


def given_back(ledger: Ledger, serving: MemoryServing) -> str | None:
    return abandon(ledger, serving, "zoo", "cancelled by a person", 0.0)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")


# -- what it asks ---------------------------------------------------------------------------------------------------


def test_a_conversation_is_asked_its_last_question_as_in_the_evaluation(
    project: Project, ledger: Ledger, tmp_path: Path
) -> None:
    """Rows of several turns were asked their first one: a canary judged answers that no evaluation had looked at."""
    turns = [("user", "What is a cat?"), ("assistant", "An animal."), ("user", "What does it say?")]
    conversation = {"messages": [{"role": r, "content": c} for r, c in [*turns, ("assistant", "Meow.")]]}
    beside = {
        "input": None,
        "output": None,
        "messages": [{"role": "system", "content": "Be brief."}, *conversation["messages"]],
    }
    write_rows(tmp_path / "test.jsonl", [conversation, beside, {"input": "dog says", "output": "Woof."}])
    project.push()
    watched = ProjectSource(name="zoo", repository=str(project.remote))
    source = ProjectRepository(watched, Settings(home=tmp_path / "home", projects=(watched,)))
    source.git.fetch()
    at = source.at(project.head)
    with reachable("old", weights={"old": 1.0}) as serving:
        state = rollout(ledger, serving, inputs=lambda: questions(at, tmp_path)).run(begin(NEW, "old", RolloutPolicy()))
    assert state.status == "promoted"
    assert set(serving.questions()) == {"What does it say?", "dog says"}


# -- what was cut off -----------------------------------------------------------------------------------------------


def test_the_champion_has_all_traffic_again_and_the_candidate_no_engine(ledger: Ledger) -> None:
    ledger.begin_rollout("zoo", "a" * 40, begin("new", "old", RolloutPolicy()))
    serving = MemoryServing("old", "new", weights={"old": 0.9, "new": 0.1})
    assert given_back(ledger, serving) == "new"
    assert (serving.shares, serving.engines) == ({"old": 1.0}, ["old"])
    found = ledger.rollout("zoo")
    assert found is not None and (found[3].status, found[3].reasons) == ("returned", ("cancelled by a person",))
    assert given_back(ledger, serving) is None, "once is enough"


def test_a_first_release_that_was_cut_off_leaves_nothing(ledger: Ledger) -> None:
    ledger.begin_rollout("zoo", "a" * 40, begin("new", None, RolloutPolicy()))
    serving = MemoryServing("new", weights={})
    assert given_back(ledger, serving) == "new"
    assert (serving.shares, serving.engines) == ({}, [])


def test_a_rollout_that_came_to_its_end_is_left_alone(ledger: Ledger) -> None:
    state = begin("new", "old", RolloutPolicy())
    identity, version = ledger.begin_rollout("zoo", "a" * 40, state)
    ledger.save_rollout(identity, version, state.model_copy(update={"status": "promoted"}))
    serving = MemoryServing("new", weights={"new": 1.0})
    assert given_back(ledger, serving) is None and serving.shares == {"new": 1.0}
