"""`llmops run --wait --remote URL`: for CI systems, which reach Dagster's webserver and nothing else."""

import re
import time
import uuid
from collections.abc import Callable

from llmops_assets.cli.context import CommandRefused, err, out
from llmops_assets.config.yaml_validation import ConfigError
from llmops_assets.delivery.run_tags import OUTCOME_TAG, PROJECT_TAG, REQUEST_TAG, REVISION_TAG, WHY_TAG
from llmops_assets.domain.keys import short
from llmops_assets.domain.remote import Answered, RemoteRun, StartOne, at_first, decide
from resources.dagster_remote.client import Job, RemoteDagster, RemoteError, Run

REMOTE_TAG = "llmops/remote"
"""Identifies the run that one command started, should the answer to its start get lost."""
GRACE_S = 20.0
"""How long a sensor may take to start the run of a commit that was just pushed, before this command starts one."""
EVERY_S = 2.0
_SHA = re.compile(r"[0-9a-f]{40}")
_SHOWN = frozenset({"WARNING", "ERROR", "CRITICAL"})
_STEPS = {"ExecutionStepStartEvent": "started", "ExecutionStepFailureEvent": "failed"}


def remote_job(remote: RemoteDagster, project: str | None) -> Job:
    """The delivery job of a project.

    Raises:
        ConfigError: there is no such project, or no name was given and there are several.
    """
    jobs = [j for j in remote.jobs() if j.name.endswith("_deliver") and PROJECT_TAG in j.tags]
    found = [j for j in jobs if project in (None, j.tags[PROJECT_TAG])]
    known = ", ".join(sorted(j.tags[PROJECT_TAG] for j in jobs)) or "none"
    if len(found) != 1:
        wrong = "name a project" if project is None else f"no such project: {project!r}"
        raise ConfigError([f"{wrong} (known at {remote.url}: {known})"])
    return found[0]


class RemoteWait:
    """Runs a commit on another machine, shows its progress, and returns its answer."""

    def __init__(
        self,
        remote: RemoteDagster,
        job: Job,
        revision: str,
        say: Callable[[str], None],
        grace_s: float = GRACE_S,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ):
        self._remote, self._job, self._revision = remote, job, revision
        self._say, self._grace_s, self._clock, self._sleep = say, grace_s, clock, sleep
        self._cursors: dict[str, str] = {}
        self._last = ""
        """The last warning: why a stage refuses, or what a release waits for."""

    def answer(self) -> tuple[Answered, str]:
        """Waits for the answer; returns it with its reason."""
        self._join()
        ended: dict[str, float] = {}
        while True:
            runs = self._runs()
            if not runs:  # its run was deleted, or has not got its tags yet
                self._sleep(EVERY_S)
                continue
            self._show(runs[0].run_id)
            if not runs[0].active:
                ended.setdefault(runs[0].run_id, self._clock())
            found = decide(runs, self._clock() - ended.get(runs[0].run_id, self._clock()))
            if isinstance(found, Answered):
                return found, self._last
            self._sleep(EVERY_S)

    def _join(self) -> None:
        began = self._clock()
        while True:
            runs = self._runs()
            found = at_first(runs, self._clock() - began, self._grace_s)
            if isinstance(found, StartOne):
                self._start()
                return
            if found.run_id is not None:
                self._say(f"{short(self._revision)}: {self._remote.url}/runs/{found.run_id}")
                return
            self._sleep(min(EVERY_S, self._grace_s))

    def _start(self) -> None:
        project = self._job.tags[PROJECT_TAG]
        op = f"{project.replace('-', '_')}__ci_report"
        tags = {REMOTE_TAG: uuid.uuid4().hex, PROJECT_TAG: project, WHY_TAG: "llmops run --remote"}
        config = {"ops": {op: {"config": {"revision": self._revision}}}}
        # With the revision as a tag it is found before its first step has pinned it.
        run_id = self._remote.launch(self._job, config, {**tags, REVISION_TAG: self._revision})
        self._say(f"{short(self._revision)} is started: {self._remote.url}/runs/{run_id}")

    def _runs(self) -> list[RemoteRun]:
        tags = {PROJECT_TAG: self._job.tags[PROJECT_TAG], REVISION_TAG: self._revision}
        return [_of(run) for run in self._remote.runs(tags)]

    def _show(self, run_id: str) -> None:
        for cursor, line in self._remote.lines(run_id, self._cursors.get(run_id)):
            self._cursors[run_id] = cursor
            step = line.step.partition("__")[2] or line.step
            if line.kind in _STEPS:
                self._say(f"{step} {_STEPS[line.kind]}" + (f": {line.text}" if "failed" in _STEPS[line.kind] else ""))
            elif line.kind == "LogMessageEvent":
                if line.level in _SHOWN:
                    self._last = line.text
                self._say(f"{step}: {line.text}" if step else line.text)


def _of(run: Run) -> RemoteRun:
    tags = run.tags
    return RemoteRun(run_id=run.run_id, status=run.status, outcome=tags.get(OUTCOME_TAG), requested=REQUEST_TAG in tags)


def full_sha(revision: str) -> str:
    """The revision, if it is a full commit SHA, as CI systems have it.

    Raises:
        ConfigError: it is not.
    """
    if _SHA.fullmatch(revision):
        return revision
    raise ConfigError([f"--remote needs --revision with the commit's full SHA of 40 characters, not {revision!r}"])


def run_remotely(url: str, project: str | None, revision: str | None, wait: bool, others: bool) -> None:
    """Runs a commit at the Dagster of a URL, and returns when its answer is good.

    Args:
        others: whether options were given that only a local run has.

    Raises:
        ConfigError: the options do not go together, or that Dagster does not answer.
        CommandRefused: the answer is not good.
    """
    if not wait or others:
        raise ConfigError(["--remote goes with --wait and --revision only"])
    sha = full_sha(revision or "")
    try:
        dagster = RemoteDagster(url, say=lambda text: err.print(text, markup=False, soft_wrap=True))
        job = remote_job(dagster, project)
        found, why = RemoteWait(dagster, job, sha, lambda text: out.print(text, markup=False, soft_wrap=True)).answer()
    except RemoteError as error:
        raise ConfigError([str(error)]) from error
    said = f"{short(sha)} is {found.outcome}"
    if not found.good:
        raise CommandRefused(f"{said}: {why}" if why else f"{said}; see its run at {dagster.url}/runs/{found.run_id}")
    out.print(said)
