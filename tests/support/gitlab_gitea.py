"""A GitLab and a Gitea for tests, by their documentation.

No package carries their OpenAPI description, so these servers check by hand what it says of the requests that are used:
the path, the parameters that are known and required, and the values of states. GitLab's state machine of statuses is
that of its source: a status can be updated while it is pending or running, and not to the state that it has.
"""

import re
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support.code_hosts import HostServer, page

TOKEN = "glpat-0123456789abcdefghij"
_NEXT = {
    "pending": {"running", "success", "failed", "canceled"}, "running": {"success", "failed", "canceled"},
}  # fmt: skip


class GitLabServer(HostServer):
    """One project, group/sub/zoo."""

    def __init__(self) -> None:
        super().__init__()
        self.statuses: list[dict[str, Any]] = []
        self.notes: dict[int, list[dict[str, Any]]] = {}
        self.deployments: list[dict[str, Any]] = []
        self.merge_requests: dict[str, list[int]] = {}
        self.level, self.scopes = 30, ["api"]

    def shown(self, sha: str) -> dict[str, tuple[str, str]]:
        """Name → (state, description) of a commit."""
        return {s["name"]: (s["status"], s["description"]) for s in self.statuses if s["sha"] == sha}

    def handle(self, method: str, target: str, headers: dict[str, str], body: Any) -> tuple[int, Any]:
        if headers.get("private-token") != TOKEN:
            return 401, {"message": "401 Unauthorized"}
        url = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if url.path == "/user":
            return 200, {"id": 1, "username": "project_1_bot"}
        if url.path == "/personal_access_tokens/self":
            return 200, {"scopes": self.scopes}
        at, _, rest = url.path.removeprefix("/projects/").partition("/")
        if unquote(at) != "group/sub/zoo" or "/" in at:
            return 404, {"message": "404 Project Not Found"}
        with self.lock:
            if not rest:
                return 200, {"permissions": {"project_access": {"access_level": self.level}, "group_access": None}}
            if found := re.fullmatch(r"statuses/(\w+)", rest):
                return self._add_status(found[1], body)
            if found := re.fullmatch(r"repository/commits/(\w+)/statuses", rest):
                mine = [s for s in self.statuses if s["sha"] == found[1] and s["name"] == query.get("name", s["name"])]
                return 200, page(mine, query)
            if found := re.fullmatch(r"repository/commits/(\w+)/merge_requests", rest):
                return 200, page([{"id": 9, "iid": iid} for iid in self.merge_requests.get(found[1], [])], query)
            if found := re.fullmatch(r"merge_requests/(\d+)/notes(?:/(\d+))?", rest):
                return self._note(method, int(found[1]), found[2], body, query)
            if found := re.fullmatch(r"deployments(?:/(\d+))?", rest):
                return self._deployment(method, found[1], body, query)
        return 404, {"error": "404 Not Found"}

    def _add_status(self, sha: str, body: Any) -> tuple[int, Any]:
        unknown = set(body) - {"state", "name", "description", "target_url"}
        if unknown or body["state"] not in ("pending", "running", "success", "failed", "canceled"):
            return 400, {"error": f"state does not have a valid value, or {unknown} is unknown"}
        if len(body.get("description") or "") > 255:
            return 400, {"message": {"description": ["is too long (maximum is 255 characters)"]}}
        same = [s for s in self.statuses if s["sha"] == sha and s["name"] == body["name"] and s["status"] in _NEXT]
        if same:
            if body["state"] not in _NEXT[same[-1]["status"]]:
                return 400, {"message": f"Cannot transition status via :{body['state']} from :{same[-1]['status']}"}
            same[-1].update(body, status=body["state"])
            return 201, same[-1]
        made = {"id": next(self.ids), "sha": sha, **body, "status": body["state"]}
        self.statuses.append(made)
        return 201, made

    def _note(self, method: str, iid: int, identity: str | None, body: Any, query: Any) -> tuple[int, Any]:
        notes = self.notes.setdefault(iid, [])
        if identity is None and method == "GET":
            return 200, page(notes, query)
        if identity is None:
            made = {"id": next(self.ids), "body": body["body"], "author": {"username": "project_1_bot"}}
            notes.append(made)
            return 201, made
        found = next((note for note in notes if note["id"] == int(identity)), None)
        if found is None:
            return 404, {"message": "404 Not found"}
        if method == "PUT":
            found["body"] = body["body"]
        return 200, found

    def _deployment(self, method: str, identity: str | None, body: Any, query: Any) -> tuple[int, Any]:
        if method == "POST":
            if set(body) != {"environment", "sha", "ref", "tag", "status"}:
                return 400, {"error": "a parameter is missing"}
            made = {"id": next(self.ids), **body, "environment": {"name": body["environment"]}}
            self.deployments.insert(0, made)
            return 201, made
        if identity is None:
            mine = [d for d in self.deployments if d["environment"]["name"] == query["environment"]]
            return 200, page(mine, query)
        found = next((d for d in self.deployments if d["id"] == int(identity)), None)
        if found is None:
            return 404, {"message": "404 Not Found"}
        if method == "PUT":
            if found["status"] != "running":
                return 400, {"message": {"status": ["cannot transition"]}}
            found["status"] = body["status"]
        return 200, found


