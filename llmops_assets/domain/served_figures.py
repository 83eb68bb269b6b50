"""Size, speed and memory of a served model, which gates name like metrics. Pure.

Speed and memory are measured by a load test of the serving engine, with 1 and with 8 clients; a gate judges the most
clients. They depend on the hardware, so that they are compared within one hardware class only. Size does not.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from llmops_assets.domain.formatting import figure
from llmops_assets.domain.gate_rule import Gate
from llmops_assets.domain.keys import stage_key
from llmops_assets.domain.models import Frozen
from llmops_assets.domain.records import LoadFigures

MEASURE_AGAIN = "measure both here, with `llmops run --rebuild served_evaluation_report --reason WHY`"


class ServedFigure(NamedTuple):
    unit: str
    higher_is_better: bool
    does: str
    read: Callable[[LoadFigures], float | None] | None
    """None: the load test does not measure it."""


SERVED_FIGURES: Mapping[str, ServedFigure] = {
    "size_mb": ServedFigure("MB", False, "size of the quantized weights", None),
    "tokens_per_s": ServedFigure("tokens/s", True, "answered tokens of all clients", lambda load: load.tokens_per_s),
    "first_token_p50": ServedFigure("s", False, "median time to first token", lambda load: load.first_token_p50_s),
    "latency_p50": ServedFigure("s", False, "median time of an answer", lambda load: load.latency_p50_s),
    "latency_p95": ServedFigure(
        "s", False, "95th percentile of the time of an answer", lambda load: load.latency_p95_s
    ),
    "memory_mb": ServedFigure(
        "MB",
        False,
        "peak main memory of the engine's processes, weights included; not that of a GPU",
        lambda load: None if load.memory_bytes is None else load.memory_bytes / 1e6,
    ),
    "gpu_memory_mb": ServedFigure(
        "MB",
        False,
        "GPU memory of the engine's processes after the load test, as the driver reports it",
        lambda load: None if load.gpu_memory_bytes is None else load.gpu_memory_bytes / 1e6,
    ),
}


class Served(Frozen):
    """What one served report knows of size and speed."""

    size_bytes: int
    hardware: str = ""
    load: tuple[LoadFigures, ...] = ()


class NoFigure(NamedTuple):
    """Why there is no value."""

    why: str


class Outcome(NamedTuple):
    passed: bool
    text: str


def speed_key(hardware: str, report: str) -> str:
    """The key of the speed of a served report (its key) on a hardware class."""
    return stage_key("served_speed", 1, {"hardware": hardware}, {"served_evaluation_report": report})


def compares_speed(gates: tuple[Gate, ...]) -> bool:
    """Whether a gate compares the speed or memory with the champion's or a baseline's."""
    return any(g.no_worse_than and g.of == "served" and g.metric in SERVED_FIGURES for g in gates)


def misfit(gate: Gate) -> tuple[str, str] | None:
    """What a gate on a served figure says that cannot be judged: (key, why); None if nothing."""
    if gate.of != "served":
        return "of", f"{gate.metric} is a figure of the served model; add `of: served`"
    if gate.per is not None:
        return "per", f"{gate.metric} is one figure of the whole model, so it has no slices; leave it out"
    if gate.confidence is not None:
        return "confidence", f"{gate.metric} is one figure without an interval; leave it out, and choose a margin"
    if gate.no_worse_than == "unquantized":
        return "no_worse_than", f"the checkpoint before quantization is not served, so it has no {gate.metric}"
    return None


def value_of(name: str, served: Served | None) -> float | NoFigure:
    """The value of a figure, or why there is none. A load test with broken answers shows nothing."""
    if served is None:
        return NoFigure("there is no served report")
    read = SERVED_FIGURES[name].read
    if read is None:
        return served.size_bytes / 1e6
    if not served.load:
        return NoFigure(f"its speed was not measured on this hardware; {MEASURE_AGAIN}")
    load = _judged(served)
    if load.broken:
        return NoFigure(f"{load.broken} answers of the load test with {load.clients} clients broke off")
    found = read(load)
    return found if found is not None else NoFigure(f"it was not measured; {MEASURE_AGAIN}")


def judge_bound(gate: Gate, served: Served | None) -> list[Outcome]:
    """The absolute conditions of a gate, or the one reason why it has no value."""
    value = value_of(gate.metric, served)
    if isinstance(value, NoFigure):
        return [Outcome(False, f"{gate.metric} has no value: {value.why}")]
    measured = _named(gate, value, served)
    found = []
    if gate.at_least is not None:
        found.append(Outcome(value >= gate.at_least, f"{measured}, minimum {figure(gate.at_least)}"))
    if gate.at_most is not None:
        found.append(Outcome(value <= gate.at_most, f"{measured}, limit {figure(gate.at_most)}"))
    return found


def judge_comparison(gate: Gate, served: Served | None, other: Served | None) -> Outcome:
    """The comparison with another release's figure, which was measured on the same hardware class."""
    value, reference = value_of(gate.metric, served), value_of(gate.metric, other)
    if isinstance(value, NoFigure):
        return Outcome(False, f"{gate.metric} has no value: {value.why}")
    measured = _named(gate, value, served)
    if isinstance(reference, NoFigure):
        return Outcome(False, f"{measured} against {gate.against}: {reference.why}")
    known, margin = SERVED_FIGURES[gate.metric], gate.tolerance()
    sign = 1.0 if known.higher_is_better else -1.0
    note = " (one load test each: the value is judged)" if known.read is not None else ""
    text = f"{measured}, {gate.against} {figure(reference)}, margin {margin}{note}"
    return Outcome(sign * (value - reference) >= -margin.of(reference), text)


def _judged(served: Served) -> LoadFigures:
    return max(served.load, key=lambda load: load.clients)


def _named(gate: Gate, value: float, served: Served | None) -> str:
    known = SERVED_FIGURES[gate.metric]
    where = ""
    if known.read is not None and served is not None:
        clients = _judged(served).clients
        where = f" on {served.hardware} with {clients} client{'s' if clients > 1 else ''}"
    return f"{gate.metric} {figure(value)} {known.unit}{where}"
