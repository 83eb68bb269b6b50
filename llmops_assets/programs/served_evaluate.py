"""python -m llmops_assets.programs.served_evaluate --spec SPEC.json --output DIR

Measures a quantized model on its serving engine: starts the engine, compares its tokens with those of training, has it
answer the held-out rows, runs the load test, stops it, and computes the perplexity of the same weights. Measuring the
unquantized model belongs in `programs.evaluate`.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from llmops_assets.catalog import ENGINES, QUANTIZATION_BACKENDS
from llmops_assets.programs.data.encoding import Encoder
from llmops_assets.programs.data.rows import Row, messages_of, reference
from llmops_assets.programs.engines.interface import EngineClient, ServingEngine
from llmops_assets.programs.engines.parity import compare_tokens
from llmops_assets.programs.engines.running import running_engine
from llmops_assets.programs.evaluate import METRIC_LIBRARIES, load_test, refuse_too_long, samples
from llmops_assets.programs.evaluation.load_test import put_under_load
from llmops_assets.programs.evaluation.report import write_report
from llmops_assets.programs.models.loading import (
    device,
    load_tokenizer,
    measured_with,
    prepare_torch,
    seed_everything,
    versions,
)
from llmops_assets.programs.quantization.interface import QuantizationBackend
from llmops_assets.programs.runtime.entry import ProgramRun, run
from llmops_assets.programs.runtime.specs import ServedEvaluateResult, ServedEvaluateSpec, ServeSpec

PARITY_ROWS = 16
CLIENTS = 8


def evaluate_served(spec: ServedEvaluateSpec, job: ProgramRun) -> ServedEvaluateResult:
    """The whole program.

    Raises:
        BadInput: the model, the rows or a metric cannot be used.
    """
    from llmops_assets.programs.evaluation.scoring import check_metrics, reads_likelihoods, score

    prepare_torch()
    rows = load_test(Path(spec.data), spec.max_rows)
    check_metrics(spec.metrics, spec.code, [reference(row) for row in rows])
    encoder = Encoder(load_tokenizer(Path(spec.tokenizer)), spec.prompt, spec.model_chat_template)
    server: ServingEngine = ENGINES[spec.engine].load()()
    backend: QuantizationBackend = QUANTIZATION_BACKENDS[spec.backend].load()()
    longest = min(spec.max_new_tokens, spec.sampling.get("max_tokens") or spec.max_new_tokens)
    refuse_too_long(
        [len(encoder.prompt_ids(row)) + longest for row in rows],
        server.context_per_request(Path(spec.model), spec.serving),
        "with its answer; deployment.serving.context_length",
    )
    serve = ServeSpec(
        engine=spec.engine,
        model=spec.model,
        alias="model",
        chat_template=spec.chat_template,
        port=0,
        serving=spec.serving,
        # Asked as users ask, without sampling parameters. A fixed seed makes the measurement repeatable.
        sampling={"seed": 0, **spec.sampling},
    )
    starting = running_engine(
        serve,
        job.output,
        spec.engine_start_s,
        lambda seconds: job.progress("engine", f"starts, {seconds:.0f} s so far"),
    )
    with starting as engine:
        parity = compare_tokens(engine, encoder, rows[:PARITY_ROWS])
        job.progress("parity", f"{len(parity)} mismatches in {min(len(rows), PARITY_ROWS)} rows")
        predictions = ask_all(engine, rows, longest, spec, job)
        load = []
        for clients in spec.clients if spec.speed_requests else ():
            load.append(
                put_under_load(
                    lambda n: engine.stream(messages_of(rows[n % len(rows)])[:-1], longest),
                    clients,
                    max(spec.speed_requests, clients),
                )
            )
            job.progress("load", clients=clients, tokens_per_s=load[-1].tokens_per_s, broken=load[-1].broken)
    encoded = [encoder.row(row, last_only=True) for row in rows]
    scored = []
    if reads_likelihoods(spec.metrics):
        from llmops_assets.programs.evaluation.inference import likelihoods

        seed_everything(0)
        job.progress("load", Path(spec.model).name)
        model = backend.load(Path(spec.model))
        model.to(device())
        scored = likelihoods(model, encoded, encoder.tokenizer.pad_token_id, job, "likelihood")
    metrics, row_scores = score(spec.metrics, predictions, [reference(r) for r in rows], scored, spec.code)
    size = Path(spec.model).stat().st_size
    detail = parity[0] if parity else ""
    compared = min(len(rows), PARITY_ROWS)
    write_report(
        job.new_artifact(),
        spec.title,
        "The quantized model behind the engine that serves it",
        metrics,
        samples(rows, predictions, row_scores),
        {
            "Size": f"{size / 1e6:,.1f} MB",
            "Length of an answer": f"at most {longest} tokens",
            "Sampling": ", ".join(f"{name} {value}" for name, value in spec.sampling.items() if value not in ([], None))
            or "greedy",
            "Token parity with training": f"{compared - len(parity)} of {compared} rows"
            + (f"; {detail}" if detail else ""),
        },
        load,
    )
    libraries = versions(*server.libraries, *backend.libraries, *METRIC_LIBRARIES)
    return ServedEvaluateResult(
        metrics=metrics,
        rows=len(rows),
        size_bytes=size,
        parity_rows=compared,
        parity_mismatches=len(parity),
        parity_detail=detail,
        load=tuple(load),
        libraries=libraries,
        measured_with={**measured_with(libraries), "engine": spec.engine},
    )


def ask_all(
    engine: EngineClient, rows: list[Row], longest: int, spec: ServedEvaluateSpec, job: ProgramRun
) -> list[str]:
    """The engine's answers with the release's sampling, requested as concurrently as it serves."""
    began = time.monotonic()
    answers: list[str] = []
    tokens = 0
    with ThreadPoolExecutor(min(CLIENTS, int(spec.serving.get("parallel") or CLIENTS))) as pool:
        for text, _, n in pool.map(lambda row: engine.answer(messages_of(row)[:-1], longest), rows):
            answers.append(text)
            tokens += n
            elapsed = time.monotonic() - began
            job.progress(
                "generate",
                every_s=0.0 if len(answers) == len(rows) else 1.0,
                step=len(answers),
                total=len(rows),
                tokens_per_s=tokens / max(elapsed, 1e-9),
                eta_s=elapsed / len(answers) * (len(rows) - len(answers)),
            )
    return answers


if __name__ == "__main__":
    run("served_evaluate", ServedEvaluateSpec, evaluate_served)
