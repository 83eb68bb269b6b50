"""Signed deliveries as GitHub, GitLab, Gitea and MLflow send them, and a client that sends them."""

import base64
import hashlib
import hmac
import json
import time
import uuid
from collections.abc import Mapping
from typing import Any

import httpx

SECRET = "a secret of thirty-two characters"


def hex_digest(body: bytes, secret: str = SECRET) -> str:
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def github_push(place: str, ref: str = "refs/heads/main", **changes: Any) -> dict[str, Any]:
    """A push event with the keys that GitHub documents, as far as a receiver could read them."""
    repository = {
        "id": 186853002, "name": "zoo", "full_name": "ada/zoo", "private": True, "default_branch": "main",
        "html_url": "https://github.com/ada/zoo", "clone_url": place, "git_url": "git://github.com/ada/zoo.git",
        "ssh_url": "git@github.com:ada/zoo.git", "pushed_at": int(time.time()),
    }  # fmt: skip
    return {
        "ref": ref, "before": "6113728f27ae82c7b1a177c8d03f9e96e0adf246", "after": uuid.uuid4().hex + "00000000",
        "created": False, "deleted": False, "forced": False, "base_ref": None, "commits": [], "head_commit": None,
        "repository": repository, "pusher": {"name": "ada", "email": "ada@example.com"}, **changes,
    }  # fmt: skip


def github_headers(body: bytes, secret: str = SECRET, event: str = "push", **changes: str) -> dict[str, str]:
    return {
        "content-type": "application/json", "x-github-event": event, "x-github-delivery": str(uuid.uuid4()),
        "x-hub-signature-256": f"sha256={hex_digest(body, secret)}", "user-agent": "GitHub-Hookshot/044aadd", **changes,
    }  # fmt: skip


def gitlab_push(place: str, ref: str = "refs/heads/main", **changes: Any) -> dict[str, Any]:
    project = {"id": 15, "name": "zoo", "path_with_namespace": "ada/zoo", "web_url": "https://gitlab.com/ada/zoo",
               "git_ssh_url": "git@gitlab.com:ada/zoo.git", "git_http_url": place}  # fmt: skip
    return {
        "object_kind": "push", "event_name": "push", "ref": ref, "before": "95790bf891e76fee5e1747ab589903a6a1f80f22",
        "after": "da1560886d4f094c3e6c9ef40349f7d38b5d27d7", "project": project, "commits": [],
        "total_commits_count": 1, **changes,
    }  # fmt: skip


def standard_headers(
    body: bytes, secret: str = SECRET, at: float | None = None, prefix: str = "webhook-", **changes: str
) -> dict[str, str]:
    """What Standard Webhooks signs: id, time and body."""
    identifier, timestamp = f"msg_{uuid.uuid4().hex}", str(int(time.time() if at is None else at))
    key = base64.b64decode(secret.removeprefix("whsec_")) if secret.startswith("whsec_") else secret.encode()
    signed = hmac.new(key, f"{identifier}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return {
        "content-type": "application/json", f"{prefix}id": identifier, f"{prefix}timestamp": timestamp,
        f"{prefix}signature": f"v1,{base64.b64encode(signed).decode()}", **changes,
    }  # fmt: skip


def send(url: str, sender: str, body: bytes, headers: Mapping[str, str]) -> httpx.Response:
    return httpx.post(f"{url}/webhooks/{sender}", content=body, headers=dict(headers), timeout=60)


def push_to(url: str, place: str, ref: str = "refs/heads/main", secret: str = SECRET) -> httpx.Response:
    """Tells a receiver of a push, as GitHub does."""
    body = json.dumps(github_push(place, ref)).encode()
    return send(url, "github", body, github_headers(body, secret))
