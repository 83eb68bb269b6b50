"""Requests that the tests of a code host begin and end."""

from collections.abc import Callable

from llmops_assets.delivery.code_host import CodeHostAnswers
from llmops_assets.domain.requests import Request, Status
from resources.ledger import Ledger
from tests.support.records import VALUES, Memory

A, B = "a" * 40, "b" * 40

Make = Callable[..., CodeHostAnswers]


def begin(ledger: Ledger, revision: str = A) -> Request:
    """A request that runs and has two results."""
    request = ledger.open_request("zoo", revision, 1, "tree changed")
    ledger.claim(request, "run-1")
    records = Memory().deliver(VALUES, revision, only=("ci_report", "container_image", "dataset_version")).records
    for record in records.values():
        ledger.record_use("zoo", revision, ledger.commit(record), reused=False)
    return request


def end(ledger: Ledger, request: Request, status: Status, detail: str) -> None:
    ledger.close(request, status, detail)
