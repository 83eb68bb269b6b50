"""evaluate_examples_per_s: our evaluation of references over lm-evaluation-harness on the same task, model and batch.

Both score the same references after the same prompts with one random Llama of 24 million parameters in float32. Ours
encodes the rows, computes likelihoods, perplexity with its interval, and the values of each row; lm-eval's task is a
local YAML file, built beforehand, without standard errors. Both must find the same perplexity to four digits.
Repetitions alternate.
"""

import json
import math
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from benchmarks.harness import Benchmark, Goal, Measured, Unmeasured, interleaved, seconds_of
from benchmarks.inputs import random_model
from benchmarks.place import Place
from benchmarks.train_tokens_per_s import LONGER, SHAPE
from llmops_assets.programs.data.encoding import Encoder
from llmops_assets.programs.evaluate import evaluated_answers
from llmops_assets.programs.runtime.entry import ProgramRun
from llmops_assets.programs.runtime.specs import MetricSpec
from tests.support.projects import rows

ROWS, QUICK_ROWS, BATCH = 96, 4, 16
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>{% endif %}"
)
"""A special token opens the answer: lm-eval tokenizes both texts together, and moves white space into the answer."""
TASK = """\
task: references
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: loglikelihood
doc_to_text: "{{{{prompt}}}}"
doc_to_target: "{{{{answer}}}}"
target_delimiter: ""
metric_list: [{{metric: perplexity}}]
"""


def measure(place: Place) -> Measured:
    if find_spec("lm_eval") is None:
        raise Unmeasured("it needs lm-eval; pip install 'llmops-assets[lm-eval]'")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = place.folder("evaluate")
    base = random_model(folder / "base", **({} if place.quick else SHAPE))
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = TEMPLATE
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    made = [
        {"input": f"{r['input']} {LONGER} " * (1 + n % 5), "output": f"{r['output']} {LONGER}"}
        for n, r in enumerate(rows(QUICK_ROWS if place.quick else ROWS))
    ]
    encoder = Encoder(tokenizer, "Question: {{ input }}")
    seen: dict[str, float] = {}
    ours, theirs = _ours(model, encoder, made, folder, seen), _theirs(model, encoder, made, folder, seen)
    ours()  # libraries are imported at their first use
    theirs()
    found = interleaved(lambda: seconds_of(ours), lambda: seconds_of(theirs), 1 if place.quick else 3)
    if f"{seen['ours']:.4g}" != f"{seen['theirs']:.4g}":
        raise Unmeasured(f"the perplexities differ: {seen['ours']:.6g} and {seen['theirs']:.6g}")
    return Measured(len(made) / found.value, len(made) / found.baseline)


def _ours(model: Any, encoder: Encoder, made: list[dict[str, str]], folder: Path, seen: dict[str, float]) -> Any:
    from llmops_assets.programs.evaluation.inference import likelihoods
    from llmops_assets.programs.evaluation.scoring import score

    job = ProgramRun(folder)
    asked = [MetricSpec(name="perplexity")]

    def evaluate() -> None:
        encoded = [encoder.row(row, last_only=True) for row in made]
        scored = likelihoods(model, encoded, encoder.tokenizer.pad_token_id, job, "likelihood", BATCH)
        answers = evaluated_answers(made, [""] * len(made), scored, [False] * len(made))
        seen["ours"] = score(asked, answers).metrics[0].value
        seen["tokens"] = sum(row.learned for row in encoded)

    return evaluate


def _theirs(model: Any, encoder: Encoder, made: list[dict[str, str]], folder: Path, seen: dict[str, float]) -> Any:
    import lm_eval
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.models.huggingface import HFLM

    data, task = folder / "references.jsonl", folder / "references.yaml"
    with data.open("w") as file:
        for row in made:
            messages = [{"role": "user", "content": row["input"]}, {"role": "assistant", "content": row["output"]}]
            prompt = encoder.text(messages[:-1], ask=True)
            answer = encoder.text(messages, ask=False)[len(prompt) :]
            file.write(json.dumps({"prompt": prompt, "answer": answer}) + "\n")
    task.write_text(TASK.format(file=data))
    lm = HFLM(pretrained=model, tokenizer=encoder.tokenizer, batch_size=BATCH)
    tasks = {"references": ConfigurableTask(config=yaml.safe_load(task.read_text()))}

    def evaluate() -> None:
        done = lm_eval.evaluate(lm, tasks, bootstrap_iters=0, log_samples=True)
        total = sum(float(sample["filtered_resps"][0][0]) for sample in done["samples"]["references"])
        seen["theirs"] = math.exp(-total / seen["tokens"])  # its own perplexity is one of rows, not of tokens

    return evaluate


BENCHMARK = Benchmark(
    name="evaluate_examples_per_s",
    unit="rows/s",
    against="lm-evaluation-harness",
    goals=(Goal("ratio", "at least", 1.0),),
    measure=measure,
)
