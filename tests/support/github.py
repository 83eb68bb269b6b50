"""A GitHub for tests: prism holds every request to GitHub's own OpenAPI description, a server in front keeps state.

prism answers with the description's examples and knows no state. So the server passes each request to prism first: what
violates the description is answered with prism's 422 and changes nothing. What was created is then laid over the
example. Faults are injected between client and server.
"""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from platformdirs import user_cache_path

from llmops_assets.domain.keys import digest
from tests.support.code_hosts import HostServer, page, serving
from tests.support.ports import free_port
from tests.support.shared import once
from tests.support.waiting import CEILING_S, wait_for

DESCRIPTION, PRISM = "@octokit/openapi@23.0.2", "@stoplight/prism-cli@5.16.0"
TOKEN = "ghp_0123456789abcdefghijklmnopqrstuvwxyz"
FORM = 3
"""Of what `_install` makes: a folder of another form is not used."""
_USED = re.compile(
    r"/repos/\{owner\}/\{repo\}(/statuses/\{sha\}|/commits/\{\w+\}/(statuses|check-runs|pulls)"
    r"|/check-runs(/\{check_run_id\})?|/issues/\{issue_number\}/comments|/issues/comments/\{comment_id\}"
    r"|/deployments(/\{deployment_id\}/statuses)?|/pulls|/installation)?|/user"
    r"|/app/installations/\{installation_id\}/access_tokens"
)
"""The paths that are kept: prism needs a minute for all 800."""


