"""plan_history: `llmops plan` of a commit after 10,000 others, over the same after 10.

Each earlier commit changed the README, and has its request and a ci_report in the ledger: a project of many years.
The planned commit adds a test, so its plan runs ci_report, with an estimate from its history, and reuses the rest:
otherwise the benchmark fails. Both include the interpreter's start.
"""

import subprocess
from pathlib import Path

from benchmarks.harness import Benchmark, Goal, Measured, Unmeasured, interleaved, seconds_of
from benchmarks.noop_plan import computed_home, stages_of_plan
from benchmarks.place import Place
from llmops_assets.config.settings import Settings
from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.domain.chain import STAGES
from llmops_assets.domain.keys import digest
from resources.assembly import build_clients
from resources.ledger import sql
from tests.support.projects import Project
from tests.support.records import make_record

FEW, MANY, QUICK_MANY = 10, 10_000, 100


def measure(place: Place) -> Measured:
    many, few = (_home(place, n) for n in (QUICK_MANY if place.quick else MANY, FEW))
    for home in (many, few):
        _plan(home)  # warm-up: creates the mirror and compiles
    return interleaved(
        lambda: seconds_of(lambda: _plan(many)), lambda: seconds_of(lambda: _plan(few)), 1 if place.quick else 7
    )


def _plan(home: Path) -> None:
    runs = [s["stage"] for s in stages_of_plan(home) if s["action"] != "reuse"]
    if runs != ["ci_report"]:
        raise Unmeasured(f"the plan would run {', '.join(runs) or 'nothing'}, not ci_report alone")


def _home(place: Place, commits: int) -> Path:
    """A home whose project has this many commits before the planned one."""
    home = computed_home(place, 10)
    project = Project(home / "project", "zoo")
    _import_commits(project, commits)
    _fill_ledger(home, project.git("rev-list", "--reverse", "HEAD").split())
    project.write("tests/test_more.py", "def test_three():\n    assert 1 + 2 == 3\n")
    project.commit("The planned one")
    project.push()
    return home


def _import_commits(project: Project, commits: int) -> None:
    """Thousands of commits in a second, as `git commit` would make them."""
    who = "Ada <ada@example.com>"
    lines = []
    for number in range(commits):
        said, text = f"Commit {number}", f"# A project, version {number}\n"
        lines.append(f"commit refs/heads/main\ncommitter {who} {1_700_000_000 + number} +0000\n")
        lines.append(f"data {len(said)}\n{said}\n" + ("from refs/heads/main^0\n" if number == 0 else ""))
        lines.append(f"M 100644 inline README.md\ndata {len(text)}\n{text}\n")
    subprocess.run(["git", "fast-import", "--quiet"], input="".join(lines), text=True, cwd=project.folder, check=True)
    project.git("reset", "--quiet", "--hard", "main")


def _fill_ledger(home: Path, revisions: list[str]) -> None:
    """A request and a ci_report of each commit, written at once: a transaction each would take half a minute."""
    source = ProjectSource(name="zoo", repository=str(home / "project" / "remote.git"))
    settings = Settings(home=home, projects=(source,))
    ledger = build_clients(settings).ledger
    stage, now = STAGES["ci_report"], ledger.clock()
    requests, records, edges = [], [], []
    for revision in revisions:
        key = digest(["history", revision])
        what = {"status": "done", "reason": "project files changed", "asked_by": "sensor", "tries": 1, "detail": ""}
        when = {"created": now, "updated": now}
        requests.append({"project": "zoo", "revision": revision, "generation": 1, **what, **when})
        body = make_record(stage, key, {}, {}, revision).model_dump_json()
        records.append({"key": key, "stage": stage.name, "body": body, "created": now})
        edges.append(
            {"project": "zoo", "revision": revision, "stage": stage.name, "key": key, "reused": False, "updated": now}
        )
    with ledger.engine.begin() as c:
        for table, rows in ((sql.requests, requests), (sql.records, records), (sql.edges, edges)):
            c.execute(sql.insert(table), rows)
    ledger.engine.dispose()


BENCHMARK = Benchmark(
    name="plan_history",
    unit="s",
    against="the same after 10 commits",
    goals=(Goal("value", "at most", 1.5), Goal("ratio", "at most", 1.5)),
    measure=measure,
)
