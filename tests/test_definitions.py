"""The code location loads fast in a fresh interpreter, without environment, services or heavy imports."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._core.snap.snap_to_yaml import default_values_yaml_from_type_snap

from llmops_assets.config.garbage import GarbageSettings
from llmops_assets.config.settings import Settings
from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.domain.chain import CHAIN, CHECKS, STAGES
from llmops_assets.location import STAGE_BUILDERS, build_definitions

REPOSITORY = Path(__file__).parents[1]
HEAVY = (
    "torch", "transformers", "peft", "datasets", "evaluate", "mlflow", "dagster_mlflow", "dagster_k8s", "dagster_aws",
    "dagster_postgres", "dvc", "pygit2", "boto3", "s3fs", "numpy", "pandas", "xllamacpp", "openai", "sqlalchemy",
    "pytest",
)  # fmt: skip

LOAD = """
import json, os, sys
opened, sockets = [], []

def watch(event, args):
    if event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        opened.extend([str(args[0])] if args[0] != os.devnull else [])
    elif event in ("os.mkdir", "os.rename", "os.remove"):
        opened.append(str(args[0]))
    elif event in ("socket.connect", "socket.bind", "socket.getaddrinfo"):
        sockets.append(event)

sys.addaudithook(watch)
sys.dont_write_bytecode = True
from llmops_assets.definitions import defs
told = list(opened), list(sockets), sorted({m.split(".")[0] for m in sys.modules})
import dagster as dg
repository = defs.get_repository_def()
keys = [k for k in repository.asset_graph.get_all_asset_keys()]
sensors = repository.sensor_defs
print(json.dumps({
    "written": told[0], "sockets": told[1], "modules": told[2],
    "metadata": {k: str(v) for k, v in (defs.metadata or {}).items()},
    "stages": sorted("/".join(k.path) for k in keys if k in repository.asset_graph.executable_asset_keys),
    "sources": sorted("/".join(k.path) for k in keys if k not in repository.asset_graph.executable_asset_keys),
    "sensors": {s.name: s.default_status.value for s in sensors},
    "jobs": sorted(j.name for j in repository.get_all_jobs() if not j.name.startswith("__")),
}))
"""


def load(folder: Path, **environment: str) -> dict[str, Any]:
    """Loads the location in a fresh interpreter, in an empty folder, with only this environment."""
    done = subprocess.run(
        [sys.executable, "-c", LOAD],
        cwd=folder,
        env={"PATH": os.defpath, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("bare")
    return folder, load(folder, LLMOPS_HOME=str(folder / "home"))


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A location that watches two unreachable projects."""
    folder = tmp_path_factory.mktemp("two")
    (folder / "settings.yaml").write_text(
        "projects:\n"
        "  - {name: zoo, repository: https://nowhere.invalid/zoo.git, owners: [ada@example.com]}\n"
        "  - {name: big-farm, repository: ./farm, branch: trunk}\n"
        "home: ./home\n"
    )
    return folder, load(folder, LLMOPS_SETTINGS=str(folder / "settings.yaml"))


def test_it_loads_without_any_environment(tmp_path: Path) -> None:
    """No HOME, LLMOPS_HOME or DAGSTER_HOME: a container or a service manager may start it like this."""
    assert load(tmp_path, XDG_DATA_HOME=str(tmp_path / "nothing"))["stages"] == []
    assert list(tmp_path.iterdir()) == []


def test_loading_imports_nothing_heavy(two: tuple[Path, dict[str, Any]]) -> None:
    assert [m for m in HEAVY if m in two[1]["modules"]] == []


def test_loading_opens_no_connection_and_writes_no_file(
    bare: tuple[Path, dict[str, Any]], two: tuple[Path, dict[str, Any]]
) -> None:
    for folder, found in (bare, two):
        assert found["sockets"] == [] and found["written"] == []
        assert sorted(p.name for p in folder.iterdir()) in ([], ["settings.yaml"])


