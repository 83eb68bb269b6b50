"""webhook_to_run: like commit_to_run, but a webhook tells of each push, and polling would not notice it for an hour.

Two figures of the same twenty pushes: their median, and their 95th percentile (`webhook_to_run_p95`).
"""

import statistics

from benchmarks.commit_to_run import Starts, starts_of
from benchmarks.harness import Benchmark, Goal, Measured, Unmeasured
from benchmarks.place import Place
from benchmarks.watched import Timed
from llmops_assets.config.secrets import FromEnvironment
from llmops_assets.config.webhooks import WebhookSettings
from tests.support.ports import free_port
from tests.support.webhooks import SECRET, push_to

VARIABLE = "WEBHOOK_SECRET"


class Announced(Timed):
    """The project under services that poll once an hour, and a receiver of webhooks."""

    def __init__(self, place: Place):
        receiver = WebhookSettings(port=free_port(), secrets=(FromEnvironment(env=VARIABLE),))
        self._url = f"http://127.0.0.1:{receiver.port}"
        super().__init__(place, "announced", {VARIABLE: SECRET}, poll=3600, webhooks=receiver)

    def announce(self) -> None:
        answer = push_to(self._url, str(self.project.remote))
        if answer.status_code != 202:
            raise Unmeasured(f"the receiver answered {answer.status_code}: {answer.text}")


def starts(place: Place) -> Starts:
    """The starts of all pushes, measured once for both figures."""
    return place.shared("webhook_starts", lambda: starts_of(Announced(place), 2 if place.quick else 20))


def measure(place: Place) -> Measured:
    found = starts(place)
    return Measured(statistics.median(found.seconds), found.worker_s, found.told)


BENCHMARK = Benchmark(
    name="webhook_to_run",
    unit="s",
    against="a fresh interpreter that loads the location",
    goals=(Goal("value", "at most", 3.0),),
    measure=measure,
)
