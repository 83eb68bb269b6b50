"""A package adds parts to the catalog by an entry point, without any other edit; and metrics with files and judges."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.support.judge_server import RUBRIC, judge_server
from tests.support.projects import Project, free_port, furnish

HERE = Path(__file__).parent
TASK = """\
output_type: multiple_choice
doc_to_text: "Is {{ n }} even?"
doc_to_choice: ["yes", "no"]
doc_to_target: even
metric_list: [{metric: acc}]
"""
LABELS = (
    {"input": "q", "answer_a": "good", "answer_b": "bad", "label": "a"},
    {"input": "q", "answer_a": "bad", "answer_b": "good", "label": "b"},
)


class Location:
    """A home whose Python environment has the dummy package; tests use it only through `llmops`."""

    def __init__(self, root: Path, project: Project, judge: str, cache: Path):
        site = root / "site-packages"
        info = site / "dummy_parts-1.0.dist-info"
        info.mkdir(parents=True)
        for module in ("dummy_parts.py", "dummy_metric.py"):
            shutil.copyfile(HERE / module, site / module)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: dummy-parts\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[llmops_assets.parts]\ndummy = dummy_parts:PARTS\n")
        self.project, self.home = project, root / "home"
        settings = {
            "projects": [{"name": "zoo", "repository": str(project.remote)}],
            "home": str(self.home),
            "compute": {"backend": "dummy-compute", "threads": 1},
            "serving": {"port": free_port(), "drain": 0},
            "judges": [{"name": "main", "base_url": judge, "model": "judge", "api_key": {"env": "THE_JUDGES_KEY"}}],
        }
        furnish(self.home, cache, forks=False)
        (root / "settings.yaml").write_text(yaml.safe_dump(settings))
        self.env = {
            **os.environ,
            "PYTHONPATH": str(site),
            "LLMOPS_SETTINGS": str(root / "settings.yaml"),
            "LLMOPS_HOME": str(self.home),
            "DAGSTER_HOME": str(self.home / "dagster"),
            "COLUMNS": "200",
            "THE_JUDGES_KEY": "s3cret-of-the-judge",
        }

    @contextmanager
    def broken(self) -> Iterator[None]:
        """Makes the package fail to import inside the block."""
        file = Path(self.env["PYTHONPATH"]) / "dummy_parts.py"
        whole = file.read_text()
        file.write_text("this is no Python\n")
        try:
            yield
        finally:
            file.write_text(whole)

    def llmops(self, *words: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "llmops_assets.cli", *words], env=self.env, capture_output=True, text=True
        )
        return done.returncode, done.stdout if done.returncode == 0 else done.stdout + done.stderr


@pytest.fixture(scope="module")
def location(tmp_path_factory: pytest.TempPathFactory, template_project: Project, cache: Path) -> Iterator[Location]:
    root = tmp_path_factory.mktemp("installed")
    project = template_project.copy_to(root / "zoo")
    with judge_server() as judge:
        judge.key = "s3cret-of-the-judge"
        made = Location(root, project, judge.url, cache)
        yield made
        made.llmops("down", "--forget")


def test_a_metric_an_engine_and_a_compute_backend_of_another_package_work_from_commit_to_endpoint(
    location: Location,
) -> None:
    """So do metrics that need a file, a model of an extra, a judge with a key, and people's labels."""
    location.project.write("schemas/answer.json", '{"type": "object"}')
    location.project.write("judge/rubric.txt", RUBRIC)
    location.project.write("judge/labels.jsonl", "".join(json.dumps(label) + "\n" for label in LABELS))
    judged = {"metric": "llm_judge", "name": "quality", "judge": "main", "file": "judge/rubric.txt"}
    judged |= {"labels": "judge/labels.jsonl", "min_agreement": 0.9}
    location.project.write("tasks/even.yaml", TASK)
    location.project.write("tasks/even.jsonl", "".join(json.dumps({"n": n, "even": n % 2}) + "\n" for n in range(12)))
    task = {"metric": "lm_eval", "name": "even", "file": "tasks/even.yaml", "rows": "tasks/even.jsonl"}
    tasks = [task] if find_spec("lm_eval") else []
    schema = {"metric": "json_schema", "file": "schemas/answer.json"}
    location.project.ship(
        "Measured, served and computed by somebody else's parts",
        {
            "evaluation": {"metrics": ["perplexity", "answer_length", "similarity", schema, judged, *tasks]},
            "gates": [
                {"metric": "answer_length", "of": "served", "at_most": 10_000},
                *({"metric": one["name"], "at_least": 0, "confidence": "90%"} for one in tasks),
            ],
            "deployment": {"engine": "dummy-engine"},
        },
    )
    code, said = location.llmops("run", "zoo", "--wait")
    assert code == 0, said
    code, traced = location.llmops("trace", "production", "--json")
    found: dict[str, Any] = json.loads(traced)
    assert set(found["evaluation"]["metrics"]) == {
        "perplexity", "answer_length", "similarity", "json_schema", "quality", *(one["name"] for one in tasks)
    }  # fmt: skip
    assert found["evaluation"]["metrics"]["quality"] == 0.5, "neither the model nor the references are called good"
    assert found["evaluation"]["metrics"]["json_schema"] == 0
    for report in ("evaluation", "served_evaluation"):
        assert 0 <= found[report]["metrics"].get("even", 0) <= 1 and ("even" in found[report]["metrics"]) == bool(tasks)
    page = next((location.home / "store").rglob("report.html")).read_text()
    assert "LLM judge (quality)" in page and "agreement with 2 labelled pairs: kappa 1.00, accuracy 100%" in page
    for file in location.home.rglob("*"):
        assert not (file.is_file() and b"s3cret-of-the-judge" in file.read_bytes()), f"{file} holds the API key"
    assert found["served_evaluation"]["metrics"]["answer_length"] >= 0
    assert found["configuration"]["engine"]["engine"] == "dummy-engine"
    _, listed = location.llmops("endpoints", "--json")
    production = next(e for e in json.loads(listed) if e["environment"] == "production")
    assert production["status"] == "serving"
    models = httpx.get(f"{production['base_url']}/models", headers={"Connection": "close"}).json()
    assert [m["id"] for m in models["data"]] == ["served-by-the-dummy-engine"]
    ran = (location.home / "dummy-compute.log").read_text().split()
    assert ran == ["ci", "dataset", "train", "evaluate", "quantize", "served_evaluate"]


