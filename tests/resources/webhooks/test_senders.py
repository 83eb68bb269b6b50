"""Each server's signature and payload, checked against documented values and MLflow's own code."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from llmops_assets.domain.webhooks import Nothing, Push
from resources.webhooks.interface import Malformed, Sender, Unauthentic
from resources.webhooks.senders.gitea import Gitea
from resources.webhooks.senders.github import GitHub
from resources.webhooks.senders.gitlab import GitLab
from tests.support.webhooks import SECRET, github_push, gitlab_push, hex_digest, standard_headers

NOW = 1_800_000_000.0
BODY = b'{"a": 1}'
PLACE = "https://example.com/ada/zoo.git"


def verify(sender: Sender, headers: Mapping[str, str], body: bytes = BODY, *secrets: str) -> set[int]:
    return sender.verify(headers, body, secrets or (SECRET,), NOW)


def test_githubs_documented_signature_is_verified() -> None:
    """The values of GitHub's page on validating deliveries."""
    documented = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    headers = {"x-hub-signature-256": documented}
    assert verify(GitHub(), headers, b"Hello, World!", "It's a Secret to Everybody") == {0}


def test_gitea_signs_the_body_in_hexadecimal_digits() -> None:
    assert verify(Gitea(), {"x-gitea-signature": hex_digest(BODY)}) == {0}
    assert verify(Gitea(), {"x-forgejo-signature": hex_digest(BODY)}) == {0}


def test_gitlabs_token_is_compared_and_its_signature_verified() -> None:
    assert verify(GitLab(), {"x-gitlab-token": SECRET}) == {0}
    assert verify(GitLab(), standard_headers(BODY, at=NOW)) == {0}


def test_a_token_in_the_form_of_standard_webhooks_is_the_key_in_base64() -> None:
    token = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    assert verify(GitLab(), standard_headers(BODY, token, at=NOW), BODY, token) == {0}


def test_what_standard_webhooks_signs_equals_what_mlflow_signs() -> None:
    """An independent implementation of the same scheme."""
    delivery = pytest.importorskip("mlflow.webhooks.delivery")
    signature = delivery._generate_hmac_signature(SECRET, "an-id", str(int(NOW)), BODY.decode())
    headers = {"webhook-signature": signature, "webhook-id": "an-id", "webhook-timestamp": str(int(NOW))}
    assert verify(GitLab(), headers) == {0}


def test_while_a_secret_is_replaced_both_are_accepted_and_told_apart() -> None:
    headers = {"x-hub-signature-256": f"sha256={hex_digest(BODY, 'the new one')}"}
    assert verify(GitHub(), headers, BODY, "the old one", "the new one", "another") == {1}


SIGNED = standard_headers(BODY, at=NOW)


@pytest.mark.parametrize(
    ("sender", "headers", "reason"),
    [
        (GitHub(), {}, "no X-Hub-Signature-256"),
        (GitHub(), {"x-hub-signature": "sha1=" + "0" * 40}, "no X-Hub-Signature-256"),
        (GitHub(), {"x-hub-signature-256": "sha256="}, "matches no secret"),
        (GitHub(), {"x-hub-signature-256": "sha256=" + "0" * 64}, "matches no secret"),
        (GitHub(), {"x-hub-signature-256": "sha256=\udce9ö"}, "matches no secret"),
        (GitHub(), {"x-hub-signature-256": f"sha256={hex_digest(b'another body')}"}, "matches no secret"),
        (Gitea(), {"x-hub-signature-256": f"sha256={hex_digest(BODY)}"}, "no X-Gitea-Signature"),
        (Gitea(), {"x-gitea-signature": "0" * 64}, "matches no secret"),
        (GitLab(), {}, "neither webhook-signature nor X-Gitlab-Token"),
        (GitLab(), {"x-gitlab-token": SECRET[:-1]}, "matches no secret"),
        (GitLab(), {"x-gitlab-token": ""}, "neither"),
        (GitLab(), {"x-gitlab-token": SECRET, **SIGNED, "webhook-signature": "v1,AAAA"}, "matches no secret"),
        (GitLab(), {**SIGNED, "webhook-id": "another"}, "matches no secret"),
        (GitLab(), {**SIGNED, "webhook-timestamp": str(int(NOW) + 1)}, "matches no secret"),
        (GitLab(), {**SIGNED, "webhook-timestamp": "yesterday"}, "missing or no number"),
        (GitLab(), {**SIGNED, "webhook-timestamp": "nan"}, "more than 300 s from now"),
        (GitLab(), standard_headers(BODY, at=NOW - 301), "more than 300 s from now"),
        (GitLab(), standard_headers(BODY, at=NOW + 301), "more than 300 s from now"),
    ],
)
def test_what_is_not_signed_with_the_secret_is_refused(sender: Sender, headers: dict[str, str], reason: str) -> None:
    with pytest.raises(Unauthentic, match=reason) as refusal:
        verify(sender, headers)
    assert SECRET not in str(refusal.value)


