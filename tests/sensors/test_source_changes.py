"""Each kind of bad input in a commit gives one clear reason with its remedy, and no run; a fixed commit runs."""

from tests.support.projects import Watched, rows, write_rows


def test_an_unknown_key_is_named_with_its_line_and_the_likely_one(watched: Watched) -> None:
    watched.project.ship("A slip", {"training": {"learning_rat": 0.1}})
    said = watched.skip()
    assert "llmops.yaml:" in said and "training.learning_rat" in said and "'learning_rate'" in said
    assert watched.world.ledger.requests("zoo") == []


def test_a_wrong_type_is_named_and_the_corrected_commit_runs(watched: Watched) -> None:
    watched.project.ship("A word for a number", {"training": {"learning_rate": "fast"}})
    assert "training.learning_rate" in watched.skip() and "'fast'" in watched.skip()
    watched.project.ship("Fixed", {"training": {"learning_rate": 0.001}})
    _, requests = watched.world.tick("zoo_git")
    assert [r.tags["llmops/revision"] for r in requests] == [watched.project.head]


def test_git_pushed_before_dvc_waits_with_a_reason_and_then_runs(watched: Watched) -> None:
    write_rows(watched.project.folder / "data/train.jsonl", rows(30))
    watched.project.dvc_add("data/train.jsonl", push=False)
    watched.project.ship("Data that is not there yet")
    said = watched.skip()
    assert "data/train.jsonl" in said and "dvc push" in said
    watched.project.dvc_push()
    _, requests = watched.world.tick("zoo_git")
    assert len(requests) == 1


def test_a_base_model_that_is_missing_is_named(watched: Watched) -> None:
    watched.project.ship("No such folder", {"model": {"base": {"path": "models/other"}}})
    said = watched.skip()
    assert "models/other" in said and "dvc add models/other" in said


def test_a_prompt_with_an_undefined_variable_is_named(watched: Watched) -> None:
    watched.project.write("prompts/ask.jinja", "Question: {{ question }}\n")
    watched.project.ship("A slip in the prompt")
    said = watched.skip()
    assert "prompts/ask.jinja" in said and "'question'" in said and "input" in said


def test_a_gate_on_an_unknown_metric_is_named(watched: Watched) -> None:
    watched.project.ship("A gate on nothing", {"gates": [{"metric": "bleu", "at_least": 1}]})
    said = watched.skip()
    assert "'bleu'" in said and "perplexity, rougeL" in said


def test_a_force_push_is_followed_and_loses_nothing(watched: Watched) -> None:
    first = watched.project.push()
    _, requests = watched.world.tick("zoo_git")
    assert requests[0].tags["llmops/revision"] == first
    watched.project.git("commit", "--amend", "--quiet", "--message", "Rewritten")
    watched.project.configure({"training": {"max_steps": 2}})
    watched.project.git("commit", "--all", "--quiet", "--message", "Fewer steps")
    second = watched.project.push("--force")
    assert "waits for" in watched.skip()
    assert watched.world.source().at(first).revision == first, "the rewritten commit stays readable"
    watched.world.ledger.close(watched.world.ledger.requests("zoo")[-1], "done", "for this test")
    _, requests = watched.world.tick("zoo_git")
    assert requests[0].tags["llmops/revision"] == second


def test_a_deleted_branch_is_a_skip_reason_and_not_an_empty_project(watched: Watched) -> None:
    watched.project.push()
    watched.world.tick("zoo_git")
    watched.project.git("push", "--quiet", "origin", "HEAD:refs/heads/other")
    watched.project.git("--git-dir", str(watched.project.remote), "update-ref", "-d", "refs/heads/main")
    assert "branch 'main' does not exist" in watched.skip()
    assert len(watched.world.ledger.requests("zoo")) == 1


def test_an_unreachable_remote_is_a_skip_reason_and_the_change_is_found_later(watched: Watched) -> None:
    away = watched.project.remote.with_name("away.git")
    watched.project.push()
    watched.project.remote.rename(away)
    assert "unreachable" in watched.skip()
    away.rename(watched.project.remote)
    _, requests = watched.world.tick("zoo_git")
    assert len(requests) == 1
