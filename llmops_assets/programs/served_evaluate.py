"""python -m llmops_assets.programs.served_evaluate --spec SPEC.json --output DIR

Measures a quantized model on its serving engine: starts the engine, compares its tokens with those of training, has it
answer the held-out rows and compute the likelihood of the references, runs the load test, and stops it. Measuring the
unquantized model belongs in `programs.evaluate`.
"""

import platform
from importlib.metadata import version
from pathlib import Path

from llmops_assets.domain.formatting import figure
from llmops_assets.domain.records import Repeated
from llmops_assets.programs.data.encoding import Encoder
from llmops_assets.programs.data.rows import messages_of
from llmops_assets.programs.engines.loading import load_engine
from llmops_assets.programs.engines.measuring import ask_all, likelihoods
from llmops_assets.programs.engines.memory import gpu_memory, peak_memory
from llmops_assets.programs.engines.parity import compare_tokens
from llmops_assets.programs.engines.running import running_engine
from llmops_assets.programs.evaluate import (
    cut_answers,
    evaluated_answers,
    load_must_pass,
    load_test,
    questions,
    refuse_too_long,
    samples,
    tokenizer_line,
    write_must_pass,
)
from llmops_assets.programs.evaluation.load_test import put_under_load
from llmops_assets.programs.evaluation.metrics.base import Answer, Subject
from llmops_assets.programs.evaluation.report import write_report
from llmops_assets.programs.models.loading import load_tokenizer
from llmops_assets.programs.models.stop_tokens import configured_stops
from llmops_assets.programs.models.tokenizer_digest import tokenizer_digest
from llmops_assets.programs.runtime.entry import ProgramRun, run
from llmops_assets.programs.runtime.specs import ServedEvaluateResult, ServedEvaluateSpec, ServeSpec

PARITY_ROWS = 16
REPEATED_ROWS = 8
READ_WITH = ("transformers", "tokenizers")
"""Distributions that make the tokens of rows. torch computes nothing here."""