def prism_folder() -> Path:
    """A folder with prism and the part of the description that is used; skips the test where it cannot be had."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("npm is not installed: prism and GitHub's OpenAPI description come from it")
    name = re.sub(r"[^\w.]+", "-", f"{DESCRIPTION}-{PRISM}-{digest([_USED.pattern, FORM])[:8]}").strip("-")
    folder = user_cache_path("llmops-tests", ensure_exists=True) / name
    try:
        return once(folder, lambda: _install(folder))
    except subprocess.CalledProcessError as error:
        pytest.skip(f"npm cannot install {PRISM}: {error.stderr[-300:]}")


def _install(folder: Path) -> None:
    command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder), DESCRIPTION, PRISM]
    folder.mkdir(exist_ok=True)
    subprocess.run(command, check=True, capture_output=True, text=True)
    package = folder / "node_modules" / "@octokit" / "openapi"
    described = json.loads((package / "generated" / "api.github.com.deref.json").read_text())
    described["paths"] = {path: what for path, what in described["paths"].items() if _USED.fullmatch(path)}
    for operations in described["paths"].values():
        for operation in (found for found in operations.values() if isinstance(found, dict)):
            for answer in operation["responses"].values():
                for content in answer.get("content", {}).values():
                    # 95% of the file, and some of the description's own examples violate them. Requests keep theirs.
                    content.pop("schema", None)
    described = {name: described[name] for name in ("openapi", "info", "servers", "paths")}
    (folder / "github.json").write_text(json.dumps(described))
    shutil.rmtree(package)  # 400 MB


@contextmanager
def prism() -> Iterator[str]:
    """The URL of a prism that enforces GitHub's description."""
    folder, port = prism_folder(), free_port()
    command = [str(folder / "node_modules" / ".bin" / "prism"), "mock", "--errors", "-p", str(port)]
    process = subprocess.Popen(
        [*command, str(folder / "github.json")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert process.poll() is None, "prism has ended"
        try:
            return httpx.get(f"{url}/user").status_code == 200
        except httpx.HTTPError:
            return False

    try:
        wait_for("prism", answers)
        yield url
    finally:
        process.terminate()
        process.wait(CEILING_S)


class GitHubServer(HostServer):
    """GitHub's state, and what was asked of it.

    Attributes:
        pulls: commit → numbers of its pull requests.
        login: the token's account.
        app: whether the token is that of an App, which may post check runs.
        public_key: of an App, in PEM, whose installation's tokens are taken instead of the token; empty: none.
        tokens: those that were made for it, with their ends in epoch seconds.
        comments: number of an issue or pull request → its comments, oldest first.
    """

    def __init__(self, prism_url: str) -> None:
        super().__init__()
        self.prism = httpx.Client(base_url=prism_url, timeout=CEILING_S)
        self.statuses: dict[str, list[dict[str, Any]]] = {}
        self.pulls: dict[str, list[int]] = {}
        self.login, self.app = "llmops-bot", False
        self.public_key, self.tokens = "", dict[str, float]()
        self.comments: dict[int, list[dict[str, Any]]] = {}
        self.checks: list[dict[str, Any]] = []
        self.deployments: list[dict[str, Any]] = []

    def shown(self, sha: str) -> dict[str, tuple[str, str]]:
        """Context → (state, description) of a commit, as GitHub shows them."""
        found: dict[str, tuple[str, str]] = {}
        for status in self.statuses.get(sha, []):
            found.setdefault(status["context"], (status["state"], status["description"]))
        return found

    def add_comment(self, number: int, body: str, login: str) -> dict[str, Any]:
        """Adds a comment as a person does."""
        made = {"id": next(self.ids), "body": body, "user": {"login": login, "type": "User"}}
        self.comments.setdefault(number, []).append(made)
        return made

    def conclusions(self, sha: str) -> dict[str, tuple[str, str | None]]:
        """Name → (status, conclusion) of a commit's check runs."""
        return {c["name"]: (c["status"], c["conclusion"]) for c in self.checks if c["head_sha"] == sha}

    def handle(self, method: str, target: str, headers: dict[str, str], body: Any) -> tuple[int, Any]:
        """(status, JSON) of the answer to a request."""
        if not self._accepts(headers.get("authorization", "").removeprefix("Bearer "), target):
            return 401, {"message": "Bad credentials"}
        # GitHub takes application/vnd.github+json, and recommends it; its description names application/json only.
        asked = self.prism.request(method, target, json=body, headers={"accept": "application/json"})
        example, good = asked.json(), asked.status_code
        if good >= 400:
            return good, example
        url = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        with self.lock:
            for pattern, answer in self.routes.items():
                if found := re.fullmatch(pattern, f"{method} {url.path}"):
                    status, told = answer(self, example, body, query, *found.groups())
                    return (status or good), told
        return good, example

    def _accepts(self, token: str, target: str) -> bool:
        if not self.public_key:
            return token == TOKEN
        if not re.fullmatch(r"/app/.*|/repos/[^/]+/[^/]+/installation", target):
            return self.tokens.get(token, 0.0) > time.time()
        import jwt

        try:  # as GitHub does: the signature, the times, 10 minutes at most
            claims = jwt.decode(
                token, self.public_key, algorithms=["RS256"], options={"require": ["exp", "iat", "iss"]}
            )
        except jwt.PyJWTError:
            return False
        return claims["iss"] == "Iv1.app" and claims["exp"] - time.time() <= 600

    def _installation(self, example: Any, body: Any, query: Any) -> tuple[int, Any]:
        return 0, {**example, "id": 77}

    def _add_token(self, example: Any, body: Any, query: Any, installation: str) -> tuple[int, Any]:
        if installation != "77" or body["repositories"] != ["zoo"]:
            return 404, {"message": "Not Found"}
        token, ends = f"ghs_{len(self.tokens)}{'0' * 20}", time.time() + 3600
        self.tokens[token] = ends
        return 0, {**example, "token": token, "expires_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ends))}

    def _add_status(self, example: Any, body: Any, query: Any, sha: str) -> tuple[int, Any]:
        if sha == "0" * 40:
            return 422, {"message": f"No commit found for SHA: {sha}"}
        made = {**example, "target_url": None, "description": None, **body, "id": next(self.ids)}
        self.statuses.setdefault(sha, []).insert(0, made)
        return 0, made

    def _list_statuses(self, example: Any, body: Any, query: Any, sha: str) -> tuple[int, Any]:
        return 0, page(self.statuses.get(sha, []), query)

    def _list_pulls(self, example: Any, body: Any, query: Any, sha: str) -> tuple[int, Any]:
        return 0, page([{**example[0], "number": number} for number in self.pulls.get(sha, [])], query)

    def _user(self, example: Any, body: Any, query: Any) -> tuple[int, Any]:
        return 0, {**example, "login": self.login}

    def _add_comment(self, example: Any, body: Any, query: Any, number: str) -> tuple[int, Any]:
        user = {**example["user"], "login": self.login, "type": "Bot" if self.app else "User"}
        made = {**example, **body, "id": next(self.ids), "user": user}
        self.comments.setdefault(int(number), []).append(made)
        return 0, made

    def _list_comments(self, example: Any, body: Any, query: Any, number: str) -> tuple[int, Any]:
        return 0, page(self.comments.get(int(number), []), query)

    def _comment(self, example: Any, body: Any, query: Any, identity: str) -> tuple[int, Any]:
        found = [c for comments in self.comments.values() for c in comments if c["id"] == int(identity)]
        if not found:
            return 404, {"message": "Not Found"}
        if body:
            if found[0]["user"]["login"] != self.login:
                return 403, {"message": "Must have admin rights to Repository."}
            found[0].update(body)
        return 0, found[0]

    def _add_check(self, example: Any, body: Any, query: Any) -> tuple[int, Any]:
        if not self.app:
            return 403, {"message": "You must authenticate via a GitHub App."}
        if body["head_sha"] == "0" * 40:
            return 422, {"message": f"No commit found for SHA: {body['head_sha']}"}
        made = {**example, "conclusion": None, "external_id": "", **body, "id": next(self.ids)}
        self.checks.append(self._annotated(made, body, []))
        return 0, made

    def _change_check(self, example: Any, body: Any, query: Any, identity: str) -> tuple[int, Any]:
        found = [c for c in self.checks if c["id"] == int(identity)]
        if not found:
            return 404, {"message": "Not Found"}
        before = found[0]["annotations"]
        found[0].update({"conclusion": None, **body})
        return 0, self._annotated(found[0], body, before)

    @staticmethod
    def _annotated(check: dict[str, Any], body: Any, before: list[Any]) -> dict[str, Any]:
        """GitHub adds the annotations of a request to those that there are."""
        check["annotations"] = [*before, *body.get("output", {}).get("annotations", [])]
        check["output"] = {**body.get("output", {}), "annotations_count": len(check["annotations"])}
        return check

    def _list_checks(self, example: Any, body: Any, query: Any, sha: str) -> tuple[int, Any]:
        found = [c for c in self.checks if c["head_sha"] == sha and c["name"] == query.get("check_name", c["name"])]
        return 0, {"total_count": len(found), "check_runs": page(found, query)}

    def _add_deployment(self, example: Any, body: Any, query: Any) -> tuple[int, Any]:
        if body["ref"] == "0" * 40:
            return 422, {"message": f"No ref found for: {body['ref']}"}
        made = {**example, **body, "sha": body["ref"], "id": next(self.ids), "statuses": []}
        self.deployments.insert(0, made)
        return 0, made

    def _list_deployments(self, example: Any, body: Any, query: Any) -> tuple[int, Any]:
        found = [d for d in self.deployments if d["sha"] == query["sha"] and d["environment"] == query["environment"]]
        return 0, page(found, query)

    def _add_state(self, example: Any, body: Any, query: Any, identity: str) -> tuple[int, Any]:
        made = {**example, **body}
        self._of(identity).insert(0, made)
        return 0, made

    def _list_states(self, example: Any, body: Any, query: Any, identity: str) -> tuple[int, Any]:
        return 0, page(self._of(identity), query)

    def _of(self, identity: str) -> list[dict[str, Any]]:
        return next(d["statuses"] for d in self.deployments if d["id"] == int(identity))

    routes: ClassVar[dict[str, Callable[..., tuple[int, Any]]]] = {
        r"GET /user": _user,
        r"GET /repos/[^/]+/[^/]+/installation": _installation,
        r"POST /app/installations/(\d+)/access_tokens": _add_token,
        r"POST /repos/[^/]+/[^/]+/statuses/(\w+)": _add_status,
        r"GET /repos/[^/]+/[^/]+/commits/(\w+)/statuses": _list_statuses,
        r"GET /repos/[^/]+/[^/]+/commits/(\w+)/pulls": _list_pulls,
        r"POST /repos/[^/]+/[^/]+/issues/(\d+)/comments": _add_comment,
        r"GET /repos/[^/]+/[^/]+/issues/(\d+)/comments": _list_comments,
        r"(?:GET|PATCH) /repos/[^/]+/[^/]+/issues/comments/(\d+)": _comment,
        r"POST /repos/[^/]+/[^/]+/check-runs": _add_check,
        r"PATCH /repos/[^/]+/[^/]+/check-runs/(\d+)": _change_check,
        r"GET /repos/[^/]+/[^/]+/commits/(\w+)/check-runs": _list_checks,
        r"POST /repos/[^/]+/[^/]+/deployments": _add_deployment,
        r"GET /repos/[^/]+/[^/]+/deployments": _list_deployments,
        r"POST /repos/[^/]+/[^/]+/deployments/(\d+)/statuses": _add_state,
        r"GET /repos/[^/]+/[^/]+/deployments/(\d+)/statuses": _list_states,
    }


@pytest.fixture(scope="session")
def prism_url() -> Iterator[str]:
    with prism() as url:
        yield url


@pytest.fixture
def github(prism_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[GitHubServer]:
    """A GitHub of one test, whose token is in the environment."""
    monkeypatch.setenv("GITHUB_TOKEN_OF_TESTS", TOKEN)
    with github_server(prism_url) as found:
        yield found


@contextmanager
def github_server(prism_url: str) -> Iterator[GitHubServer]:
    found = GitHubServer(prism_url)
    with serving(found):
        yield found
