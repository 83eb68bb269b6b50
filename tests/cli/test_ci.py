"""`llmops ci`: the checks of the stage on a working copy or a commit, without a home, for any CI system."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from llmops_assets.delivery.ci import MOST_RECORDED
from llmops_assets.domain.records import CiReport
from tests.support import commands
from tests.support.projects import Project, World

KEY = "AKIA" + "QYLPMN5HHHFPZAM2"
LINT = "import os\n"


@pytest.fixture
def llmops(tmp_path: Path) -> Callable[..., tuple[int, str, str]]:
    """Runs the command as another CI system does: no settings, and a home that nobody has made."""

    def run(*words: str, cwd: Path) -> tuple[int, str, str]:
        env = {k: v for k, v in os.environ.items() if not k.startswith(("LLMOPS_", "DAGSTER_"))}
        env |= {"LLMOPS_HOME": str(tmp_path / "home"), "COLUMNS": "200"}
        done = commands.llmops("ci", *words, cwd=cwd, env=env)
        assert "Traceback" not in done.stderr, done.stderr
        assert not (tmp_path / "home").exists(), "the command makes no home"
        return done.returncode, done.stdout, done.stderr

    return run


Llmops = Callable[..., tuple[int, str, str]]


def spoil(project: Project) -> None:
    """Breaks something of each kind."""
    project.write("src/metrics.py", LINT + f'KEY = "{KEY}"\n')
    project.write("tests/test_sums.py", "def test_sum():\n    total = 2 + 2\n    assert total == 5\n")


def findings(checks: Any) -> dict[str, list[tuple[Any, ...]]]:
    return {
        c["name"]: [(f["rule"], f["file"], f["line"], f["column"], f["message"], f["severity"]) for f in c["findings"]]
        for c in checks
    }


def test_the_stage_and_the_command_report_the_same(
    make_project: Callable[[], Project], make_world: Callable[..., World], llmops: Llmops, tmp_path: Path
) -> None:
    project = make_project()
    spoil(project)
    project.write("src/many.py", "".join(f"import module_{n}\n" for n in range(MOST_RECORDED + 20)))
    sha = project.ship("Spoiled")
    world = make_world(project)
    assert world.materialize("zoo", "ci_report").success
    record = world.ledger.records_of("zoo", sha)["ci_report"]
    assert isinstance(record, CiReport)
    files = world.clients.store.fetch(record.uri)

    sarif, junit = tmp_path / "made/here/report.sarif", tmp_path / "junit.xml"
    code, out, err = llmops(
        "--revision", sha, "--json", "--sarif", str(sarif), "--junit", str(junit), cwd=project.folder
    )
    told = json.loads(out)
    assert code == 1 and told["passed"] is False and told["revision"] == sha
    assert "ruff" in err and "failed: ruff, secrets, tests" in err, "progress and outcome"
    recorded = findings(c.model_dump() for c in record.checks)
    whole = findings(told["checks"])
    assert {name: listed[:MOST_RECORDED] for name, listed in whole.items()} == recorded
    assert len(whole["ruff"]) > MOST_RECORDED == len(recorded["ruff"])
    assert record.tools == told["tools"]

    def results(log: Path) -> Any:
        return [run["results"] for run in json.loads(log.read_text())["runs"]]

    assert results(sarif) == results(files / "report.sarif")
    cases = [case.get("name") for case in ElementTree.parse(junit).iter("testcase")]
    assert cases == [case.get("name") for case in ElementTree.parse(files / "junit.xml").iter("testcase")]
    assert {"ruff", "secrets", "prompt", "test_sum", "test_two_and_two_are_four"} <= set(cases)
    assert ("src/metrics.py", 2) in {(f[1], f[2]) for f in recorded["secrets"]}
    assert ("tests/test_sums.py", 3) in {(f[1], f[2]) for f in recorded["tests"]}
    assert KEY not in out + err + sarif.read_text() + junit.read_text() + record.model_dump_json()
    shown = world.instance.get_latest_materialization_event(record_key := _key())
    assert shown is not None and record_key is not None and shown.asset_materialization is not None
    metadata = shown.asset_materialization.metadata
    assert str(metadata["sarif"].value) == f"{record.uri}/report.sarif"
    assert str(metadata["junit"].value) == f"{record.uri}/junit.xml"


def _key() -> Any:
    import dagster as dg

    return dg.AssetKey(["zoo", "ci_report"])


def test_a_working_copy_is_checked_with_its_uncommitted_changes(project: Project, llmops: Llmops) -> None:
    code, out, _ = llmops(cwd=project.folder)
    assert code == 0 and "failed" not in out
    project.write("new.py", LINT)
    project.write(".gitignore", "ignored.py\n")
    project.write("ignored.py", LINT)
    (project.folder / "tests/test_nothing_is_broken.py").unlink()
    code, out, err = llmops(cwd=project.folder)
    assert code == 1 and "new.py:1:8: F401" in out and "ignored.py" not in out and "failed: ruff" in err
    assert "the project has no tests" in out
    code, out, _ = llmops("--revision", "HEAD", "--path", str(project.folder), cwd=project.root)
    assert code == 0 and "1 passed" in out, "the commit is as it was"


def test_only_secrets_that_the_base_does_not_have_are_new(project: Project, llmops: Llmops) -> None:
    project.write("old.py", f'KEY = "{KEY}"\n')
    project.commit("An old sin")
    project.git("branch", "before")
    project.write("more.py", "X = 1\n")
    project.commit("More")
    assert llmops("--json", cwd=project.folder)[0] == 1
    code, out, _ = llmops("--base", "before", "--json", cwd=project.folder)
    (secrets,) = [c for c in json.loads(out)["checks"] if c["name"] == "secrets"]
    assert code == 0 and "1 files that differ from" in secrets["summary"]


def test_broken_files_are_findings_at_their_lines(project: Project, llmops: Llmops) -> None:
    project.write("prompts/ask.jinja", "Hello\n\n{{ input | upper }}\n")
    project.configure({"deployment": {"smoke_tests": "smoke.yaml"}})
    project.write("smoke.yaml", "- name: a\n  input: hi\n  expect: {stats: 200}\n")
    code, out, _ = llmops("--json", cwd=project.folder)
    found = findings(json.loads(out)["checks"])
    assert code == 1
    assert [(f[1], f[2]) for f in found["prompt"]] == [("prompts/ask.jinja", 3)]
    assert [(f[1], f[2]) for f in found["smoke_tests"]] == [("smoke.yaml", 3)]
    assert found["configuration"] == found["training.prompt"] == []
    file = project.folder / "llmops.yaml"
    file.write_text(file.read_text() + "gatez: []\n")
    code, out, _ = llmops("--json", cwd=project.folder)
    ((_, name, line, *_),) = findings(json.loads(out)["checks"])["configuration"]
    assert code == 1 and (name, line) == ("llmops.yaml", len(file.read_text().splitlines()))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--path", "nowhere"), "llmops.yaml: no such file"),
        (("--revision", "no-such-branch"), "no commit 'no-such-branch'"),
        (("--revision=--help",), "no commit '--help'"),
        (("--base", "no-such-branch"), "no commit 'no-such-branch'"),
        (("--junit", "."), "cannot be written"),
        (("--sarif", "llmops.yaml/report.sarif"), "cannot be written"),
    ],
)
def test_misuse_is_one_error_before_any_work(
    project: Project, llmops: Llmops, words: tuple[str, ...], says: str
) -> None:
    code, out, err = llmops(*words, cwd=project.folder)
    assert code == 2 and says in err and "ruff" not in err and out == ""
