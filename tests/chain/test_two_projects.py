"""Two projects side by side in one location, the second of another shape: chat rows, full training, its own metric."""

import json
from collections.abc import Callable
from pathlib import Path

from llmops_assets.domain.records import Checkpoint, EvaluationReport
from resources.serving.client import ask
from tests.support.projects import Project, World
from tests.support.tiny_model import tiny_model

METRIC = """\
def ends_with_a_stop(prediction: str, reference: str) -> float:
    return float(prediction.rstrip().endswith("."))
"""


def chat(count: int, start: int) -> str:
    rows = [
        {"messages": [{"role": "user", "content": f"Name river {n}."}, {"role": "assistant", "content": f"River {n}."}]}
        for n in range(start, start + count)
    ]
    return "".join(json.dumps(r) + "\n" for r in rows)


def test_each_gets_its_own_model_and_neither_disturbs_the_other(
    make_project: Callable[[], Project], make_world: Callable[..., World], cache: Path, computed: Path, tmp_path: Path
) -> None:
    zoo = make_project()
    rivers = Project.create(tmp_path / "rivers", "rivers", tiny_model(cache / "base-of-rivers", hidden=48, seed=1))
    rivers.write("data/train.jsonl", chat(40, 200))
    rivers.write("data/test.jsonl", chat(6, 100))
    rivers.write("metrics.py", METRIC)
    rivers.dvc_add("data/train.jsonl", "data/test.jsonl")
    rivers.configure(
        {
            "prompt": None,
            "training": {"method": "full", "prompt": None, "lora": None, "learning_rate": 0.01, "max_steps": 40},
            "evaluation": {"metrics": ["perplexity", {"name": "stops", "function": "metrics.py:ends_with_a_stop"}]},
            "quantization": {"scheme": "f16"},
        }
    )
    rivers.commit("Another shape")
    rivers.push()
    zoo.push()
    world = make_world(zoo, rivers, computed=computed)
    outcome = world.settle()
    assert outcome.failures == ""
    assert {name: [r.status for r in world.ledger.requests(name)] for name in ("zoo", "rivers")} == {
        "zoo": ["released"],
        "rivers": ["released"],
    }
    ours, theirs = world.ledger.records_of("zoo", zoo.head), world.ledger.records_of("rivers", rivers.head)
    checkpoint, report = theirs["fine_tuned_checkpoint"], theirs["evaluation_report"]
    assert isinstance(checkpoint, Checkpoint) and (checkpoint.method, checkpoint.steps) == ("full", 40)
    assert isinstance(report, EvaluationReport) and {m.name for m in report.metrics} == {"perplexity", "stops"}
    shared = {r.key for r in ours.values()} & {r.key for r in theirs.values()}
    assert shared == {ours["container_image"].key}, "neither has a Dockerfile, and the record says nothing else"
    serving = world.clients.serving
    releases = set()
    for name in ("zoo", "rivers"):
        answer = ask(serving.base_url(name, "production"), name, "Name river 3.", max_tokens=4)
        assert answer.ok
        now = world.ledger.serving(name, "production")
        assert now is not None and answer.release == now.release
        releases.add(now.release)
    assert len(releases) == 2
    assert len(serving.endpoints()) == 4
