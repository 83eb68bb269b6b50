"""The LLM judges that an evaluation asks, and what they lack: known before anything is trained.

Asking them belongs in `llmops_assets.programs.judging`.
"""

import os
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from llmops_assets.config.judges import Judge
from llmops_assets.config.metrics import ListedMetric
from llmops_assets.config.project import ProjectConfig
from llmops_assets.config.settings import Settings
from llmops_assets.domain.chain import COMPARED

PORTS = {"http": 80, "https": 443}
CONNECT_S = 5.0
ATTEMPTS = 2


def judges_of(settings: Settings, config: ProjectConfig) -> tuple[Judge, ...]:
    """The judges that the project's metrics name, each once, as far as the settings have them."""
    named = dict.fromkeys(m.judge for m in config.evaluation.metrics if isinstance(m, ListedMetric) and m.judge)
    return tuple(judge for name in named if (judge := settings.judge(name)) is not None)


def missing_keys(settings: Settings, config: ProjectConfig, computed: Iterable[str] = COMPARED) -> list[str]:
    """API keys of judges that are not in this process's environment, each with its remedy.

    Args:
        computed: the stages that a run computes; without an evaluation, no judge is asked.
    """
    if not set(COMPARED).intersection(computed):
        return []
    return [
        f"judge {judge.name} (api_key): its API key is missing; set the environment variable {judge.api_key.env} where "
        "Dagster's services run, and start them again"
        for judge in judges_of(settings, config)
        if judge.api_key and not os.environ.get(judge.api_key.env)
    ]


def unreachable(judge: Judge) -> str | None:
    """Why no connection to its endpoint can be made, with the remedy; None if one can.

    Nothing is sent: the evaluation asks for a word before any inference, which also finds a wrong key or model.
    """
    address = urlsplit(judge.base_url)
    problem = ""
    for _ in range(ATTEMPTS):
        try:
            port = address.port or PORTS[address.scheme]
            socket.create_connection((address.hostname or "", port), timeout=min(CONNECT_S, judge.timeout)).close()
            return None
        except (OSError, ValueError) as error:  # ValueError: no port, or no name that DNS can have
            problem = str(error) or type(error).__name__
    return (
        f"judge {judge.name} (base_url): no connection to {judge.base_url}: {problem}; start it or correct base_url in "
        "the settings"
    )
