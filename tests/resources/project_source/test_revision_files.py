"""What llmops.yaml names must be there, in Git or in DVC, and be readable; every problem is reported."""

from resources.project_source.revisions import ProjectRepository
from tests.resources.project_source.sources import changed_values, shipped, told
from tests.support.projects import Project, rows, write_rows


def test_a_missing_configuration_is_reported(project: Project, source: ProjectRepository) -> None:
    (project.folder / "llmops.yaml").unlink()
    sha = shipped(project, source, "Removed by mistake")
    assert told(source, sha) == [f"llmops.yaml: missing at the root of {sha[:12]}; `llmops check` says what it needs"]


def test_a_configuration_that_is_no_text_is_reported(project: Project, source: ProjectRepository) -> None:
    (project.folder / "llmops.yaml").write_bytes(b"name: z\xff\n")
    assert told(source, shipped(project, source, "Broken")) == ["llmops.yaml: it is not UTF-8 text (byte 7)"]


def test_a_name_that_differs_from_the_settings_is_reported(project: Project, source: ProjectRepository) -> None:
    sha = shipped(project, source, "Renamed", {"name": "farm"})
    assert told(source, sha) == ["llmops.yaml: name: it is 'farm', but the settings say 'zoo'"]


def test_everything_that_the_configuration_names_must_be_there_and_all_that_is_not_is_reported(
    project: Project, source: ProjectRepository
) -> None:
    sha = shipped(
        project, source, "Names what is not there",
        {
            "prompt": "prompts/gone.jinja",
            "data": {"train": "data/gone.jsonl"},
            "deployment": {"smoke_tests": "gone.yaml"},
            "evaluation": {"metrics": ["perplexity", {"name": "mine", "function": "gone.py:f"}]},
        },
    )  # fmt: skip
    found = told(source, sha)
    assert "data.train: data/gone.jsonl is neither in Git nor tracked by DVC" in found[0]
    assert [p.split(" in Git")[0] for p in found[1:]] == [
        "llmops.yaml: prompt: there is no prompts/gone.jinja",
        "llmops.yaml: evaluation.metrics: mine: there is no gone.py",
        "llmops.yaml: deployment.smoke_tests: there is no gone.yaml",
    ]


def test_an_undefined_variable_in_a_prompt_is_reported_with_its_file(
    project: Project, source: ProjectRepository
) -> None:
    project.write("prompts/ask.jinja", "Q: {{ question }}\n")
    (found,) = told(source, shipped(project, source, "A typo"))
    assert found.startswith("prompts/ask.jinja: undefined variable 'question'")
    assert found.endswith("(named by prompt in llmops.yaml)")


def test_a_prompt_that_is_no_text_is_reported(project: Project, source: ProjectRepository) -> None:
    (project.folder / "prompts/ask.jinja").write_bytes(b"\xff {{ input }}")
    assert told(source, shipped(project, source, "Binary"))[0] == "prompts/ask.jinja: it is not UTF-8 text (byte 0)"


def test_a_mistake_in_the_smoke_tests_is_reported_with_its_line(project: Project, source: ProjectRepository) -> None:
    project.write("smoke.yaml", "- {name: a, input: b}\n- {name: c, inptu: d}\n")
    sha = shipped(project, source, "A typo", {"deployment": {"smoke_tests": "smoke.yaml"}})
    assert told(source, sha) == ["smoke.yaml:2: 1.inptu: unknown key; did you mean 'input'?"]


def test_a_data_version_is_that_of_its_own_pointer(project: Project, source: ProjectRepository) -> None:
    at = source.at(project.head)
    assert set(at.tracked) == {"data/train.jsonl", "data/test.jsonl", "models/base"}
    assert at.values["data"]["train"]["version"] == f"dvc:{at.tracked['data/train.jsonl'].md5}"
    assert at.values["model.base"]["version"].endswith(".dir")


def test_data_of_a_tracked_folder_has_the_folders_version_and_its_pointer_is_no_code(
    project: Project, source: ProjectRepository
) -> None:
    """Many teams run `dvc add data`: the Git sensor would have treated a change of rows as a change of code."""
    for path in ("data/train.jsonl.dvc", "data/test.jsonl.dvc", "data/.gitignore"):
        (project.folder / path).unlink()
    project.git("rm", "--quiet", "--cached", "-r", "data")
    project.dvc_add("data")
    before = shipped(project, source, "The folder as a whole")
    at = source.at(before)
    assert at.tracked["data/train.jsonl"] == at.tracked["data/test.jsonl"]
    assert source.missing_data(at) == []
    assert (source.pull(at, ["data/train.jsonl"]) / "data/train.jsonl").is_file()
    write_rows(project.folder / "data/train.jsonl", rows(30))
    project.dvc_add("data")
    after = shipped(project, source, "More rows")
    assert changed_values(source, before, after) == ["data"]


def test_data_that_a_dvc_pipeline_makes_has_the_version_of_its_lock(
    project: Project, source: ProjectRepository
) -> None:
    md5 = source.at(project.head).tracked["data/train.jsonl"].md5
    (project.folder / "data/train.jsonl.dvc").unlink()
    project.write("dvc.yaml", "stages:\n  make:\n    cmd: make\n    outs: [data/train.jsonl]\n")
    lock = "schema: '2.0'\nstages:\n  make:\n    cmd: make\n    outs:\n    - path: data/train.jsonl\n      md5: {}\n"
    project.write("dvc.lock", lock.format(md5))
    before = shipped(project, source, "A pipeline")
    assert source.at(before).tracked["data/train.jsonl"].md5 == md5
    project.write("dvc.lock", lock.format("a" * 32))
    after = shipped(project, source, "Made again")
    assert changed_values(source, before, after) == ["data"]
    assert source.missing_data(source.at(after)) == ["data/train.jsonl"]


def test_data_may_lie_in_git_itself(project: Project, source: ProjectRepository) -> None:
    write_rows(project.folder / "rows.jsonl", rows(3))
    sha = shipped(project, source, "Few rows", {"data": {"test": "rows.jsonl"}})
    at = source.at(sha)
    assert at.values["data"]["test"]["version"].startswith("git:") and "rows.jsonl" not in at.tracked
    assert (source.pull(at, ["rows.jsonl"]) / "rows.jsonl").is_file()


def test_a_pointer_that_a_merge_broke_is_reported(project: Project, source: ProjectRepository) -> None:
    project.write("data/train.jsonl.dvc", "<<<<<<< HEAD\nouts: [\n=======\n")
    (found,) = told(source, shipped(project, source, "Merged"))
    assert found.startswith("data/train.jsonl.dvc: not valid YAML; was a merge left unfinished?")


def test_a_lock_that_a_person_broke_is_reported(project: Project, source: ProjectRepository) -> None:
    """The error was an AttributeError that names no file."""
    (project.folder / "data/train.jsonl.dvc").unlink()
    project.write("dvc.lock", "stages: [data/train.jsonl]\n")
    (found,) = told(source, shipped(project, source, "Edited by hand"))
    assert found.startswith("dvc.lock: not as DVC writes it")
