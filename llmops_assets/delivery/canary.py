"""Gathers the evidence of a rollout's step: the gateway's record of users' requests, and probes to both releases.

`llmops_assets.domain.canary` judges it.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

from llmops_assets.domain.canary_evidence import Evidence, of_probes, of_users
from llmops_assets.domain.rollout import ProbeResult
from resources.serving.client import ask_many
from resources.serving.interface import Serving, UserTraffic

PROBES = 8
"""Concurrent probe requests during a hold; equal to the engine's default number of slots."""
CONTROLS = 2
"""Of each round's inputs, those that the champion is asked too while no rule compares with it."""


@dataclass
class StepEvidence:
    """What a step has shown so far.

    Args:
        champion: the release to compare with; None: there is none, or all that counts is whether the candidate
            answers.
        weight: the candidate's share of the users' traffic.
        compares: whether a rule compares with the champion, so that it is asked everything that the candidate is.
        wanted_tokens: the evaluated length of an answer; one that a limit ends before is cut.
        asked_tokens: the limit that probes set; None: none, as most clients.
    """

    serving: Serving
    project: str
    release: str
    champion: str | None
    weight: float
    compares: bool
    wanted_tokens: int
    asked_tokens: int | None
    users: UserTraffic
    _probes: list[ProbeResult] = field(default_factory=list)
    _champion_probes: list[ProbeResult] = field(default_factory=list)
    _silent: bool = False

    def probe(self, inputs: Iterator[str]) -> None:
        """Asks the candidate a round of inputs, and the champion the same or a part of them."""
        batch = list(islice(inputs, PROBES))
        asked_too = batch if self.compares else batch[:CONTROLS]
        with ThreadPoolExecutor(1) as pool:
            control = pool.submit(self._ask, self.champion, asked_too) if self.champion and not self._silent else None
            self._probes += self._ask(self.release, batch)
        if control is not None:
            self._champion_probes += control.result()
            # A champion that hangs must not hold up the release that replaces it.
            self._silent = not any(sample.ok for sample in control.result())

    def so_far(self) -> Evidence:
        users = self.users.by_release()
        return Evidence(
            probes=of_probes(self._probes),
            users=of_users(users.get(self.release, ())),
            champion_probes=of_probes(self._champion_probes),
            champion_users=of_users(users.get(self.champion, ()) if self.champion else ()),
            weight=self.weight,
            has_champion=self.champion is not None,
        )

    def _ask(self, release: str, batch: list[str]) -> list[ProbeResult]:
        url = self.serving.base_url(self.project, "production")
        headers = self.serving.candidate_headers(release)
        answers = ask_many(url, self.project, batch, concurrency=PROBES, headers=headers, max_tokens=self.asked_tokens)
        samples = []
        for answer in answers:
            sample = answer.sample(self.wanted_tokens)
            # An answer of another release is no evidence on this one.
            samples.append(sample if answer.release == release else sample.model_copy(update={"ok": False}))
        return samples
