"""repeatable_evaluation: a served evaluation's answers one after another over as many answers to eight clients.

One engine with a random Llama of 24 million parameters answers equal questions. Asked one at a time and without the
prompt cache it gives equal answers every time, which is why the served evaluation does so. The eight clients ask as
users do, with the cache. The ratio is what repeatability costs. Repetitions alternate, and each begins its questions
with another number: the cache would else have whole prompts of the one before, which an evaluation never repeats.
"""

from concurrent.futures import ThreadPoolExecutor
from itertools import count

from benchmarks.harness import Benchmark, Goal, Measured, Unmeasured, interleaved, seconds_of
from benchmarks.inputs import random_model
from benchmarks.place import Place
from benchmarks.train_tokens_per_s import LONGER, SHAPE
from llmops_assets.programs.engines.interface import Completion
from llmops_assets.programs.engines.llama_cpp_client import LlamaCppClient
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
        assert isinstance(engine, LlamaCppClient)
        users, repetition = engine.client, count(1)

        def answer(text: str) -> Completion:
            return engine.answer([{"role": "user", "content": text}], TOKENS)

        def ask(text: str) -> None:
            body = {"messages": [{"role": "user", "content": text}], "max_tokens": TOKENS}
            users.post("/v1/chat/completions", json=body).raise_for_status()

        def concurrently() -> None:
            number = next(repetition)
            with ThreadPoolExecutor(CLIENTS) as pool:
                list(pool.map(ask, [f"{number} {text}" for text in asked]))

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
    against=f"{CLIENTS} clients, with the prompt cache",
    goals=(Goal("ratio", "at most", 2.0),),
    measure=measure,
)
