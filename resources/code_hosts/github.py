"""GitHub, and GitHub Enterprise Server: its REST API, version 2022-11-28.

Only the token of a GitHub App may post check runs (of GitHub Actions too); with any other, commit statuses are posted
instead. A check run is found again by its external id, a status by its context, a comment by its marker and author, a
deployment by the identity in its payload.
"""

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from llmops_assets.domain.answer_comment import CommentAnswer
from llmops_assets.domain.answers import GroupAnswer, State
from llmops_assets.domain.deployment_answers import DeploymentAnswer
from llmops_assets.domain.markdown import escaped, without_references
from resources.code_hosts.commenting import Entry, show_comment
from resources.code_hosts.github_app import AppKey, InstallationToken
from resources.code_hosts.http import Api
from resources.code_hosts.interface import HostRefuses, Permission, status_line, unless_refused

STATUS: Mapping[State, str] = {
    "queued": "pending", "running": "pending", "waiting": "pending", "success": "success", "neutral": "success",
    "failure": "failure", "cancelled": "error",
}  # fmt: skip
"""A commit status has no state of its own for a person's decision: its description says what is awaited."""
CONCLUSION: Mapping[State, str] = {
    "waiting": "action_required", "success": "success", "failure": "failure", "neutral": "neutral",
    "cancelled": "cancelled",
}  # fmt: skip
"""Of a check run that is completed. Where a check is required, only success and neutral let a change be merged."""
DESCRIPTION, ANNOTATIONS, SUMMARY = 140, 50, 60_000
"""Characters of a description, annotations of one request, characters of a check run's summary."""
_CHECK, _STATUS = "check:", "status:"
_COMPARED = ("state", "description", "target_url")
_NO_COMMIT = "0" * 40