def test_without_projects_it_is_empty_and_says_what_to_do(bare: tuple[Path, dict[str, Any]]) -> None:
    found = bare[1]
    assert (found["stages"], found["sensors"], found["jobs"]) == ([], {}, [])
    assert "LLMOPS_SETTINGS" in found["metadata"]["hint"] and "make demo" in found["metadata"]["hint"]


def test_two_projects_have_two_chains_and_six_sensors_that_run(two: tuple[Path, dict[str, Any]]) -> None:
    found = two[1]
    assert len(found["stages"]) == 26
    assert set(found["stages"]) == {f"{p}/{s.name}" for p in ("zoo", "big-farm") for s in CHAIN}
    assert found["sources"] == ["big-farm/data", "big-farm/repository", "zoo/data", "zoo/repository"]
    assert found["sensors"] == {f"{p}_{s}": "RUNNING" for p in ("zoo", "big_farm") for s in ("git", "dvc", "recovery")}
    delivering = [f"{p}_{job}" for p in ("big_farm", "zoo") for job in ("deliver", "rollback")]
    assert found["jobs"] == sorted(["collect_garbage", *delivering])


@pytest.mark.parametrize(
    ("text", "told"),
    [("projets: []\n", "did you mean 'projects'?"), ("{", "not valid YAML"), (None, "no such file"),
     ("projects: [{name: zoo, repository: x, owners: [nobody]}]\n", "owners")],
)  # fmt: skip
def test_broken_settings_give_an_empty_location_that_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, told: str
) -> None:
    """A location that fails to load has no page to show the message."""
    file = tmp_path / "settings.yaml"
    if text is not None:
        file.write_text(text)
    monkeypatch.setenv("LLMOPS_SETTINGS", str(file))
    monkeypatch.setenv("LLMOPS_HOME", str(tmp_path / "home"))
    defs = runpy.run_module("llmops_assets.definitions")["defs"]  # as Dagster loads it, in this interpreter
    assert defs.get_repository_def().asset_graph.get_all_asset_keys() == set()
    hint = str(defs.metadata["hint"])
    assert told in hint and "The settings are invalid" in hint


# -- what Dagster shows ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def definitions(tmp_path_factory: pytest.TempPathFactory) -> dg.Definitions:
    project = ProjectSource(name="big-farm", repository="/nowhere", owners=("ada@example.com", "team:ml"))
    return build_definitions(Settings(projects=(project,), home=tmp_path_factory.mktemp("home")))


@pytest.fixture(scope="module")
def specs(definitions: dg.Definitions) -> dict[str, dg.AssetSpec]:
    return {s.key.path[-1]: s for s in definitions.resolve_all_asset_specs()}


def test_every_asset_says_what_it_is_whose_it_is_and_with_what_it_is_made(specs: dict[str, dg.AssetSpec]) -> None:
    assert set(specs) == {*STAGES, "repository", "data"}
    for name, spec in specs.items():
        assert spec.description and spec.kinds, name
        assert spec.group_name == "big_farm" and list(spec.owners) == ["ada@example.com", "team:ml"], name
        assert spec.key.path[0] == "big-farm", name


def test_every_stage_depends_in_dagster_on_what_it_stands_on_in_the_chain(specs: dict[str, dg.AssetSpec]) -> None:
    for stage in CHAIN:
        shown = {d.asset_key.path[-1] for d in specs[stage.name].deps} - {"repository", "data"}
        assert shown == set(stage.upstream), stage.name
        assert specs[stage.name].code_version == str(stage.version)
    assert "repository" in {d.asset_key.path[-1] for d in specs["ci_report"].deps}
    assert "data" in {d.asset_key.path[-1] for d in specs["dataset_version"].deps}
    assert len(STAGE_BUILDERS) == len(CHAIN)


def test_all_stages_of_a_project_share_one_pool(definitions: dg.Definitions) -> None:
    """So that manual runs wait for their turn, too."""
    pools = {op.pool for a in definitions.assets or () if isinstance(a, dg.AssetsDefinition) and (op := a.op)}
    assert pools == {"big_farm"}


