"""Other branches and pull requests run as far as the settings say, and are never deployed. Real Git."""

from collections.abc import Callable
from typing import Any

import dagster as dg

from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.delivery.answers import Comments, gather
from llmops_assets.domain.branches import BranchRule, PullRequests
from llmops_assets.domain.notification_baseline import Baseline
from llmops_assets.domain.requests import BRANCH_EVALUATION, BRANCH_PLAN
from tests.support.projects import Project, World

EVALUATED = ["ci_report", "container_image", "dataset_version", "fine_tuned_checkpoint", "evaluation_report",
             "registered_model", "quantized_artifact", "served_evaluation_report"]  # fmt: skip


class Watching:
    """A project whose first commit is delivered, as far as the ledger knows, and what its settings say."""

    def __init__(self, project: Project, make_world: Callable[..., World], **source: Any):
        self.project = project
        project.push()
        self.world = make_world(projects=(ProjectSource(name="zoo", repository=str(project.remote), **source),))
        self.world.ledger.open_request("zoo", project.head, 1, "first run of this project", status="done")

    def push(self, ref: str, change: dict[str, Any] | None = None) -> str:
        """Commits beside the watched branch and pushes it to a ref."""
        self.project.git("checkout", "--quiet", "--detach", "main")
        self.project.configure(change or {"training": {"max_steps": 2}})
        sha = self.project.commit(f"For {ref}")
        self.project.git("push", "--quiet", "origin", f"HEAD:{ref}")
        self.project.git("checkout", "--quiet", "main")
        return sha

    def tick(self, sensor: str = "branches") -> tuple[str, list[dg.RunRequest]]:
        said, requests = self.world.tick(f"zoo_{sensor}")
        return said or "", requests


def stages(request: dg.RunRequest) -> list[str]:
    return [key.path[-1] for key in request.asset_selection or ()]


def test_a_branch_is_evaluated_once_and_the_watched_branch_starts_nothing(
    make_project: Callable[[], Project], make_world: Callable[..., World]
) -> None:
    here = Watching(make_project(), make_world, branches=(BranchRule(match="feature/*"),))
    here.push("refs/heads/private")
    sha = here.push("refs/heads/feature/fewer-steps")
    assert "is done" in here.tick("git")[0]
    _, [run] = here.tick()
    assert run.tags["llmops/revision"] == sha and stages(run) == EVALUATED
    newest = here.world.ledger.requests("zoo")[-1]
    assert (newest.revision, newest.asked_by) == (sha, BRANCH_EVALUATION)
    assert here.tick()[1] == [], "once"
    assert "is done" in here.tick("git")[0], "it is no commit of the watched branch"


def test_a_branch_that_is_only_planned_runs_nothing_and_shows_its_plan_while_another_commit_runs(
    make_project: Callable[[], Project], make_world: Callable[..., World]
) -> None:
    here = Watching(make_project(), make_world, branches=(BranchRule(match="*", run="plan"),))
    ledger, project = here.world.ledger, here.world.settings.projects[0]
    baseline = Baseline.of(ledger.closings("zoo"), ledger.rolled("zoo"))
    sha = here.push("refs/heads/feature")
    ledger.open_request("zoo", "f" * 40, 1, "another commit runs meanwhile")
    said, runs = here.tick()
    assert runs == [] and f"branch 'feature': {sha[:12]}: plan only: " in said
    assert "plan only: it would run ci_report, container_image, " in said
    newest = ledger.requests("zoo")[-1]
    assert (newest.revision, newest.asked_by, newest.status) == (sha, BRANCH_PLAN, "skipped")
    assert here.tick()[1] == [] and ledger.requests("zoo")[-1] == newest, "once"
    found = next(one for one in gather(project, here.world.clients, baseline) if one.revision == sha)
    assert {group.state for group in found.groups} == {"neutral"}
    text = Comments(project, here.world.clients).write(found, number=7).body
    assert (
        "is planned" in text and "| llmops.yaml: training.max\\_steps | 4 → 2 | fine\\_tuned\\_checkpoint |" in text
    ), text


