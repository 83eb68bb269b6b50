"""Symbolic links and imports of a project: what is read is what its keys cover, and nothing else is read.

A link to another project's rows, or to a file of the host, was hashed as its text and followed when it was read.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmops_assets.config.settings import Settings
from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.config.yaml_validation import ConfigError
from resources.project_source.errors import RemoteUnreachable, SourceError
from resources.project_source.revisions import ProjectRepository
from tests.support.projects import Project, rows, write_rows


@pytest.fixture
def source(project: Project, tmp_path: Path) -> ProjectRepository:
    project.push()
    watched = ProjectSource(name="zoo", repository=str(project.remote))
    return ProjectRepository(watched, Settings(home=tmp_path / "home", projects=(watched,)))


def values(project: Project, source: ProjectRepository, change: dict[str, Any] | None = None) -> dict[str, Any]:
    """The resolved values after a commit of everything."""
    sha = project.ship("A change", change)
    source.git.fetch()
    return source.at(sha).values


def link(project: Project, path: str, to: str) -> None:
    place = project.folder / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    place.symlink_to(to)


@pytest.mark.parametrize(
    ("path", "to"),
    [
        ("rows.jsonl", "/etc/passwd"),
        ("prompts/ask.jinja", "../../other/prompts/ask.jinja"),
        ("deep/er", "../deep/../../elsewhere"),
        ("circle", "circle"),
        ("shared", "../../../store"),
    ],
)
def test_a_link_that_leaves_the_project_is_refused_with_its_place_and_target(
    project: Project, source: ProjectRepository, path: str, to: str
) -> None:
    link(project, path, to)
    with pytest.raises(ConfigError) as refused:
        values(project, source)
    (problem,) = refused.value.problems
    assert problem.startswith(f"{path}: a symbolic link to {to}, ") and "replace it" in problem


def test_a_link_that_leaves_through_another_link_is_refused(project: Project, source: ProjectRepository) -> None:
    link(project, "a/b/up", "../..")
    link(project, "c", "a/b/up/../outside")
    with pytest.raises(ConfigError, match=r"c: a symbolic link to a/b/up/\.\./outside, outside the project"):
        values(project, source)


def test_a_link_inside_is_read_and_hashed_as_what_it_leads_to(project: Project, source: ProjectRepository) -> None:
    """Its text was taken for the prompt, and a change of the target changed no key."""
    project.write("docs/real.jinja", "Tell: {{ input }}\n")
    link(project, "prompts/ask.jinja", "../docs/real.jinja")
    write_rows(project.folder / "rows/test.jsonl", rows(3))
    link(project, "latest", "rows")
    link(project, "code.py", "docs/real.py")
    project.write("docs/real.py", "A = 1\n")
    before = values(project, source, {"data": {"test": "latest/test.jsonl"}})
    assert before["prompt"] == "Tell: {{ input }}\n"
    project.write("docs/real.jinja", "Say: {{ input }}\n")
    after = values(project, source)
    assert after["prompt"] == "Say: {{ input }}\n"
    write_rows(project.folder / "rows/test.jsonl", rows(4))
    project.write("docs/real.py", "A = 2\n")  # docs are ignored, but this one is also code
    last = values(project, source)
    assert last["data"] != after["data"] and last["tree"] != after["tree"]


def test_pulled_data_that_leads_out_of_the_project_is_refused(project: Project, source: ProjectRepository) -> None:
    """The rows of another project, or a file of the host, in the place of pulled data."""
    project.push()
    source.git.fetch()
    at = source.at(project.head)
    tree = source.pull(at, ["data/test.jsonl", "models/base"])
    (tree / "models/base/config.json").unlink()
    (tree / "models/base/config.json").symlink_to("/etc/hostname")
    with pytest.raises(SourceError, match=r"models/base/config.json: a symbolic link to /etc/hostname; replace it"):
        source.pull(at, ["data/test.jsonl", "models/base"])


def test_a_tracked_folder_writes_nothing_outside_itself(project: Project, source: ProjectRepository) -> None:
    """DVC wrote `../../elsewhere/x` of a folder's list beside the work tree: any file of the location's user."""
    pointer = project.folder / "models/base.dvc"
    value = yaml.safe_load(pointer.read_text())
    md5 = project.root / "dvc-remote/files/md5"
    old = value["outs"][0]["md5"]
    listing = json.loads((md5 / old[:2] / old[2:]).read_text())
    listing[0]["relpath"] = "../../../escaped/x"
    text = json.dumps(listing)
    new = hashlib.md5(text.encode()).hexdigest() + ".dir"
    (md5 / new[:2]).mkdir(exist_ok=True)
    (md5 / new[:2] / new[2:]).write_text(text)
    value["outs"][0]["md5"] = new
    pointer.write_text(yaml.safe_dump(value))
    values(project, source)
    at = source.at(project.head)
    with pytest.raises(SourceError, match=r"models/base: its list of files has '\.\./\.\./\.\./escaped/x'"):
        source.pull(at, ["data/test.jsonl", "models/base"])
    assert not list(project.root.parent.rglob("escaped"))


@pytest.mark.parametrize("md5", ["../../../../etc/passwd", "ab", "g" * 32])
def test_a_version_that_is_no_digest_is_refused(project: Project, source: ProjectRepository, md5: str) -> None:
    """DVC makes paths from it."""
    pointer = project.folder / "data/test.jsonl.dvc"
    value = yaml.safe_load(pointer.read_text())
    value["outs"][0]["md5"] = md5
    pointer.write_text(yaml.safe_dump(value))
    with pytest.raises(ConfigError, match=r"data/test\.jsonl\.dvc: not as DVC writes it"):
        values(project, source)


def test_a_pointer_to_another_path_is_not_the_version_of_this_one(project: Project, source: ProjectRepository) -> None:
    """The key had the pointer's digest, and the program read whatever lay at the path."""
    pointer = project.folder / "data/test.jsonl.dvc"
    value = yaml.safe_load(pointer.read_text())
    value["outs"][0]["path"] = "elsewhere.jsonl"
    pointer.write_text(yaml.safe_dump(value))
    with pytest.raises(ConfigError, match=r"data\.test: data/test\.jsonl is neither in Git nor tracked by DVC"):
        values(project, source)


