"""A push that a webhook tells of, under the real services: polling is switched to once an hour, so only the receiver
can have noticed it. Each test continues from the one before.
"""

from collections.abc import Iterator

import dagster as dg
import pytest

from llmops_assets.config.secrets import FromEnvironment
from llmops_assets.config.webhooks import WebhookSettings
from llmops_assets.delivery.run_tags import REQUEST_TAG
from tests.support.live import Live
from tests.support.ports import free_port
from tests.support.projects import Project
from tests.support.waiting import wait_for
from tests.support.webhooks import SECRET, push_to

HOUR = 3600


@pytest.fixture(scope="module")
def live(template_project: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    root = tmp_path_factory.mktemp("webhook")
    receiver = WebhookSettings(port=free_port(), secrets=(FromEnvironment(env="PUSH_SECRET"),))
    live = Live(root / "home", template_project.copy_to(root / "zoo"), poll=HOUR, webhooks=receiver)
    with live.running(PUSH_SECRET=SECRET):
        yield live


def url(live: Live) -> str:
    assert live.settings.webhooks is not None
    return f"http://127.0.0.1:{live.settings.webhooks.port}"


def started(live: Live, revision: str) -> dg.RunRecord | None:
    found = live.requests(revision)
    records = live.instance.get_run_records(dg.RunsFilter(tags={REQUEST_TAG: found[-1].name})) if found else []
    return next((record for record in records if record.start_time), None)


def first_tick(live: Live) -> bool:
    return any(s.instigator_name == "zoo_git" for s in live.instance.all_instigator_state())


def test_a_push_starts_its_run_although_the_next_poll_is_an_hour_away(live: Live) -> None:
    wait_for("the first poll, of a branch that does not exist yet", lambda: first_tick(live))
    pushed = live.project.push()
    said = push_to(url(live), str(live.project.remote))
    assert (said.status_code, said.json()["projects"]) == (202, ["zoo"])
    run = wait_for("its run", lambda: started(live, pushed))
    assert run.dagster_run.tags["dagster/sensor_name"] == "zoo_git"
    assert run.dagster_run.tags["dagster/run_key"] == f"zoo:{pushed}:1"
    [origin] = [s for s in live.instance.all_instigator_state() if s.instigator_name == "zoo_git"]
    ticks = live.instance.get_ticks(origin.instigator_origin_id, origin.selector_id)
    assert [t.run_ids for t in ticks if t.run_ids] == [[run.dagster_run.run_id]], "the tick is in the sensor's history"
    source = live.instance.get_latest_materialization_event(dg.AssetKey(["zoo", "repository"]))
    assert source and source.asset_materialization
    assert source.asset_materialization.tags["dagster/data_version"] == pushed
