"""Measures an engine's speed with several concurrent clients, each of which has one open request at a time."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from llmops_assets.domain.percentiles import percentile
from llmops_assets.domain.records import LoadFigures
from llmops_assets.programs.engines.interface import Streamed


def put_under_load(ask: Callable[[int], Streamed], clients: int, requests: int) -> LoadFigures:
    """Speed at one load level.

    Args:
        ask: streams the answer to the n-th request.
        clients: number of concurrent clients.
        requests: total number of requests.
    """
    began = time.monotonic()
    with ThreadPoolExecutor(clients) as pool:
        answers = list(pool.map(ask, range(requests)))
    seconds = max(time.monotonic() - began, 1e-9)
    whole = [a for a in answers if a.whole]
    latencies, first_tokens = [a.latency_s for a in whole] or [0.0], [a.first_token_s for a in whole] or [0.0]
    return LoadFigures(
        clients=clients,
        tokens_per_s=sum(a.tokens for a in whole) / seconds,
        first_token_p50_s=percentile(first_tokens, 0.5),
        latency_p50_s=percentile(latencies, 0.5),
        latency_p95_s=percentile(latencies, 0.95),
        broken=len(answers) - len(whole),
    )