class GitHub:
    deploys = True

    def __init__(self, api: str, repository: str, token: str | AppKey):
        headers = {
            "Accept": "application/vnd.github+json",
            "X-GitHub-Api-Version": "2022-11-28",
            "User-Agent": "llmops-assets",
        }
        if isinstance(token, str):
            self._api = Api(api, {**headers, "Authorization": f"Bearer {token}"}, token)
        else:
            self._api = Api(api, headers, "", bearer=InstallationToken(api, repository, token, headers))
        self._at = f"/repos/{quote(repository)}"
        self._no_checks = ""
        """Why check runs cannot be posted; empty: they can, as far as is known."""
        self._login: str | None = None

    def notes(self) -> tuple[str, ...]:
        return (self._no_checks,) if self._no_checks else ()

    def report(self, answer: GroupAnswer, known: str) -> str:
        if not self._no_checks:
            try:
                return _CHECK + self._check(answer, known.removeprefix(_CHECK) if known.startswith(_CHECK) else "")
            except HostRefuses as error:
                if error.status != 403:
                    raise
                self._no_checks = f"commit statuses are posted instead of check runs: {error}"
        return _STATUS + self._status(answer)

    # -- check runs and statuses --------------------------------------------------------------------------------------

    def _check(self, answer: GroupAnswer, known: str) -> str:
        found = self._updated(answer, known) if known else None
        if found is None and (earlier := self._check_run(answer)):
            found = self._updated(answer, earlier)
        if found is None:
            first = answer.annotations[:ANNOTATIONS]
            body = {"head_sha": answer.revision, **_check_body(answer, first)}
            found = self._api.request("POST", f"{self._at}/check-runs", body)
        # Each request adds its annotations to those that there are: so only those that are missing are sent.
        sent = int(((found.get("output") or {}).get("annotations_count")) or 0)
        for start in range(sent, len(answer.annotations), ANNOTATIONS):
            more = _check_body(answer, answer.annotations[start : start + ANNOTATIONS])
            self._api.request("PATCH", f"{self._at}/check-runs/{found['id']}", more)
        return str(found["id"])

    def _updated(self, answer: GroupAnswer, identity: str) -> dict[str, Any] | None:
        """The check run's current state; None if GitHub no longer has it."""
        with unless_refused(404):
            return dict(self._api.request("PATCH", f"{self._at}/check-runs/{identity}", _check_body(answer)))
        return None

    def _check_run(self, answer: GroupAnswer) -> str | None:
        name = {"check_name": answer.context, "filter": "all", "per_page": 100}
        listed = self._api.get(f"{self._at}/commits/{answer.revision}/check-runs", **name)
        runs = listed.get("check_runs", []) if isinstance(listed, dict) else []
        return next((str(run["id"]) for run in runs if run.get("external_id") == answer.subject), None)

    def _status(self, answer: GroupAnswer) -> str:
        wanted = {
            "state": STATUS[answer.state],
            "context": answer.context,
            "description": status_line(answer, DESCRIPTION),
            **({"target_url": answer.url} if answer.url else {}),
        }
        # Newest first. One that says the same is an earlier attempt, whose answer was lost.
        for shown in self._api.pages(f"{self._at}/commits/{answer.revision}/statuses"):
            if shown.get("context") == answer.context:
                if all((shown.get(name) or "") == (wanted.get(name) or "") for name in _COMPARED):
                    return str(shown.get("id"))
                break
        made = self._api.request("POST", f"{self._at}/statuses/{answer.revision}", wanted)
        return str(made["id"])

    # -- comments -----------------------------------------------------------------------------------------------------

    def pull_requests(self, revision: str) -> tuple[int, ...]:
        with unless_refused(404, 422):  # no such commit, or not yet
            found = self._api.pages(f"{self._at}/commits/{revision}/pulls")
            return tuple(int(pull["number"]) for pull in found)
        return ()

    def comment(self, answer: CommentAnswer, known: str) -> str:
        return show_comment(self, answer, known)

    def comment_of(self, number: int, identity: str) -> Entry | None:
        with unless_refused(404, 410):
            return self._entry(self._api.get(f"{self._at}/issues/comments/{identity}"))
        return None

    def comments(self, number: int) -> Iterable[Entry]:
        return map(self._entry, self._api.pages(f"{self._at}/issues/{number}/comments"))

    def add_comment(self, number: int, body: str) -> str:
        return str(self._api.request("POST", f"{self._at}/issues/{number}/comments", {"body": body})["id"])

    def change_comment(self, number: int, identity: str, body: str) -> None:
        self._api.request("PATCH", f"{self._at}/issues/comments/{identity}", {"body": body})

    def _entry(self, comment: Mapping[str, Any]) -> Entry:
        user, mine = comment.get("user") or {}, self._account()
        is_mine = user.get("login") == mine if mine else user.get("type") == "Bot"
        return Entry(str(comment["id"]), str(comment.get("body") or ""), is_mine)

    def _account(self) -> str:
        """The token's account; empty for an App's token, which may not ask, and whose comments are a bot's."""
        if self._login is None:
            try:
                self._login = str(self._api.get("/user")["login"])
            except HostRefuses:
                self._login = ""
        return self._login

    # -- deployments --------------------------------------------------------------------------------------------------

    def deploy(self, answer: DeploymentAnswer, known: str) -> str:
        if known:
            with unless_refused(404):
                self._deployment_status(answer, known)
                return known
        identity = self._deployment(answer)
        if not identity:
            body = {
                "ref": answer.revision,
                "environment": answer.name,
                "description": answer.headline[:DESCRIPTION],
                "payload": {"llmops": answer.subject},
                "auto_merge": False,
                "required_contexts": [],  # the gates have been judged already
                "production_environment": answer.environment == "production",
            }
            identity = str(self._api.request("POST", f"{self._at}/deployments", body)["id"])
        self._deployment_status(answer, identity)
        return identity

    def _deployment(self, answer: DeploymentAnswer) -> str:
        for found in self._api.pages(f"{self._at}/deployments", sha=answer.revision, environment=answer.name):
            payload = found.get("payload")
            if isinstance(payload, dict) and payload.get("llmops") == answer.subject:
                return str(found["id"])
        return ""

    def _deployment_status(self, answer: DeploymentAnswer, identity: str) -> None:
        wanted = {
            "state": answer.state,
            "description": answer.headline[:DESCRIPTION],
            **({"log_url": answer.url} if answer.url else {}),
        }
        path = f"{self._at}/deployments/{identity}/statuses"
        newest = self._api.get(path, per_page=1)
        shown = newest[0] if isinstance(newest, list) and newest else {}
        if any(shown.get(name) != wanted[name] for name in ("state", "description")):
            # The environment's earlier deployments become inactive by this, as they do here.
            self._api.request("POST", path, {**wanted, "auto_inactive": True})

    # -- permissions --------------------------------------------------------------------------------------------------

    def verify(self) -> list[Permission]:
        found: list[Permission] = []
        try:
            self._api.get(self._at)
        except HostRefuses as error:
            return [Permission(what="read the repository", granted=False, detail=str(error))]
        found.append(Permission(what="read the repository", granted=True))
        run = {"name": "llmops/test", "head_sha": _NO_COMMIT, "status": "queued"}
        checks = self._may("post check runs", "/check-runs", run, needed=False)
        found.append(checks)
        status = {"state": "pending", "context": "llmops/test"}
        statuses = self._may("post commit statuses", f"/statuses/{_NO_COMMIT}", status)
        found.append(statuses.model_copy(update={"needed": not checks.granted}))
        deployment = {"ref": _NO_COMMIT, "environment": "llmops-test", "auto_merge": False, "required_contexts": []}
        found.append(self._may("create deployments", "/deployments", deployment))
        try:
            self._api.get(f"{self._at}/pulls", per_page=1)
        except HostRefuses as error:
            found.append(Permission(what="read pull requests", granted=False, detail=str(error)))
        else:
            found.append(Permission(what="read pull requests", granted=True))
        untried = "not tried, since that would post one"
        found.append(Permission(what="comment on pull requests", granted=None, detail=untried))
        return found

    def _may(self, what: str, path: str, body: dict[str, Any], needed: bool = True) -> Permission:
        """Tries a request about a commit that cannot exist: refused for the commit, and not for the token."""
        try:
            self._api.request("POST", self._at + path, body)
        except HostRefuses as error:
            if error.status in (403, 404):
                return Permission(what=what, granted=False, detail=str(error), needed=needed)
        return Permission(what=what, granted=True, needed=needed)


def _check_body(answer: GroupAnswer, annotations: Any = ()) -> dict[str, Any]:
    status = {"queued": "queued", "running": "in_progress"}.get(answer.state, "completed")
    output: dict[str, Any] = {
        "title": status_line(answer, DESCRIPTION),
        "summary": (answer.summary or without_references(escaped(answer.headline)))[:SUMMARY],
    }
    if annotations:
        output["annotations"] = [
            {
                "path": one.path,
                "start_line": one.line,
                "end_line": one.line,
                "annotation_level": one.level,
                "message": one.message,
            }
            for one in annotations
        ]
    return {
        "name": answer.context,
        "external_id": answer.subject,
        "status": status,
        **({"conclusion": CONCLUSION[answer.state]} if status == "completed" else {}),
        **({"details_url": answer.url} if answer.url else {}),
        "output": output,
    }
