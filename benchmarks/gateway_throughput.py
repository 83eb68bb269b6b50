"""gateway_throughput: tokens per second of 8 clients through Envoy, over the same engine without it.

The model has random weights and SmolLM2-135M's shape, so that the engine is as busy as in the demo: with a few million
parameters this would measure the clients. Every answer is streamed, and both sides get the same requests; a broken
stream fails the benchmark.
"""

import sys
from pathlib import Path

from benchmarks.harness import Benchmark, Goal, Measured, Unmeasured, command, interleaved
from benchmarks.inputs import random_model
from benchmarks.place import Place
from llmops_assets.config.serving import ServingSettings
from llmops_assets.domain.records import Release
from llmops_assets.programs.engines.llama_cpp_client import LlamaCppClient
from llmops_assets.programs.evaluation.load_test import put_under_load
from llmops_assets.programs.runtime.specs import QuantizeSpec
from resources.serving.local.serving import LocalServing
from resources.serving.local.state import StateFiles
from tests.support.ports import free_port

CLIENTS = 8
REQUESTS, MAX_TOKENS = 32, 32
SHAPE = {"hidden": 576, "layers": 30}
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "<|im_start|>assistant\n"
)


def measure(place: Place) -> Measured:
    home, model = place.folder("gateway"), _model(place)
    release = Release(
        project="zoo",
        artifact_digest="random",
        artifact_uri=str(model.parent),
        file=model.name,
        chat_template=TEMPLATE,
        engine="llama.cpp",
        serving={"parallel": CLIENTS, "context_length": 256},
    )
    serving = LocalServing(home, ServingSettings(port=free_port()))
    place.at_end(serving.down)
    serving.deploy("zoo", "production", release, model)
    serving.route("zoo", "production", {release.digest: 1.0})
    port = StateFiles(home).read().replicas[0].spec.port
    gateway = LlamaCppClient(serving.base_url("zoo", "production").removesuffix("/v1"))
    bare = LlamaCppClient(f"http://127.0.0.1:{port}")
    requests, times = (CLIENTS, 1) if place.quick else (REQUESTS, 5)
    for engine in (gateway, bare):
        _tokens_per_s(engine, CLIENTS)  # warm
    found = interleaved(lambda: _tokens_per_s(gateway, requests), lambda: _tokens_per_s(bare, requests), times)
    serving.down()
    return found


def _tokens_per_s(engine: LlamaCppClient, requests: int) -> float:
    figures = put_under_load(
        lambda n: engine.stream([{"role": "user", "content": f"animal number {n} says"}], MAX_TOKENS), CLIENTS, requests
    )
    if figures.broken:
        raise Unmeasured(f"{figures.broken} of {requests} streams did not end properly at {engine.client.base_url}")
    return figures.tokens_per_s


def _model(place: Place) -> Path:
    """A random model, converted to GGUF by the project's own program."""
    folder = place.folder("model")
    model = random_model(folder / "base", **({} if place.quick else SHAPE))
    spec = QuantizeSpec(method="none", base=str(model), checkpoint=str(model))
    (folder / "spec.json").write_text(spec.model_dump_json())
    program = [sys.executable, "-m", "llmops_assets.programs.quantize"]
    command([*program, "--spec", str(folder / "spec.json"), "--output", str(folder)])
    return next((folder / "artifact").glob("*.gguf"))


BENCHMARK = Benchmark(
    name="gateway_throughput",
    unit="tokens/s",
    against="the bare engine",
    goals=(Goal("ratio", "at least", 0.95),),
    measure=measure,
)
