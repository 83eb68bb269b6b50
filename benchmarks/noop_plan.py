"""noop_plan: `llmops plan` when nothing changed, with a DVC directory of 100,000 files, over the same with 10.

Both include the interpreter's start. Every stage's record exists and production serves the release, so each plan looks
everything up and finds nothing to do; otherwise the benchmark fails.
"""

import hashlib
import json
import sys
from pathlib import Path

from benchmarks.harness import Benchmark, Goal, Measured, Unmeasured, command, interleaved, seconds_of
from benchmarks.place import Place
from llmops_assets.config.settings import Settings
from llmops_assets.config.settings_file import dump_settings
from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.domain.chain import CHAIN
from llmops_assets.domain.release import release_from_records
from resources.assembly import build_clients
from tests.support.projects import BASE_CONFIG, Project, rows
from tests.support.records import make_record

FEW, MANY, QUICK_MANY = 10, 100_000, 1_000
LLMOPS = str(Path(sys.executable).with_name("llmops"))


def measure(place: Place) -> Measured:
    many, few = (computed_home(place, n) for n in (QUICK_MANY if place.quick else MANY, FEW))
    for home in (many, few):
        _plan(home)  # warm-up: creates the mirror and compiles
    return interleaved(
        lambda: seconds_of(lambda: _plan(many)), lambda: seconds_of(lambda: _plan(few)), 1 if place.quick else 9
    )


def stages_of_plan(home: Path) -> list[dict[str, str]]:
    """Runs `llmops plan` in this home."""
    environment = {"LLMOPS_HOME": str(home), "LLMOPS_SETTINGS": str(home / "settings.yaml")}
    stages: list[dict[str, str]] = json.loads(command([LLMOPS, "plan", "--json"], environment))["stages"]
    return stages


def _plan(home: Path) -> None:
    stages = stages_of_plan(home)
    if computed := [s["stage"] for s in stages if s["action"] != "reuse"]:
        raise Unmeasured(f"not a no-op: the plan would compute {', '.join(computed)}")


def computed_home(place: Place, files: int) -> Path:
    """A home with a fully computed project whose data directory has this many files."""
    home = place.folder(f"plan-{files}")
    project = Project(home / "project", "zoo")
    for repository, bare in ((project.remote, ["--bare"]), (project.folder, [])):
        repository.mkdir(parents=True)
        command(["git", "init", "--quiet", "--initial-branch=main", *bare, str(repository)])
    project.git("remote", "add", "origin", str(project.remote))
    project.git("config", "user.name", "Ada")
    project.git("config", "user.email", "ada@example.com")
    project.configure({**BASE_CONFIG, "name": "zoo"})
    for prompt in ("ask", "train"):
        project.write(f"prompts/{prompt}.jinja", "Question: {{ input }}\n")
    project.write(".dvc/config", "[core]\n    remote = storage\n['remote \"storage\"']\n    url = ../../dvc-remote\n")
    _track(project, "data", files, ["train.jsonl", "test.jsonl"])
    _track(project, "models/base", 2, ["config.json", "model.safetensors"])
    project.commit("First commit")
    sha = project.push()
    settings = Settings(home=home, projects=(ProjectSource(name="zoo", repository=str(project.remote)),))
    (home / "settings.yaml").write_text(dump_settings(settings))
    _compute_all(settings, sha)
    return home


def _track(project: Project, path: str, files: int, named: list[str]) -> None:
    """Writes what `dvc add` and `dvc push` produce, without an hour of hashing: pointer, .dir object, contents.

    All files but the named ones contain the same line, which DVC stores once.
    """
    line = (json.dumps(rows(1)[0]) + "\n").encode()
    contents = {n: f"{n}\n".encode() for n in named} | {f"raw/{n:06}.jsonl": line for n in range(files - len(named))}
    listing = [{"md5": hashlib.md5(c).hexdigest(), "relpath": p} for p, c in sorted(contents.items())]
    body = json.dumps(listing).encode()
    version = f"{hashlib.md5(body).hexdigest()}.dir"
    objects = {hashlib.md5(c).hexdigest(): c for c in set(contents.values())} | {version: body}
    for name, content in objects.items():
        file = project.root / "dvc-remote/files/md5" / name[:2] / name[2:]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    size = sum(len(c) for c in contents.values())
    project.write(
        f"{path}.dvc",
        f"outs:\n- md5: {version}\n  size: {size}\n  nfiles: {files}\n  hash: md5\n  path: {path.split('/')[-1]}\n",
    )


def _compute_all(settings: Settings, sha: str) -> None:
    """Fills the ledger as a finished run would, without the run."""
    clients = build_clients(settings)
    ledger, source = clients.ledger, clients.sources(settings.projects[0])
    source.git.fetch()
    values = source.at(sha).values
    for stage in CHAIN:
        found = ledger.resolve(values)
        if stage.name in found.keys:
            reads = {r: found.outputs[r] for r in stage.records}
            record = make_record(stage, found.keys[stage.name], reads, values, sha)
            if record.made:  # a plan checks the artifacts that it would reuse
                made = settings.home / "made" / stage.name
                made.mkdir(parents=True)
                (made / "content.txt").write_text(stage.name)
                record = record.model_copy(update={"uri": clients.store.put(made).uri})
            ledger.commit(record)
    release = release_from_records("zoo", values, ledger.resolve(values).records)
    assert release is not None
    ledger.add_release(release, sha)
    ledger.serve("zoo", "production", release.digest, sha)


BENCHMARK = Benchmark(
    name="noop_plan",
    unit="s",
    against="the same with 10 files",
    goals=(Goal("value", "at most", 1.5), Goal("ratio", "at most", 1.5)),
    measure=measure,
)