class GiteaServer(HostServer):
    """One repository, o/zoo."""

    def __init__(self) -> None:
        super().__init__()
        self.statuses: list[dict[str, Any]] = []
        self.notes: dict[int, list[dict[str, Any]]] = {}
        self.open: dict[int, str] = {}
        """Open pull request → its head."""
        self.merged: dict[str, int] = {}
        self.may_push = True

    def shown(self, sha: str) -> dict[str, tuple[str, str]]:
        return {s["context"]: (s["status"], s["description"]) for s in self.statuses if s["sha"] == sha}

    def handle(self, method: str, target: str, headers: dict[str, str], body: Any) -> tuple[int, Any]:
        if headers.get("authorization") != f"token {TOKEN}":
            return 401, {"message": "invalid username, password or token"}
        url = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        query = {**query, "per_page": str(min(int(query.get("limit", "30")), 50))}
        if url.path == "/user":
            return 200, {"id": 1, "login": "llmops-bot"}
        if not url.path.startswith("/repos/o/zoo"):
            return 404, {"message": "The target couldn't be found."}
        rest = url.path.removeprefix("/repos/o/zoo").lstrip("/")
        with self.lock:
            if not rest:
                return 200, {"full_name": "o/zoo", "permissions": {"pull": True, "push": self.may_push}}
            if found := re.fullmatch(r"statuses/(\w+)", rest):
                if body["state"] not in ("pending", "success", "error", "failure", "warning"):
                    return 422, {"message": "invalid state"}
                made = {"id": next(self.ids), "sha": found[1], **body, "status": body["state"]}
                self.statuses.append(made)
                return 201, made
            if found := re.fullmatch(r"commits/(\w+)/statuses", rest):
                return 200, page([s for s in self.statuses if s["sha"] == found[1]], query)
            if rest == "pulls":
                listed = [{"number": n, "head": {"sha": sha}} for n, sha in self.open.items()]
                return 200, page(listed, query)
            if found := re.fullmatch(r"commits/(\w+)/pull", rest):
                number = self.merged.get(found[1])
                return (200, {"number": number}) if number else (404, {"message": "not found"})
            if found := re.fullmatch(r"issues/(\d+)/comments", rest):
                notes = self.notes.setdefault(int(found[1]), [])
                if method == "GET":
                    return 200, notes
                notes.append({"id": next(self.ids), "body": body["body"], "user": {"login": "llmops-bot"}})
                return 201, notes[-1]
            if found := re.fullmatch(r"issues/comments/(\d+)", rest):
                notes = [n for all_of_it in self.notes.values() for n in all_of_it if n["id"] == int(found[1])]
                if not notes:
                    return 404, {"message": "not found"}
                if method == "PATCH":
                    notes[0]["body"] = body["body"]
                return 200, notes[0]
        return 404, {"message": "not found"}
