"""Each target gets each message once, whatever happens to the target, to us, or to the clock. Receivers are real."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llmops_assets.config.notifications import NotificationTarget
from llmops_assets.config.settings import Settings
from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.delivery.notifications import Notifications, forget_told
from llmops_assets.domain.requests import Status
from resources.assembly import build_clients
from resources.ledger import Ledger
from resources.serving.interface import Endpoint
from tests.delivery.production import Clock as Monotonic
from tests.delivery.production import MemoryServing
from tests.support.ledgers import Clock
from tests.support.receivers import HttpReceiver, http_receiver, smtp_receiver

A, B = "a" * 40, "b" * 40


class Watched(MemoryServing):
    """A serving whose endpoints have the given status."""

    status = "serving"

    def endpoints(self, project: str | None = None) -> list[Endpoint]:
        return [
            Endpoint(
                project="zoo", environment="production", base_url="", model="", release="d", status=self.status
            )  # type: ignore[arg-type]
        ]  # fmt: skip


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    with http_receiver() as found:
        yield found


@pytest.fixture
def own(tmp_path: Path, clock: Clock) -> Iterator[Ledger]:
    ledger = Ledger(f"sqlite:///{tmp_path / 'own.sqlite'}", clock)
    yield ledger
    ledger.engine.dispose()


def target(to: Any, **fields: Any) -> NotificationTarget:
    return NotificationTarget.model_validate({"name": "hook", "via": "cloudevents", "to": to, **fields})


Make = Callable[..., Notifications]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Makes a project's notifications, as each process has its own; its targets are known from its first round on."""

    def make(ledger: Ledger, *targets: NotificationTarget, serving: Any = None, clock: Any = None) -> Notifications:
        settings = Settings(
            home=tmp_path, projects=(ProjectSource(name="zoo", repository="/nowhere"),), notifications=targets,
            dagster_ui="https://dagster.example.com",
        )  # fmt: skip
        clients = build_clients(settings, ledger=ledger, serving=serving or Watched(weights={}))
        return Notifications(settings.projects[0], clients, clock or Monotonic())

    return make


def end(ledger: Ledger, status: Status, detail: str = "perplexity 9 above 5", revision: str = A) -> None:
    """A request that runs and ends."""
    generation = len(ledger.requests("zoo")) + 1
    request = ledger.open_request("zoo", revision, generation, "tree changed")
    ledger.claim(request, f"run-{generation}")
    ledger.close(request, status, detail)


def test_an_event_reaches_a_program_once_as_a_cloud_event(own: Ledger, make: Make, receiver: HttpReceiver) -> None:
    told = make(own, target(receiver.url))
    assert str(told.run()) == "nothing to send"
    end(own, "rejected")
    assert told.run().sent == 1
    assert told.run().sent == 0 and make(own, target(receiver.url)).run().sent == 0  # another process
    ((headers, body),) = receiver.requests
    from cloudevents.core.bindings.http import HTTPMessage, from_structured
    from cloudevents.core.formats.json import JSONFormat

    event = from_structured(HTTPMessage(headers=headers, body=body), JSONFormat())
    assert headers["content-type"].startswith("application/cloudevents+json")
    assert (event.get_id(), event.get_source(), event.get_type()) == (
        f"zoo:{A}:1:rejected",
        "/llmops/zoo",
        "llmops.rejected",
    )
    assert event.get_specversion() == "1.0" and event.get_subject() == A and event.get_time().timestamp() == 1000.0
    data = event.get_data()
    assert isinstance(data, dict)
    assert data["detail"] == "perplexity 9 above 5" and data["command"] == "llmops status zoo"
    assert data["run_url"] == "https://dagster.example.com/runs/run-1"


def test_history_is_not_told_and_a_wider_filter_brings_nothing_old_back(
    own: Ledger, make: Make, receiver: HttpReceiver
) -> None:
    end(own, "failed")
    narrow = target(receiver.url, events=["rejected"])
    assert make(own, narrow).run().sent == 0
    end(own, "released")
    end(own, "rejected")
    assert make(own, narrow).run().sent == 1
    assert make(own, target(receiver.url)).run().sent == 0
    end(own, "released")
    assert make(own, target(receiver.url)).run().sent == 1
    assert [body["type"] for body in receiver.bodies] == ["llmops.rejected", "llmops.released"]


def test_an_outage_delays_in_order_and_loses_nothing(
    own: Ledger, make: Make, receiver: HttpReceiver, clock: Clock
) -> None:
    told = make(own, target(receiver.url))
    told.run()
    end(own, "rejected")
    receiver.answers = [503] * 3
    found = told.run()
    assert (found.sent, found.left, found.faults) == (0, 1, ("hook: it answered with status 503",))
    end(own, "released")
    assert told.run().sent == 0 and len(receiver.requests) == 1, "the next attempt is not due"
    for _ in range(2):
        clock.now += 60.0
        make(own, target(receiver.url)).run()  # after a restart too
    clock.now += 60.0
    assert told.run().sent == 2
    assert [body["type"] for body in receiver.bodies] == ["llmops.rejected"] * 4 + ["llmops.released"]
    assert len({body["id"] for body in receiver.bodies[:4]}) == 1


