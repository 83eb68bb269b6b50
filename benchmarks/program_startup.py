"""program_startup: CPU seconds from submitting a program to its first work, preloaded against separate processes.

Runs a chain's four heavy programs in a new home, on a model of two million parameters. The process that they are forked
from counts too, in equal shares. First work is the progress line that a program writes when its libraries are imported
and its model is loaded, so both sides include loading the model.
"""

import resource
from pathlib import Path
from typing import Any

import psutil

from benchmarks.harness import Benchmark, Goal, Measured, Unmeasured, interleaved
from benchmarks.inputs import random_model
from benchmarks.place import Place
from llmops_assets.domain.prompt import compose_chat_template
from llmops_assets.machine.processes import command_line
from resources.compute.interface import Finished, Job
from resources.compute.local import LocalCompute
from tests.support.projects import rows, write_rows

PROMPT = "Question: {{ input }}"
WORKS = {"train": "prepare", "evaluate": "likelihood", "quantize": "convert", "served_evaluate": "parity"}
"""The phase of each program that begins when everything is loaded."""


class Chain:
    """The programs of one home, and the CPU time of their starts."""

    def __init__(self, home: Path, preload: bool):
        self.compute, self.home, self.preload = (
            LocalCompute(home, threads=1, poll_s=0.02, preload=preload),
            home,
            preload,
        )
        self.spent, self._before = 0.0, _of_ended_children()

    def run(self, program: str, spec: dict[str, Any]) -> Finished:
        waits = True

        def hear(line: dict[str, Any]) -> None:
            nonlocal waits
            if waits and line["phase"] == WORKS[program]:
                waits = False
                keeper = psutil.Process(int((self.compute.folder(program) / "pid").read_text()))
                for process in (keeper, *keeper.children()):
                    used = process.cpu_times()
                    self.spent += used.user + used.system

        done = self.compute.run(Job(name=program, program=program, spec=spec), hear)
        if waits:
            raise Unmeasured(f"{program} ended before its start could be measured")
        if " without preloading:" in (self.compute.folder(program) / "log.txt").read_text():
            raise Unmeasured(f"{program} could not be preloaded: {self.compute.folder(program) / 'log.txt'}")
        return done

    def end(self) -> float:
        """CPU seconds of a program's start, on average."""
        if self.compute.preload:
            self.spent += _of_ended_children() - self._before  # the import; forked programs are not ours
            sockets = str(self.home / "preloaded")
            for process in psutil.process_iter():
                if any(word.startswith(sockets) for word in command_line(process)):
                    used = process.cpu_times()
                    self.spent += used.user + used.system
        self.compute.cancel_all()
        return self.spent / len(WORKS)


def _of_ended_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(place: Place) -> Measured:
    folder = place.folder("startup")
    write_rows(folder / "data/train.jsonl", rows(16))
    write_rows(folder / "data/validation.jsonl", rows(4, start=16))
    write_rows(folder / "data/test.jsonl", rows(8, start=20))
    base = random_model(folder / "base")

    def cpu_seconds(preload: bool) -> float:
        chain = Chain(place.folder(f"startup-{'preloaded' if preload else 'plain'}"), preload)
        try:
            _run_all(chain, folder, base)
        finally:
            spent = chain.end()
        return spent

    cpu_seconds(False)  # the first run compiles modules and fills the page cache
    return interleaved(lambda: cpu_seconds(True), lambda: cpu_seconds(False), 1 if place.quick else 3)


def _run_all(chain: Chain, folder: Path, base: Path) -> None:
    data, model = str(folder / "data"), {"method": "lora", "base": str(base)}
    trained = chain.run("train", {**model, "data": data, "prompt": PROMPT, "max_steps": 2, "batch_size": 4})
    of = {**model, "checkpoint": str(trained.artifact)}
    asked = {"data": data, "prompt": PROMPT, "max_new_tokens": 4}
    metrics = [{"name": name} for name in ("perplexity", "bleu", "rougeL", "profanity")]
    chain.run("evaluate", {**of, **asked, "metrics": metrics})
    quantized = chain.run("quantize", {**of, "scheme": "q8_0"})
    template = trained.result["chat_template"]
    served = {
        "model": str(quantized.artifact / quantized.result["file"]), "tokenizer": str(trained.artifact),
        "chat_template": compose_chat_template(PROMPT, template), "model_chat_template": template,
        "serving": {"parallel": 2, "context_length": 256}, "speed_requests": 0,
    }  # fmt: skip
    chain.run("served_evaluate", {**asked, **served, "metrics": metrics})


BENCHMARK = Benchmark(
    name="program_startup",
    unit="CPU s",
    against="each program as a separate process",
    goals=(Goal("value", "at most", 3.0), Goal("ratio", "at most", 0.5)),
    measure=measure,
)
