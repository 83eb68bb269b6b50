"""A client of Dagster's GraphQL API on another machine: finds, starts and follows runs.

A request that fails on its way is repeated: only `launch` changes anything, and its caller looks for the run first.
"""

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx

from llmops_assets.domain.models import Frozen

TIMEOUT_S = 30.0
TOKEN = "LLMOPS_REMOTE_TOKEN"
"""Environment variable: a token for the proxy in front of Dagster, which has no users of its own."""

_JOBS = """query Jobs { repositoriesOrError { __typename
  ... on RepositoryConnection { nodes { name location { name } jobs { name tags { key value } } } }
  ... on Error { message } } }"""
_RUNS = """query Runs($tags: [ExecutionTag!]!) { runsOrError(filter: {tags: $tags}, limit: 20) { __typename
  ... on Runs { results { runId status tags { key value } } } ... on Error { message } } }"""
_LAUNCH = """mutation Launch($params: ExecutionParams!) { launchRun(executionParams: $params) { __typename
  ... on LaunchRunSuccess { run { runId } }
  ... on RunConfigValidationInvalid { errors { message } } ... on Error { message } } }"""
_LOGS = """query Logs($run: ID!, $cursor: String) { logsForRun(runId: $run, afterCursor: $cursor, limit: 500) {
  __typename ... on EventConnection { cursor hasMore events { __typename
    ... on MessageEvent { message level stepKey }
    ... on ExecutionStepFailureEvent { error { message causes { message } } failureMetadata { description } } } }
  ... on Error { message } } }"""


class RemoteError(Exception):
    """The remote Dagster refuses, or cannot be reached; the message says why and never contains the token."""


class Job(Frozen):
    location: str
    repository: str
    name: str
    tags: dict[str, str]


class Run(Frozen):
    run_id: str
    status: str
    tags: dict[str, str]


class Line(Frozen):
    """An event of a run's log."""

    kind: str
    text: str
    level: str
    step: str


class RemoteDagster:
    """Dagster's webserver at a URL.

    Args:
        patience_s: how long a lost connection is tried again.
        say: is told that it is lost, and back.
    """

    def __init__(
        self,
        url: str,
        patience_s: float = 600.0,
        say: Callable[[str], None] = lambda text: None,
        sleep: Callable[[float], None] = time.sleep,
    ):
        self.url = url.rstrip("/").removesuffix("/graphql")
        self._patience_s, self._say, self._sleep = patience_s, say, sleep

    def jobs(self) -> list[Job]:
        found = self._ask(_JOBS, {})["repositoriesOrError"]
        return [
            Job(location=node["location"]["name"], repository=node["name"], name=job["name"], tags=_tags(job["tags"]))
            for node in _checked(found, "RepositoryConnection")["nodes"]
            for job in node["jobs"]
        ]

    def runs(self, tags: dict[str, str]) -> list[Run]:
        """The newest 20 runs with all of these tags, newest first."""
        given = [{"key": key, "value": value} for key, value in tags.items()]
        found = _checked(self._ask(_RUNS, {"tags": given})["runsOrError"], "Runs")
        return [Run(run_id=r["runId"], status=r["status"], tags=_tags(r["tags"])) for r in found["results"]]

    def launch(self, job: Job, config: dict[str, Any], tags: dict[str, str]) -> str:
        """Starts a run and returns its id. `tags` must identify it: if the answer is lost, it is found by them."""
        params = {
            "selector": {
                "repositoryLocationName": job.location, "repositoryName": job.repository, "jobName": job.name,
            },
            "runConfigData": config,
            "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in tags.items()]},
        }  # fmt: skip

        def known() -> dict[str, Any] | None:
            found = self.runs(tags)
            return (
                {"launchRun": {"__typename": "LaunchRunSuccess", "run": {"runId": found[0].run_id}}} if found else None
            )

        found = self._ask(_LAUNCH, {"params": params}, known)["launchRun"]
        return str(_checked(found, "LaunchRunSuccess")["run"]["runId"])

    def lines(self, run_id: str, cursor: str | None) -> Iterator[tuple[str, Line]]:
        """The log from a cursor on: (cursor after it, line)."""
        while True:
            found = _checked(self._ask(_LOGS, {"run": run_id, "cursor": cursor})["logsForRun"], "EventConnection")
            cursor = str(found["cursor"])
            for event in found["events"]:
                kind, step = event["__typename"], event.get("stepKey") or ""
                yield cursor, Line(kind=kind, text=_cause(event), level=event.get("level") or "", step=step)
            if not found["hasMore"]:
                return

    def _ask(
        self, query: str, variables: dict[str, Any], known: Callable[[], dict[str, Any] | None] = lambda: None
    ) -> dict[str, Any]:
        """The answer's data.

        Args:
            known: called before a repetition: what the lost attempt has done, if anything.
        """
        began, pause, lost = time.monotonic(), 1.0, ""
        while True:
            try:
                data = self._once(query, variables)
            except _Lost as error:
                if time.monotonic() - began >= self._patience_s:
                    raise RemoteError(f"{self.url} cannot be reached: {error}") from None
                if not lost:
                    self._say(f"{self.url} cannot be reached ({error}); the run there goes on, and this is tried again")
                lost = str(error)
                self._sleep(pause)
                pause = min(pause * 2, 15.0)
                if (done := known()) is not None:
                    return done
                continue
            if lost:
                self._say(f"{self.url} answers again")
            return data

    def _once(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {token}"} if (token := os.environ.get(TOKEN)) else {}
        try:
            answer = httpx.post(
                f"{self.url}/graphql", json={"query": query, "variables": variables}, headers=headers, timeout=TIMEOUT_S
            )
        except httpx.UnsupportedProtocol as error:
            raise RemoteError(f"{self.url} is not an http or https URL") from error
        except httpx.InvalidURL as error:
            raise RemoteError(f"{self.url} is not a URL") from error
        except httpx.HTTPError as error:
            raise _Lost(type(error).__name__) from error
        if answer.status_code >= 500 or answer.status_code == 429:
            raise _Lost(f"status {answer.status_code}")
        if answer.status_code in (401, 403):
            raise RemoteError(f"{self.url} answers {answer.status_code}: set {TOKEN} to a valid token")
        try:
            body = answer.json()
        except ValueError:
            body = None
        if not isinstance(body, dict) or not isinstance(body.get("data"), dict):
            said = body.get("errors") if isinstance(body, dict) else None
            why = said[0].get("message", "") if isinstance(said, list) and said and isinstance(said[0], dict) else ""
            raise RemoteError(f"{self.url} is not Dagster's webserver{f': {why}' if why else ''}")
        data: dict[str, Any] = body["data"]
        return data


class _Lost(Exception):
    """The connection failed, or the server is not there now."""


def _cause(event: dict[str, Any]) -> str:
    """The text of an event; of a failure what the stage said, else the first cause's message."""
    error = event.get("error") or {}
    said = (event.get("failureMetadata") or {}).get("description")
    causes = [cause["message"] for cause in error.get("causes") or ()]
    return str(said or (causes[-1] if causes else error.get("message")) or event.get("message") or "").strip()


def _tags(found: list[dict[str, str]]) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in found}


def _checked(found: dict[str, Any], wanted: str) -> dict[str, Any]:
    if found["__typename"] == wanted:
        return found
    said = found.get("message") or "; ".join(e["message"] for e in found.get("errors", ())) or found["__typename"]
    raise RemoteError(str(said).strip().splitlines()[0])
