"""One pass of the real chain on the demo's own project and model, SmolLM2-135M, with two training steps."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import yaml

from llmops_assets.domain.records import Checkpoint, ServedEvaluationReport
from tests.support.projects import Project, World
from tests.support.tiny_model import CACHE, REPOSITORY

NAME = "docstring-summarizer"


def builder() -> ModuleType:
    folder = REPOSITORY / "examples" / NAME
    sys.path.insert(0, str(folder))
    spec = importlib.util.spec_from_file_location("make_project", folder / "make_project.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_demos_project_becomes_an_answering_endpoint(tmp_path: Path, make_world: Callable[..., World]) -> None:
    make = builder()
    folder, remote = tmp_path / "work", tmp_path / "remote.git"
    make.make_project(folder, remote, tmp_path / "dvc-remote", CACHE, train_rows=24, test_rows=6)
    file = folder / "llmops.yaml"
    config = yaml.safe_load(file.read_text())
    config["training"] |= {"max_steps": 2, "batch_size": 2}
    config["gates"] = [{"metric": "perplexity", "at_most": 100}]
    config["evaluation"] |= {"max_rows": 3, "max_new_tokens": 8}
    file.write_text(yaml.safe_dump(config))
    make.commit(folder, "Two steps are enough here")
    sha = make.push(folder)
    project = Project(tmp_path, NAME)
    world = make_world(project)
    outcome = world.settle()
    assert outcome.failures == ""
    records = world.ledger.records_of(NAME, sha)
    checkpoint, served = records["fine_tuned_checkpoint"], records["served_evaluation_report"]
    assert isinstance(checkpoint, Checkpoint) and isinstance(served, ServedEvaluationReport)
    assert checkpoint.steps == 2 and checkpoint.parameters > 130_000_000
    assert served.parity_rows > 0 and served.parity_mismatches == 0
    perplexity = served.value("perplexity")
    assert perplexity is not None and 5 < perplexity < 100, "a model that speaks, also after quantization"
    assert {m.name for m in served.metrics} >= {"perplexity", "bleu", "rougeL", "profanity", "starts_upper"}
    from openai import OpenAI

    client = OpenAI(base_url=world.clients.serving.base_url(NAME, "production"), api_key="none")
    code = "def mean(values):\n    return sum(values) / len(values)"
    answer = client.chat.completions.create(
        model=NAME, messages=[{"role": "user", "content": code}], max_tokens=16, temperature=0
    )
    assert (answer.choices[0].message.content or "").strip()