def test_a_run_that_was_lost_continues_with_the_same_stages(
    make_project: Callable[[], Project], make_world: Callable[..., World]
) -> None:
    here = Watching(make_project(), make_world, branches=(BranchRule(match="*", run="ci"),))
    here.push("refs/heads/feature")
    _, [run] = here.tick()
    assert stages(run) == ["ci_report"]
    with here.world.instance as instance:
        job = here.world.defs.resolve_job_def("zoo_deliver")
        instance.create_run_for_job(job, tags=dict(run.tags), status=dg.DagsterRunStatus.FAILURE)
        _, [again] = here.tick("recovery")
        assert stages(again) == ["ci_report"] and again.run_key != run.run_key


def test_a_pull_request_of_a_fork_runs_only_if_the_settings_say_so(
    make_project: Callable[[], Project], make_world: Callable[..., World]
) -> None:
    project = make_project()
    closed = Watching(project, make_world, pull_requests=PullRequests())
    sha = closed.push("refs/pull/7/head")
    assert closed.tick()[1] == []
    asked = Watching(project, make_world, pull_requests=PullRequests(forks="after_approval"))
    said, runs = asked.tick()
    assert runs == [] and f"pull request 7: {sha[:12]} waits for a person" in said
    opened = Watching(project, make_world, pull_requests=PullRequests(forks="on"))
    _, [run] = opened.tick()
    assert run.tags["llmops/revision"] == sha and stages(run) == ["ci_report"]


def test_a_merge_request_from_a_branch_of_the_repository_is_no_fork(
    make_project: Callable[[], Project], make_world: Callable[..., World]
) -> None:
    here = Watching(make_project(), make_world, pull_requests=PullRequests(run="evaluation"))
    sha = here.push("refs/heads/topic")
    here.project.git("push", "--quiet", "origin", f"{sha}:refs/merge-requests/3/head")
    _, [run] = here.tick()
    assert stages(run) == EVALUATED


def test_a_broken_commit_is_named_once_and_holds_up_no_other(
    make_project: Callable[[], Project], make_world: Callable[..., World]
) -> None:
    here = Watching(make_project(), make_world, branches=(BranchRule(match="*"),))
    good = here.push("refs/heads/good")
    here.push("refs/heads/broken", {"training": {"learning_rat": 1}})
    _, [run] = here.tick()
    assert run.tags["llmops/revision"] == good
    assert any("learning_rat" in r.reason and r.status == "skipped" for r in here.world.ledger.requests("zoo"))


def test_the_watched_branch_comes_first(make_project: Callable[[], Project], make_world: Callable[..., World]) -> None:
    here = Watching(make_project(), make_world, branches=(BranchRule(match="*"),))
    here.push("refs/heads/feature")
    here.project.ship("On the watched branch", {"training": {"max_steps": 3}})
    said, runs = here.tick()
    assert runs == [] and "the watched branch comes first" in said
    _, [run] = here.tick("git")
    assert run.tags["llmops/revision"] == here.project.head
    assert "waits for" in here.tick()[0]


def test_with_release_tags_only_what_is_tagged_on_the_branch_is_deployed(
    make_project: Callable[[], Project], make_world: Callable[..., World]
) -> None:
    here = Watching(make_project(), make_world, release_tags="v*", branches=(BranchRule(match="main"),))
    assert "no tag v* is on branch 'main'" in here.tick("git")[0]
    tagged = here.project.ship("Tagged", {"training": {"max_steps": 3}})
    newer = here.project.ship("Not tagged", {"training": {"max_steps": 5}})
    here.project.git("tag", "--annotate", "v1.0", tagged, "--message", "The first")
    aside = here.push("refs/tags/v2.0")
    here.project.git("push", "--quiet", "origin", "v1.0")
    _, [run] = here.tick("git")
    assert run.tags["llmops/revision"] == tagged, f"neither {newer[:12]}, without a tag, nor {aside[:12]}, elsewhere"
    here.world.ledger.close(here.world.ledger.requests("zoo")[-1], "done", "for this test")
    _, [evaluated] = here.tick()
    assert evaluated.tags["llmops/revision"] == newer and stages(evaluated) == EVALUATED