def test_messages_that_grew_too_old_are_one_summary(
    own: Ledger, make: Make, receiver: HttpReceiver, clock: Clock
) -> None:
    told = make(own, target("http://127.0.0.1:9/", give_up_after="1h"))
    told.run()
    for status in ("rejected", "rejected", "released"):
        end(own, status)  # type: ignore[arg-type]
    assert told.run().faults == ("hook: it cannot be reached (ConnectError)",)
    clock.now += 4000.0
    end(own, "failed")
    back = make(own, target(receiver.url, give_up_after="1h"))
    receiver.answers = [500]
    assert back.run().sent == 0
    clock.now += 30.0
    assert back.run().sent == 4
    summary, failed = receiver.bodies[1:]
    assert (summary["type"], failed["type"]) == ("llmops.undelivered", "llmops.failed")
    assert summary["data"]["detail"].startswith("2 rejected, 1 released; between")
    assert back.run() == back.run() and len(receiver.requests) == 3


def test_a_message_that_the_target_refuses_does_not_hold_up_the_others(
    own: Ledger, make: Make, receiver: HttpReceiver
) -> None:
    told = make(own, target(receiver.url))
    told.run()
    end(own, "rejected")
    end(own, "released")
    receiver.answers = [422]
    found = told.run()
    assert (found.sent, found.left) == (1, 0) and own.message_counts("zoo")["hook", "refused"] == 1


def test_a_message_that_always_fails_lets_the_others_pass(
    own: Ledger, make: Make, receiver: HttpReceiver, clock: Clock
) -> None:
    """Of apprise's targets nobody knows why one failed: it may be the message."""
    told = make(own, target(receiver.url))
    told.run()
    end(own, "rejected")
    end(own, "released")
    receiver.answers = [500] * 5
    sent = []
    for _ in range(6):
        sent.append(told.run().sent)
        clock.now += 700.0
    assert sent == [0, 0, 0, 0, 1, 1]
    types = [body["type"] for body in receiver.bodies]
    assert types == ["llmops.rejected"] * 5 + ["llmops.released", "llmops.rejected"]


def test_a_target_that_fails_delays_no_other(own: Ledger, make: Make, receiver: HttpReceiver) -> None:
    silent = target({"env": "NOT_SET_ANYWHERE"}, name="silent")
    told = make(own, silent, target("http://127.0.0.1:9/", name="gone"), target(receiver.url))
    told.run()
    end(own, "failed")
    found = told.run()
    assert found.sent == 1 and len(found.faults) == 2
    assert found.faults[0] == "silent: the environment variable NOT_SET_ANYWHERE, which the settings name, is not set"


def test_processes_that_send_at_once_send_each_message_once(
    ledger: Ledger, make: Make, receiver: HttpReceiver, clock: Clock
) -> None:
    make(ledger, target(receiver.url)).run()
    for _ in range(5):
        end(ledger, "rejected")
    rivals = [make(Ledger(ledger.url, clock), target(receiver.url)) for _ in range(4)]
    threads = [threading.Thread(target=rival.run) for rival in rivals]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rivals[0].run()
    ids = [body["id"] for body in receiver.bodies]
    assert len(ids) == len(set(ids)) == 5
    for rival in rivals:
        rival.clients.ledger.engine.dispose()
    assert not ledger.audit().findings


