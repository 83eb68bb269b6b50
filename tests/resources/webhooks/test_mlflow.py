"""Deliveries that MLflow itself has signed: what wakes the proposals of a project, and what is refused."""

import json
import time
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from llmops_assets.config.proposals import PromptProposal, ProposalSettings
from llmops_assets.config.secrets import FromEnvironment
from llmops_assets.config.settings import Settings
from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.config.webhooks import WebhookSettings
from resources.webhooks.deliveries import Deliveries
from resources.webhooks.receiver import Receiver
from tests.support.webhooks import SECRET

MOVED = {"name": "zoo-ask", "alias": "candidate", "version": "2"}


def test_only_a_signed_move_of_a_watched_alias_wakes_the_proposals_and_only_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.webhooks.delivery import _generate_hmac_signature

    monkeypatch.setenv("S", SECRET)
    proposals = ProposalSettings(prompts=(PromptProposal(name="zoo-ask"),))
    settings = Settings(
        home=tmp_path,
        projects=(ProjectSource(name="zoo", repository="/x", proposals=proposals),),
        webhooks=WebhookSettings(secrets=(FromEnvironment(env="S"),)),
    )
    woken: list[str] = []
    client = TestClient(Receiver(settings, Deliveries(tmp_path / "d.sqlite"), woken.extend).app)

    def post(
        identity: str, data: dict[str, str], secret: str = SECRET, at: float | None = None, entity: str = "prompt_alias"
    ) -> tuple[int, str]:
        body = json.dumps({"entity": entity, "action": "created", "data": data})
        timestamp = str(int(time.time() if at is None else at))
        headers = {
            "content-type": "application/json",
            "X-MLflow-Delivery-Id": identity,
            "X-MLflow-Timestamp": timestamp,
            "X-MLflow-Signature": _generate_hmac_signature(secret, identity, timestamp, body),
        }
        answer = client.post("/webhooks/mlflow", content=body, headers=headers)
        return answer.status_code, answer.json()["status"]

    assert post("1", MOVED) == (202, "accepted")
    assert post("1", MOVED) == (200, "already"), "a replay wakes nobody"
    assert post("2", MOVED, secret="another secret") == (401, "refused")
    assert post("3", MOVED, at=5.0) == (401, "refused")
    assert post("4", {}) == (400, "refused")
    assert post("5", {**MOVED, "alias": "production"}) == (202, "ignored"), "our own alias"
    assert post("6", MOVED, entity="prompt") == (202, "ignored")
    assert woken == ["proposals:zoo"]
