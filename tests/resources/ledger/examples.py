"""Commits, requests and a release for the tests of the ledger."""

from llmops_assets.domain.records import Release
from llmops_assets.domain.requests import Request
from resources.ledger import Ledger

A, B = "a" * 40, "b" * 40


def opened(ledger: Ledger, revision: str = A, generation: int = 1) -> Request:
    return ledger.open_request("zoo", revision, generation, "training.epochs 1 → 2")


def now(ledger: Ledger) -> Request:
    return ledger.requests("zoo")[-1]


def release(artifact: str = "a" * 64) -> Release:
    return Release(
        project="zoo",
        artifact_digest=artifact,
        artifact_uri="store/a",
        file="m.gguf",
        chat_template="t",
        engine="llama.cpp",
    )