def test_no_secret_is_sent_stored_or_said(
    own: Ledger, make: Make, receiver: HttpReceiver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOOK_TOKEN", "tok-9f8e7d6c5b4a")
    monkeypatch.setenv("HOOK_URL", receiver.url.replace("events", "hidden-path"))
    monkeypatch.setenv("CHAT", "slack://not-a-token-nor-a-channel")
    hook = target({"env": "HOOK_URL"}, token={"env": "HOOK_TOKEN"})
    chat = target({"env": "CHAT"}, name="chat", via="apprise")
    told = make(own, hook, chat)
    told.run()
    end(own, "failed", "git clone https://ada:hunter2secret@example.com failed with tok-9f8e7d6c5b4a")
    found = told.run()
    ((headers, body),) = receiver.requests
    assert headers["authorization"] == "Bearer tok-9f8e7d6c5b4a"
    kept = b"".join(file.read_bytes() for file in tmp_path.glob("own.sqlite*"))
    assert b"hidden-path" not in kept and b"not-a-token" not in kept
    assert b"hunter2" not in body and b"tok-9f8e" not in body
    assert found.faults == ("chat: its address is none of apprise's URLs",)


def test_people_get_mail_with_the_next_command(own: Ledger, make: Make) -> None:
    with smtp_receiver() as server:
        mail = f"mailto://127.0.0.1:{server.port}?from=llmops@example.com&to=ada@example.com"
        told = make(own, target(mail, via="apprise"))
        told.run()
        said = "waiting for approval: llmops approve zoo --release 0123456789ab --reason … (or reject)"
        end(own, "waiting", said)
        assert told.run().sent == 1
        (got,) = server.mails
    assert got["Subject"] == "zoo: aaaaaaaaaaaa waits for a person" and got["To"] == "ada@example.com"
    text = got.get_body(("plain", "html")).get_content()  # type: ignore[union-attr]
    assert "llmops approve zoo --release 0123456789ab" in text
    assert "https://dagster.example.com/runs/run-1" in text


def test_an_endpoint_that_stays_down_is_told_once_an_outage(own: Ledger, make: Make, receiver: HttpReceiver) -> None:
    own.serve("zoo", "production", "d" * 64, A)
    serving, clock = Watched(weights={}), Monotonic()
    told = make(own, target(receiver.url), serving=serving, clock=clock)

    def wait(seconds: float) -> int:
        clock.now += seconds
        return told.run().sent

    assert wait(20) == 0
    serving.status = "down"
    assert wait(20) == 0 and wait(20) == 0
    serving.status = "degraded"
    assert wait(20) == 0, "it came back within half a minute"
    serving.status = "down"
    assert [wait(20), wait(20), wait(20), wait(20)] == [0, 0, 1, 0]
    again = make(own, target(receiver.url), serving=serving, clock=Monotonic())
    again.clock.now = 100.0  # type: ignore[attr-defined]
    assert again.run().sent == 0, "another process, while it is still down"
    own.clock.now += 600  # type: ignore[attr-defined]
    serving.status = "serving"
    assert [wait(20), wait(20)] == [1, 0] and again.run().sent == 0, "and once when it has recovered"
    late = make(own, target(receiver.url, name="late"), serving=serving, clock=Monotonic())
    assert late.run().sent == 0, "a recovery is history for a new target"
    own.clock.now += 1000  # type: ignore[attr-defined]
    serving.status = "down"
    assert [wait(20), wait(20), wait(20)] == [0, 0, 1]
    serving.is_stopped = True
    down, up, again_down = receiver.bodies
    assert [b["type"] for b in (down, up, again_down)] == [f"llmops.endpoint_{s}" for s in ("down", "up", "down")]
    assert up["data"]["title"] == "zoo: the production endpoint has recovered"
    assert up["data"]["detail"] == "production has recovered and answers again; it was down for 10 min"
    assert receiver.bodies[0]["data"]["environment"] == "production"
    assert receiver.bodies[0]["data"]["command"].startswith("llmops endpoints zoo")


def test_what_was_stopped_by_a_person_is_not_down(own: Ledger, make: Make, receiver: HttpReceiver) -> None:
    own.serve("zoo", "production", "d" * 64, A)
    serving, clock = Watched(weights={}), Monotonic()
    serving.status, serving.is_stopped = "down", True
    told = make(own, target(receiver.url), serving=serving, clock=clock)
    for _ in range(5):
        clock.now += 20.0
        assert told.run().sent == 0


def test_old_messages_that_were_delivered_are_collected_and_never_written_again(
    own: Ledger, make: Make, receiver: HttpReceiver, clock: Clock
) -> None:
    """The outbox grew forever. Its rows also keep an event from being told twice: the ledger still shows it."""
    wanted = ["rejected", "waiting", "endpoint_up", "endpoint_down"]
    told = make(own, target(receiver.url, events=wanted), target("http://127.0.0.1:9/", name="gone"))
    told.run()
    for status in ("rejected", "released", "waiting"):
        end(own, status)  # type: ignore[arg-type]
    own.mark_down("zoo", "production", "d" * 64)
    own.mark_up("zoo", "production")
    told.run()
    assert len(receiver.bodies) == 3
    clock.now += 1000.0
    own.mark_down("zoo", "production", "e" * 64)
    told.run()
    project, before = told.project, clock.now - 500.0
    assert forget_told(project, told.clients, before, dry_run=True) == forget_told(project, told.clients, before) == 3
    assert forget_told(project, told.clients, before) == 0
    left = own.message_counts("zoo")
    assert left["hook", "sent"] == 2, "of the new outage, and of what still waits for a person"
    assert left["gone", "pending"] == 5, "what a target has not got yet stays"
    only = make(own, target(receiver.url, events=wanted))
    assert forget_told(only.project, only.clients, before) == 2, "a removed target; one was tried just now"
    for _ in range(2):
        only.run()
    wider = make(own, target(receiver.url))
    wider.run()
    assert [b["type"] for b in receiver.bodies[3:]] == ["llmops.endpoint_down", "llmops.endpoint_up"], "nothing old"
    end(own, "released", revision="c" * 40)
    assert wider.run().sent == 1
    assert not own.audit().findings