def evaluate_served(spec: ServedEvaluateSpec, job: ProgramRun) -> ServedEvaluateResult:
    """The whole program.

    Raises:
        BadInput: the model, the rows or a metric cannot be used.
    """
    from llmops_assets.programs.evaluation.rows import write_rows_file
    from llmops_assets.programs.evaluation.scoring import (
        check_metrics,
        libraries_of,
        longest_request,
        measure_tasks,
        noise_of,
        reads_likelihoods,
        score,
    )

    tested = load_test(Path(spec.data), spec.max_rows)
    rows = [*tested, *load_must_pass(Path(spec.data))]
    check_metrics(spec.metrics, spec.code, questions(rows))
    tokenizer = Path(spec.tokenizer)
    encoder = Encoder(
        load_tokenizer(tokenizer), spec.prompt, spec.model_chat_template, stops=configured_stops(tokenizer)
    )
    server = load_engine(spec.engine)
    longest = min(spec.max_new_tokens, spec.sampling.get("max_tokens") or spec.max_new_tokens)
    context = server.context_per_request(Path(spec.model), spec.serving)
    refuse_too_long(
        [len(encoder.prompt_ids(row)) + longest for row in rows],
        context,
        "with its answer; deployment.serving.context_length",
        len(tested),
    )
    # A reference can be longer than any answer that is asked for here, and its likelihood needs all of it.
    wanted = reads_likelihoods(spec.metrics)
    encoded = [encoder.row(row, last_only=True) for row in rows] if wanted else []
    context = max(
        [context, *(len(row.ids) + 1 for row in encoded), longest_request(spec.metrics, encoder.tokenizer) + 1]
    )
    serve = ServeSpec(
        engine=spec.engine,
        model=spec.model,
        alias="model",
        chat_template=spec.chat_template,
        port=0,
        serving={**spec.serving, "context_length": context},
        # Asked as users ask, without sampling parameters. A fixed seed makes the measurement repeatable.
        sampling={"seed": 0, **spec.sampling},
    )
    job.gpus = server.gpus()
    processes: list[int] = []
    starting = running_engine(
        serve,
        job.output,
        spec.engine_start_s,
        lambda seconds: job.progress("engine", f"starts, {seconds:.0f} s so far"),
        processes.append,
    )
    with starting as engine:
        parity = compare_tokens(engine, encoder, rows[:PARITY_ROWS])
        job.progress("parity", f"{len(parity)} mismatches in {min(len(rows), PARITY_ROWS)} rows")

        def answers_to(first: int) -> list[Answer]:
            """Asks for the first rows, one after another."""
            completions = ask_all(engine, rows[:first], longest, job)
            scored = likelihoods(engine, encoded[:first], job)
            return evaluated_answers(rows[:first], [c.text for c in completions], scored, [c.cut for c in completions])

        evaluated = answers_to(len(rows))
        evaluated, kept = evaluated[: len(tested)], evaluated[len(tested) :]
        repeated = compared(spec, evaluated[:REPEATED_ROWS], answers_to(min(len(tested), REPEATED_ROWS)))
        subject = Subject(tokenizer=encoder.tokenizer, engine=engine)
        tasks = measure_tasks(spec.metrics, subject)
        noise = noise_of(spec.metrics, tasks, measure_tasks(spec.metrics, subject, REPEATED_ROWS))
        repeated = repeated.model_copy(update={"metrics": repeated.metrics | noise})
        load = []
        for clients in spec.clients if spec.speed_requests else ():
            figures = put_under_load(
                lambda n: engine.stream(messages_of(rows[n % len(rows)])[:-1], longest),
                clients,
                max(spec.speed_requests, clients),
            )
            load.append(
                figures.model_copy(
                    update={"memory_bytes": peak_memory(processes[0]), "gpu_memory_bytes": gpu_memory(processes[0])}
                )
            )
            job.progress("load", clients=clients, tokens_per_s=load[-1].tokens_per_s, broken=load[-1].broken)
    found = score(spec.metrics, evaluated, spec.code, tasks)
    size = Path(spec.model).stat().st_size
    detail = parity[0] if parity else ""
    parity_rows = min(len(rows), PARITY_ROWS)
    before = ", ".join(f"{name} {figure(value)}" for name, value in spec.unquantized.items())
    artifact = job.new_artifact()
    write_rows_file(artifact, evaluated, found)
    write_must_pass(artifact, kept, spec.metrics, spec.code)
    write_report(
        artifact,
        spec.title,
        "The quantized model behind the engine that serves it",
        found.metrics,
        samples(evaluated, found.rows),
        {
            "Size": f"{size / 1e6:,.1f} MB",
            "Length of an answer": f"at most {longest} tokens",
            "Cut answers": cut_answers(evaluated),
            "Tokenizer": tokenizer_line(tokenizer_digest(encoder.tokenizer)),
            "Sampling": ", ".join(f"{name} {value}" for name, value in spec.sampling.items() if value not in ([], None))
            or "greedy",
            "Token parity with training": f"{parity_rows - len(parity)} of {parity_rows} rows"
            + (f"; {detail}" if detail else ""),
            "Asked one after another, without a prompt cache": in_words(repeated),
            **({"Before quantization": before} if before else {}),
            **found.facts,
        },
        load,
    )
    libraries = {name: version(name) for name in (*READ_WITH, *server.libraries, *libraries_of(spec.metrics))}
    return ServedEvaluateResult(
        metrics=found.metrics,
        rows=len(evaluated),
        cut=sum(answer.cut for answer in evaluated),
        repeated=repeated,
        size_bytes=size,
        parity_rows=parity_rows,
        parity_mismatches=len(parity),
        parity_detail=detail,
        load=tuple(load),
        libraries=libraries,
        tokenizer=tokenizer_digest(encoder.tokenizer),
        measured_with={
            **libraries,
            "python": ".".join(platform.python_version_tuple()[:2]),
            "device": server.device(),
            "engine": spec.engine,
            **found.measured_with,
        },
        refused=dict(found.refused),
    )


def compared(spec: ServedEvaluateSpec, first: list[Answer], again: list[Answer]) -> Repeated:
    """The noise of the measurement: how much two measurements of the same rows differ."""
    from llmops_assets.programs.evaluation.scoring import score

    noise = {metric.name: 0.0 for metric in spec.metrics}
    if first != again:
        one, two = (
            {m.name: m.value for m in score(spec.metrics, answers, spec.code).metrics} for answers in (first, again)
        )
        noise = {name: abs(two[name] - one[name]) for name in noise if name in one and name in two}
    pairs = list(zip(first, again, strict=True))
    return Repeated(rows=len(pairs), answers_differ=sum(a.prediction != b.prediction for a, b in pairs), metrics=noise)


def in_words(repeated: Repeated) -> str:
    equal = f"{repeated.rows - repeated.answers_differ} of {repeated.rows} answers equal when asked again"
    noise = ", ".join(f"{name} ±{figure(value)}" for name, value in repeated.metrics.items() if value)
    return f"{equal}; noise on these rows: {noise or 'none'}"


if __name__ == "__main__":
    run("served_evaluate", ServedEvaluateSpec, evaluate_served)
