"""repeatable_evaluation: a served evaluation's answers one after another over the same answers to eight clients.

One engine with a random Llama of 24 million parameters answers the same questions. Asked one at a time it gives equal
answers every time, which is why the served evaluation does so; the ratio is what that costs. Repetitions alternate.
"""

from concurrent.futures import ThreadPoolExecutor

from benchmarks.harness import Benchmark, Goal, Measured, Unmeasured, interleaved, seconds_of
from benchmarks.inputs import random_model
from benchmarks.place import Place
from benchmarks.train_tokens_per_s import LONGER, SHAPE
from llmops_assets.programs.engines.interface import Completion
from llmops_assets.programs.engines.running import running_engine
from llmops_assets.programs.quantization.gguf import Gguf
from llmops_assets.programs.runtime.specs import ServeSpec
from tests.support.projects import rows

ROWS, QUICK_ROWS, CLIENTS, TOKENS = 48, 4, 8, 32
TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant: "


def measure(place: Place) -> Measured:
    folder = place.folder("repeatable")
    base = random_model(folder / "base", **({} if place.quick else SHAPE))
    serve = ServeSpec(
        model=str(Gguf().quantize(base, folder, "q8_0")),
        alias="model",
        chat_template=TEMPLATE,
        port=0,
        serving={"parallel": CLIENTS, "context_length": 512},
        sampling={"seed": 0},
    )
    asked = [f"{row['input']} {LONGER}" for row in rows(QUICK_ROWS if place.quick else ROWS)]
    with running_engine(serve, folder) as engine:

        def answer(text: str) -> Completion:
            return engine.answer([{"role": "user", "content": text}], TOKENS)

        def concurrently() -> None:
            with ThreadPoolExecutor(CLIENTS) as pool:
                list(pool.map(answer, asked))

        first = [answer(text) for text in asked]
        again: list[Completion] = []

        def one_by_one() -> None:
            again[:] = [answer(text) for text in asked]

        found = interleaved(lambda: seconds_of(one_by_one), lambda: seconds_of(concurrently), 1 if place.quick else 3)
        if again != first:
            raise Unmeasured("the answers differed when they were repeated")
    return found


BENCHMARK = Benchmark(
    name="repeatable_evaluation",
    unit="s",
    against=f"the same answers to {CLIENTS} clients",
    goals=(Goal("ratio", "at most", 2.0),),
    measure=measure,
)
