"""Gitea and Forgejo: their REST API, version 1, whose paths are like GitHub's. They have no deployments."""

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from llmops_assets.domain.answer_comment import CommentAnswer
from llmops_assets.domain.answers import GroupAnswer, State
from llmops_assets.domain.deployment_answers import DeploymentAnswer
from resources.code_hosts.commenting import Entry, show_comment
from resources.code_hosts.http import Api
from resources.code_hosts.interface import HostRefuses, Permission, status_line, unless_refused

STATUS: Mapping[State, str] = {
    "queued": "pending", "running": "pending", "waiting": "pending", "success": "success", "neutral": "success",
    "failure": "failure", "cancelled": "error",
}  # fmt: skip
DESCRIPTION = 255
"""Characters of a status's description."""
PAGE = 50
"""Entries of a page, as Gitea limits it."""


class Gitea:
    deploys = False

    def __init__(self, api: str, repository: str, token: str):
        self._api = Api(api, {"Authorization": f"token {token}", "User-Agent": "llmops-assets"}, token)
        self._at = f"/repos/{quote(repository)}"
        self._login: str | None = None

    def notes(self) -> tuple[str, ...]:
        return ()

    def report(self, answer: GroupAnswer, known: str) -> str:
        wanted = {
            "state": STATUS[answer.state],
            "context": answer.context,
            "description": status_line(answer, DESCRIPTION),
            "target_url": answer.url or "",
        }
        statuses = self._pages(f"{self._at}/commits/{answer.revision}/statuses")
        mine = [status for status in statuses if status.get("context") == answer.context]
        if mine:
            newest = max(mine, key=lambda status: int(status["id"]))
            shown = {"state": newest.get("status"), "description": newest.get("description")}
            if all(shown[name] == wanted[name] for name in shown):
                return str(newest["id"])
        return str(self._api.request("POST", f"{self._at}/statuses/{answer.revision}", wanted)["id"])

    # -- comments -----------------------------------------------------------------------------------------------------

    def pull_requests(self, revision: str) -> tuple[int, ...]:
        """The open ones whose head the commit is, and the one that it was merged by."""
        pulls = self._pages(f"{self._at}/pulls", state="open", sort="recentupdate")
        found = [int(pull["number"]) for pull in pulls if (pull.get("head") or {}).get("sha") == revision]
        with unless_refused(404):
            found.append(int(self._api.get(f"{self._at}/commits/{revision}/pull")["number"]))
        return tuple(dict.fromkeys(found))

    def comment(self, answer: CommentAnswer, known: str) -> str:
        return show_comment(self, answer, known)

    def comment_of(self, number: int, identity: str) -> Entry | None:
        with unless_refused(404):
            return self._entry(self._api.get(f"{self._at}/issues/comments/{identity}"))
        return None

    def comments(self, number: int) -> Iterable[Entry]:
        return map(self._entry, self._api.get(f"{self._at}/issues/{number}/comments") or [])  # it has no pages

    def add_comment(self, number: int, body: str) -> str:
        return str(self._api.request("POST", f"{self._at}/issues/{number}/comments", {"body": body})["id"])

    def change_comment(self, number: int, identity: str, body: str) -> None:
        self._api.request("PATCH", f"{self._at}/issues/comments/{identity}", {"body": body})

    def _entry(self, comment: Mapping[str, Any]) -> Entry:
        if self._login is None:
            self._login = str(self._api.get("/user")["login"])
        author = comment.get("user") or {}
        return Entry(str(comment["id"]), str(comment.get("body") or ""), author.get("login") == self._login)

    def deploy(self, answer: DeploymentAnswer, known: str) -> str:
        raise HostRefuses("Gitea shows no deployments", 404)  # `deploys` says so: nothing calls this

    # -- permissions --------------------------------------------------------------------------------------------------

    def verify(self) -> list[Permission]:
        try:
            repository = self._api.get(self._at)
        except HostRefuses as error:
            return [Permission(what="read the repository", granted=False, detail=str(error))]
        may_write = bool((repository.get("permissions") or {}).get("push"))
        found = [
            Permission(what="read the repository", granted=True),
            Permission(what="post statuses and comments", granted=may_write, detail="by its account's access"),
        ]
        try:
            login = str(self._api.get("/user")["login"])
        except HostRefuses as error:
            return [*found, Permission(what="read its own account", granted=False, detail=str(error))]
        return [*found, Permission(what="read its own account", granted=True, detail=login)]

    def _pages(self, path: str, **query: Any) -> list[dict[str, Any]]:
        return self._api.pages(path, "limit", PAGE, **query)
