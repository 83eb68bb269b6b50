"""GitLab: its REST API, version 4.

A commit status is identified by its name; GitLab refuses a status that would not change its state, and one that goes
back, such as from running to pending. Deployments have no field for an identity: the newest of an environment is taken
for the same if it is of the same commit.
"""

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
    "queued": "pending", "running": "running", "waiting": "running", "success": "success", "neutral": "success",
    "failure": "failed", "cancelled": "canceled",
}  # fmt: skip
"""What waits for a person has run before, and cannot go back to pending."""
_DEPLOYED = {"in_progress": "running", "success": "success", "failure": "failed"}
DESCRIPTION = 255
"""Characters of a status's description."""
DEVELOPER = 30
"""Access level that may post statuses and deployments."""


class GitLab:
    deploys = True

    def __init__(self, api: str, repository: str, token: str):
        self._api = Api(api, {"PRIVATE-TOKEN": token, "User-Agent": "llmops-assets"}, token)
        self._at = f"/projects/{quote(repository, safe='')}"
        self._name: str | None = None

    def notes(self) -> tuple[str, ...]:
        return ()

    def report(self, answer: GroupAnswer, known: str) -> str:
        state, text = STATUS[answer.state], status_line(answer, DESCRIPTION)
        listed = f"{self._at}/repository/commits/{answer.revision}/statuses"
        shown = max(self._api.pages(listed, name=answer.context, all="true"), key=lambda s: int(s["id"]), default=None)
        if shown is not None and (shown.get("status"), shown.get("description")) == (state, text):
            return str(shown["id"])
        body = {"state": state, "name": answer.context, "description": text}
        try:
            made = self._api.request(
                "POST",
                f"{self._at}/statuses/{answer.revision}",
                {**body, **({"target_url": answer.url} if answer.url else {})},
            )
        except HostRefuses as error:
            if error.status == 400 and "transition" in str(error).lower() and shown is not None:
                return str(shown["id"])  # it shows this state already, with an earlier description
            raise
        return str(made["id"])

    # -- comments -----------------------------------------------------------------------------------------------------

    def pull_requests(self, revision: str) -> tuple[int, ...]:
        with unless_refused(404):
            found = self._api.pages(f"{self._at}/repository/commits/{revision}/merge_requests")
            return tuple(int(one["iid"]) for one in found)
        return ()

    def comment(self, answer: CommentAnswer, known: str) -> str:
        return show_comment(self, answer, known)

    def comment_of(self, number: int, identity: str) -> Entry | None:
        with unless_refused(404):
            return self._entry(self._api.get(f"{self._notes(number)}/{identity}"))
        return None

    def comments(self, number: int) -> Iterable[Entry]:
        return map(self._entry, self._api.pages(self._notes(number), sort="asc", order_by="created_at"))

    def add_comment(self, number: int, body: str) -> str:
        return str(self._api.request("POST", self._notes(number), {"body": body})["id"])

    def change_comment(self, number: int, identity: str, body: str) -> None:
        self._api.request("PUT", f"{self._notes(number)}/{identity}", {"body": body})

    def _notes(self, number: int) -> str:
        return f"{self._at}/merge_requests/{number}/notes"

    def _entry(self, note: Mapping[str, Any]) -> Entry:
        if self._name is None:
            self._name = str(self._api.get("/user")["username"])
        author = note.get("author") or {}
        return Entry(str(note["id"]), str(note.get("body") or ""), author.get("username") == self._name)

    # -- deployments --------------------------------------------------------------------------------------------------

    def deploy(self, answer: DeploymentAnswer, known: str) -> str:
        path, wanted = f"{self._at}/deployments", _DEPLOYED[answer.state]
        found = self._api.get(f"{path}/{known}") if known else self._newest(answer)
        if found is None:
            body = {"environment": answer.name, "sha": answer.revision, "ref": answer.revision, "tag": False}
            return str(self._api.request("POST", path, {**body, "status": wanted})["id"])
        if found.get("status") != wanted:
            self._api.request("PUT", f"{path}/{found['id']}", {"status": wanted})
        return str(found["id"])

    def _newest(self, answer: DeploymentAnswer) -> dict[str, Any] | None:
        query = {"environment": answer.name, "order_by": "id", "sort": "desc", "per_page": 1}
        found = self._api.get(f"{self._at}/deployments", **query)
        newest = found[0] if isinstance(found, list) and found else None
        return dict(newest) if newest and newest.get("sha") == answer.revision else None

    # -- permissions --------------------------------------------------------------------------------------------------

    def verify(self) -> list[Permission]:
        try:
            project = self._api.get(self._at)
        except HostRefuses as error:
            return [Permission(what="read the project", granted=False, detail=str(error))]
        rights = project.get("permissions") or {}
        level = max(int((rights.get(of) or {}).get("access_level") or 0) for of in ("project_access", "group_access"))
        role = f"its access level is {level}; Developer is {DEVELOPER}"
        found = [
            Permission(what="read the project", granted=True),
            Permission(what="post statuses, comments and deployments", granted=level >= DEVELOPER, detail=role),
        ]
        try:
            scopes = [str(scope) for scope in self._api.get("/personal_access_tokens/self").get("scopes") or ()]
        except HostRefuses:
            return [*found, Permission(what="use the API", granted=None, detail="GitLab does not tell its scopes")]
        return [*found, Permission(what="use the API", granted="api" in scopes, detail=f"scopes: {', '.join(scopes)}")]