def test_editors_and_messages_list_the_parts_of_other_packages(location: Location) -> None:
    _, text = location.llmops("schema")
    engine = json.loads(text)["$defs"]["Deployment"]["properties"]["engine"]
    assert engine["enum"] == ["llama.cpp", "dummy-engine"]
    location.project.configure({"deployment": {"engine": "dummy-engin"}})
    code, said = location.llmops("check", "--path", str(location.project.folder))
    line = 1 + (location.project.folder / "llmops.yaml").read_text().splitlines().index("  engine: dummy-engin")
    assert code == 2 and f"llmops.yaml:{line}: deployment.engine: unknown engine 'dummy-engin'" in said
    assert "(known: llama.cpp, dummy-engine); did you mean 'dummy-engine'?" in said


def test_a_package_whose_parts_cannot_be_imported_is_named_and_stops_only_its_users(location: Location) -> None:
    location.project.configure(
        {"deployment": {"engine": "llama.cpp"}, "evaluation": {"metrics": ["rougeL"]}, "gates": []}
    )
    with location.broken():
        assert location.llmops("check", "--path", str(location.project.folder))[0] == 0, "its own parts need no package"
        location.project.configure({"evaluation": {"metrics": ["answer_length"]}})
        code, said = location.llmops("check", "--path", str(location.project.folder))
    assert code == 2 and "Traceback" not in said
    assert "evaluation.metrics" in said and "dummy_parts:PARTS of the installed package dummy-parts" in said
    assert "cannot be imported: SyntaxError" in said and "fix or uninstall the package" in said


def test_a_part_whose_library_is_not_installed_is_refused_by_check_with_the_command_that_installs_it(
    location: Location,
) -> None:
    location.project.configure(
        {"deployment": {"engine": "llama.cpp"}, "evaluation": {"metrics": ["unavailable"]}, "gates": []}
    )
    code, said = location.llmops("check", "--path", str(location.project.folder))
    assert code != 0
    assert "unavailable needs no_such_library, which is not installed; pip install no_such_library" in said