def test_every_judged_stage_has_a_check_that_shows_the_verdict(definitions: dg.Definitions) -> None:
    keys = definitions.get_repository_def().asset_graph.asset_check_keys
    checked = {k.asset_key.path[-1] for k in keys}
    assert checked >= {"ci_report", "dataset_version", "evaluation_report", "served_evaluation_report"}


def test_each_check_says_whose_verdict_it_is_and_who_acts_on_it(definitions: dg.Definitions) -> None:
    graph = definitions.get_repository_def().asset_graph
    said = {
        k.asset_key.path[-1]: graph.get(k).description or "" for k in graph.asset_check_keys if k.name != "evidence"
    }
    assert set(said) == set(CHECKS)
    for name, text in said.items():
        judges = [s.name for s in CHAIN if name in s.requires]
        assert text.startswith("The verdict, with all its reasons."), name
        assert all(judge in text for judge in judges) and ("No stage depends on it" in text) is not bool(judges), name


def test_the_check_of_the_evidence_says_what_a_stage_requires(definitions: dg.Definitions) -> None:
    graph = definitions.get_repository_def().asset_graph
    found = {
        k.asset_key.path[-1]: graph.get(k).description or "" for k in graph.asset_check_keys if k.name == "evidence"
    }
    assert set(found) == {s.name for s in CHAIN if s.requires}
    assert all(up in found[s.name] for s in CHAIN if s.requires for up in s.requires)


def test_jobs_and_sensors_say_what_they_are_for(definitions: dg.Definitions) -> None:
    repository = definitions.get_repository_def()
    jobs = [j for j in repository.get_all_jobs() if not j.name.startswith("__")]
    assert [j.name for j in jobs if not j.description] == []
    assert [s.name for s in repository.sensor_defs if not s.description] == []
    assert {j.tags["llmops/project"] for j in jobs if j.name != "collect_garbage"} == {"big-farm"}
    assert {s.name: s.default_status.value for s in repository.schedule_defs} == {"collect_garbage_nightly": "RUNNING"}


def test_the_settings_switch_the_nightly_collection_off(tmp_path: Path) -> None:
    project = ProjectSource(name="zoo", repository="/nowhere")
    off = Settings(home=tmp_path, projects=(project,), gc=GarbageSettings(schedule="off"))
    assert list(build_definitions(off).get_repository_def().schedule_defs) == []


def test_whatever_may_be_said_in_the_launchpad_is_described(definitions: dg.Definitions) -> None:
    repository = definitions.get_repository_def()
    nodes = [n.definition for j in repository.get_all_jobs() for n in j.graph.nodes]
    fields = {
        (node.name, name): field
        for node in nodes
        if isinstance(node, dg.OpDefinition)
        for name, field in node.config_schema.config_type.fields.items()  # type: ignore[union-attr]
    }
    assert {name for _, name in fields} == {
        "revision", "deploy_older", "model", "release", "report", "budget", "decision", "reason", "by", "to", "dry_run",
    }  # fmt: skip
    assert [where for where, field in fields.items() if not field.description] == []
    assert [node for node, name in fields if name == "deploy_older"] == ["big_farm__production_endpoint"]


def test_a_resource_is_replaced_by_its_name_and_no_other(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="no such client: legder"):
        build_definitions(Settings(home=tmp_path), legder=None)


def test_the_launchpad_of_an_approval_offers_the_decision() -> None:
    """README names it, but the launchpad showed only revision, release, reason and by: it hides a default of null."""
    settings = Settings(projects=(ProjectSource(name="zoo", repository="/nowhere"),))
    snapshot = build_definitions(settings).resolve_job_def("zoo_deliver").get_job_snapshot()
    schema = snapshot.config_schema_snapshot
    root = schema.get_config_snap(snapshot.mode_def_snaps[0].root_config_key or "")
    shown = yaml.safe_load(default_values_yaml_from_type_snap(schema, root))
    config = shown["ops"]["zoo__release_approval"]["config"]
    assert config == {"revision": "", "decision": "none", "release": "", "reason": "", "by": ""}
    config = shown["ops"]["zoo__ci_report"]["config"]
    assert config == {"revision": "", "decision": "none", "budget": "", "reason": "", "by": ""}
