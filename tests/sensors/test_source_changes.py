"""Each kind of bad input in a commit gives one clear reason with its remedy, and no run; a fixed commit runs."""

import os
import subprocess

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


HOSTILE = {
    "llmops.yaml": ("name: zoo\na: &a [x,x,x,x,x,x,x,x]\n" + "".join(
        f"b{n}: &b{n} [{','.join([f'*{before}'] * 9)}]\n" for n, before in enumerate(["a", "b0", "b1", "b2", "b3"])
    ), "llmops.yaml:6: not valid YAML: its aliases expand"),
    "prompts/ask.jinja": ("{{ input" + "|replace('a', 'aaaaa')" * 9 + " }}\n", "ask.jinja: line 1: the prompt could"),
    "data/train.jsonl.dvc": ("outs: text\n", "data/train.jsonl.dvc: not as DVC writes it"),
    "data/test.jsonl.dvc": ("outs:\n- md5: 2026-02-30\n", "(line 2, day is out of range for month)"),
    ".dvc/config": ("<<<<<<< HEAD\n[core]\n=======\n[core]\n>>>>>>> theirs\n", ".dvc/config:1: not valid"),
}  # fmt: skip


def test_a_hostile_or_half_merged_file_is_a_reason_for_no_other_project_to_wait(watched: Watched) -> None:
    """Each of these ended the tick with a stack trace, or hung the code server of all projects."""
    watched.project.push()
    for path, (text, said) in HOSTILE.items():
        watched.project.write(path, text)
        watched.project.ship(f"Breaks {path}")
        skip = watched.skip()
        assert said in skip and len(skip) < 2_000
        assert watched.world.tick("zoo_recovery")[0] == "no active request"
        watched.project.git("revert", "--no-edit", "HEAD")
    assert watched.world.ledger.requests("zoo") == []
    watched.project.push()
    assert len(watched.world.tick("zoo_git")[1]) == 1


def test_a_commit_that_holds_millions_of_files_is_a_reason(watched: Watched) -> None:
    """Git stores equal folders once: five levels of sixteen folders are a million files in a few hundred bytes."""
    git = watched.project.git
    blob = git("hash-object", "-w", "README.md")
    tree = _tree(watched, "".join(f"100644 blob {blob}\tf{n}\n" for n in range(16)))
    for _ in range(5):
        tree = _tree(watched, "".join(f"040000 tree {tree}\td{n}\n" for n in range(16)))
    root = _tree(watched, git("ls-tree", "HEAD") + f"\n040000 tree {tree}\tbomb\n")
    commit = git("commit-tree", root, "-p", "HEAD", "-m", "A bomb")
    git("push", "--quiet", "origin", f"{commit}:refs/heads/main")
    assert "has more than 200,000 files" in watched.skip()


def _tree(watched: Watched, text: str) -> str:
    done = subprocess.run(
        ["git", "mktree"], input=text, cwd=watched.project.folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_names_and_authors_that_are_no_text_are_read(watched: Watched) -> None:
    """Git stores bytes: a file's name, an author or an encoding that Python does not know ended the tick."""
    project = watched.project
    (project.folder / os.fsdecode(b"caf\xe9.txt")).write_text("a name in Latin-1\n")
    project.git("config", "i18n.commitEncoding", "no-such-encoding")
    project.git("config", "user.name", "J\udcfcrgen")
    project.commit("Gr\udcfc\udcdfe")
    project.push()
    _, requests = watched.world.tick("zoo_git")
    assert [r.tags["llmops/revision"] for r in requests] == [project.head]


LFS_POINTER = (
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"
)


def test_a_file_that_git_lfs_keeps_elsewhere_is_named_with_the_way_out(watched: Watched) -> None:
    """A stage would have read the pointer's three lines as the prompt, and released that."""
    watched.project.write("prompts/ask.jinja", LFS_POINTER)
    watched.project.write("models/other/model.safetensors", LFS_POINTER)
    watched.project.ship("Large files", {"model": {"base": {"path": "models/other"}}})
    said = watched.skip()
    assert "model.base.path: models/other/model.safetensors is a Git LFS pointer" in said
    assert "prompt: prompts/ask.jinja is a Git LFS pointer" in said and "dvc add prompts/ask.jinja" in said


def test_a_base_model_in_a_submodule_is_named_with_the_way_out(watched: Watched) -> None:
    """Its folder is empty in every checkout of ours, and Git has an object for it all the same."""
    watched.project.push()
    git = watched.project.git
    git("-c", "protocol.file.allow=always", "submodule", "add", "--quiet", str(watched.project.remote), "models/shared")
    watched.project.ship("A submodule", {"model": {"base": {"path": "models/shared"}}})
    assert "model.base.path: models/shared is a Git submodule" in watched.skip()
    watched.project.ship("Within it", {"model": {"base": {"path": "models/shared/base"}}})
    assert "models/shared/base needs models/shared, which is a Git submodule" in watched.skip()


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