def test_a_metrics_key_covers_what_it_imports_and_what_it_names(project: Project, source: ProjectRepository) -> None:
    """A helper changed, the key did not, and the stale report was used again."""
    files = {
        "lib/__init__.py": "",
        "lib/metrics.py": "from .near import f\nimport far.deep\n\ndef metric(p, r):\n    return f(p)\n",
        "lib/near.py": "def f(p):\n    from far import late\n    return late.g(p)\n",
        "far/__init__.py": "",
        "far/deep.py": "",
        "far/late.py": "def g(p):\n    return 1.0\n",
        "far/unused.py": "",
        "words/de.txt": "ja",
    }
    for path, text in files.items():
        project.write(path, text)
    metric = {"name": "mine", "function": "lib/metrics.py:metric", "files": ["words/*.txt"]}
    seen = [values(project, source, {"evaluation": {"metrics": ["perplexity", metric]}})["evaluation"]]
    covered = [path for path in files if path != "far/unused.py"]
    for path in covered:
        project.write(path, files[path] + "\n# changed\n")
        seen.append(values(project, source)["evaluation"])
    assert len({json.dumps(v) for v in seen}) == len(covered) + 1
    assert source.at(project.head).metric_files["mine"] == tuple(sorted(covered))
    project.write("far/unused.py", "A = 1\n")
    project.write("tests/test_more.py", "def test_a():\n    pass\n")
    assert values(project, source)["evaluation"] == seen[-1]


@pytest.mark.parametrize(("size", "said"), [(2_000_000, "larger than 1024 KB"), (700_000, "more than 8 MB")])
def test_a_metric_that_imports_a_mass_of_code_is_refused_with_the_file(
    project: Project, source: ProjectRepository, size: int, said: str
) -> None:
    """A generated word list of any size was parsed as Python in each tick that looked at the commit."""
    count = 13 if size < 1_000_000 else 1
    project.write("m.py", "".join(f"import words{n}\n" for n in range(count)) + "def f(p, r):\n    return 1.0\n")
    for n in range(count):
        project.write(f"words{n}.py", "#" * size)
    with pytest.raises(ConfigError, match=rf"llmops\.yaml: evaluation\.metrics: mine: .*words\d+\.py.*{said}|{said}"):
        values(project, source, {"evaluation": {"metrics": ["perplexity", {"name": "mine", "function": "m.py:f"}]}})


def test_a_list_of_files_that_cannot_be_read_is_no_folder_without_one(
    project: Project, source: ProjectRepository
) -> None:
    """DVC's `exists` says no to a remote that does not answer: the folder's list was not checked, and then pulled."""
    source.git.fetch()
    at = source.at(project.head)
    store = project.root / "dvc-remote/files"
    store.rename(store.with_name("elsewhere"))
    store.write_text("a disk that answers with an error")
    with pytest.raises(RemoteUnreachable, match=r"the DVC remote .* cannot be reached"):
        source.pull(at, ["models/base"])
    store.unlink()
    store.with_name("elsewhere").rename(store)
    (listing,) = store.rglob("*.dir")
    listing.chmod(0o600)
    with listing.open("r+b") as file:
        file.truncate(65 * 1024**2)
    with pytest.raises(SourceError, match=r"models/base: its list of files is longer than 64 MB"):
        source.pull(at, ["models/base"])


def test_a_pull_that_does_not_end_is_given_up(project: Project, source: ProjectRepository) -> None:
    """Only programs had a time limit: a remote that stopped answering held the run, and its project, for good."""
    source.git.fetch()
    source.dvc.pull_limit_s = 0.05
    with pytest.raises(
        RemoteUnreachable, match=r"dvc pull of data/test\.jsonl did not end within 50 ms \(pull_timeout"
    ):
        source.pull(source.at(project.head), ["data/test.jsonl"])