def test_a_push_is_read_with_all_its_addresses() -> None:
    event = GitHub().event({"x-github-event": "push"}, github_push(PLACE))
    assert isinstance(event, Push)
    assert (event.ref, event.deleted) == ("refs/heads/main", False)
    assert {PLACE, "git@github.com:ada/zoo.git", "https://github.com/ada/zoo"} <= set(event.addresses)
    assert Gitea().event({"x-gitea-event": "push"}, github_push(PLACE)) == Push(
        addresses=(PLACE, "git@github.com:ada/zoo.git", "https://github.com/ada/zoo"), ref="refs/heads/main"
    )
    found = GitLab().event({"x-gitlab-event": "Push Hook"}, gitlab_push(PLACE))
    assert isinstance(found, Push) and found.addresses[0] == PLACE


def test_a_system_hook_of_gitlab_is_read_by_the_event_in_it() -> None:
    assert isinstance(GitLab().event({"x-gitlab-event": "System Hook"}, gitlab_push(PLACE)), Push)


@pytest.mark.parametrize(
    ("sender", "headers", "document"),
    [
        (GitHub(), {"x-github-event": "push"}, github_push(PLACE, deleted=True)),
        (Gitea(), {"x-gitea-event": "push"}, github_push(PLACE, after="0" * 40)),
        (GitLab(), {"x-gitlab-event": "Push Hook"}, gitlab_push(PLACE, after="0" * 40)),
    ],
)
def test_a_deleted_branch_is_seen(sender: Sender, headers: dict[str, str], document: dict[str, Any]) -> None:
    event = sender.event(headers, document)
    assert isinstance(event, Push) and event.deleted


def test_a_new_commit_of_a_pull_request_is_a_push_to_it() -> None:
    pull = {**github_push(PLACE), "number": 12}
    github, gitea = {"x-github-event": "pull_request"}, {"x-gitea-event": "pull_request_sync"}
    for sender, headers, actions in (
        (GitHub(), github, ("opened", "synchronize", "reopened")), (Gitea(), gitea, ("synchronized",)),
    ):  # fmt: skip
        for action in actions:
            event = sender.event(headers, {**pull, "action": action})
            assert isinstance(event, Push) and event.ref == "refs/pull/12/head"
        assert isinstance(sender.event(headers, {**pull, "action": "labeled"}), Nothing)
        with pytest.raises(Malformed, match="number"):
            sender.event(headers, {**pull, "action": actions[0], "number": "12"})
    merge = gitlab_push(PLACE, object_kind="merge_request", object_attributes={"action": "update", "iid": 7})
    event = GitLab().event({"x-gitlab-event": "Merge Request Hook"}, merge)
    assert isinstance(event, Push) and event.ref == "refs/merge-requests/7/head"


@pytest.mark.parametrize(
    ("sender", "headers"),
    [
        (GitHub(), {"x-github-event": "star"}),
        (GitHub(), {}),
        (Gitea(), {"x-gitea-event": "issues"}),
        (GitLab(), {"x-gitlab-event": "Note Hook"}),
    ],
)
def test_other_events_are_nothing_and_named(sender: Sender, headers: dict[str, str]) -> None:
    event = sender.event(headers, {"object_kind": "note"})
    assert isinstance(event, Nothing)
    assert next(iter(headers.values()), "without a name") in event.reason


@pytest.mark.parametrize(
    ("document", "key"),
    [
        ({}, "repository.clone_url"),
        ({"repository": []}, "repository.clone_url"),
        ({"repository": {"clone_url": 1}}, "repository.clone_url"),
        ({"repository": {"clone_url": PLACE}}, "ref"),
        ({"repository": {"clone_url": PLACE, "ssh_url": {}}, "ref": None}, "ref"),
    ],
)
def test_a_push_without_what_every_push_has_names_the_key(document: dict[str, Any], key: str) -> None:
    with pytest.raises(Malformed, match=key):
        GitHub().event({"x-github-event": "push"}, document)


def test_a_replay_under_another_id_is_the_same_delivery_where_only_the_body_is_signed() -> None:
    one = GitHub().identity({"x-github-delivery": "1"}, BODY)
    assert set(one) & set(GitHub().identity({"x-github-delivery": "2"}, BODY))
    assert set(one) & set(GitHub().identity({"x-github-delivery": "1"}, b"another"))
    assert not set(one) & set(GitHub().identity({"x-github-delivery": "2"}, json.dumps({}).encode()))


def test_an_attempt_to_send_a_gitlab_event_again_is_the_same_delivery() -> None:
    assert GitLab().identity({"idempotency-key": "1"}, BODY) == GitLab().identity({"idempotency-key": "1"}, b"x")
    older = {"x-gitlab-event-uuid": "1"}  # before GitLab 17.4; a hook that a hook caused shares it
    assert GitLab().identity(older, BODY) != GitLab().identity(older, b"another")
