"""Dagster's daemon, which exits when the wall clock is set back, so that the supervisor restarts it.

    python -m resources.local_services.daemon run -w …        (like `dagster-daemon run`)

Its loops measure intervals by the wall clock: if that is set back by an hour, queue and sensors pause for an hour.
"""

import os
import sys
import threading
import time
from collections.abc import Callable

import dagster as dg
from dagster._core.scheduler.instigation import InstigatorType, SensorInstigatorData

SET_BACK_S = 5.0
"""Smaller steps are ignored: no interval in this project is shorter."""
LOOK_EVERY_S = 1.0


def set_back(wall: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic) -> None:
    """Blocks until the wall clock is set back."""
    ahead = wall() - steady()
    while (now := wall() - steady()) > ahead - SET_BACK_S:
        ahead = now
        time.sleep(LOOK_EVERY_S)


def forget_the_future(instance: dg.DagsterInstance, now: float) -> list[str]:
    """Resets sensors whose last tick is in the future, so that they tick again; returns their names."""
    found = []
    for state in instance.all_instigator_state(instigator_type=InstigatorType.SENSOR):
        data = state.instigator_data
        if isinstance(data, SensorInstigatorData):
            last = max(data.last_tick_timestamp or 0.0, data.last_tick_start_timestamp or 0.0)
            if last > now + LOOK_EVERY_S:
                ticked = data._replace(last_tick_timestamp=None, last_tick_start_timestamp=None)
                instance.update_instigator_state(state.with_data(ticked))
                found.append(state.instigator_name)
    return found


def _end_when_set_back() -> None:
    set_back()
    print("the clock was set back", file=sys.stderr, flush=True)
    os._exit(1)


if __name__ == "__main__":
    from dagster._daemon.cli import main

    from llmops_assets.machine.redaction import hide_secrets

    hide_secrets()
    with dg.DagsterInstance.get() as home:
        forget_the_future(home, time.time())
    threading.Thread(target=_end_when_set_back, daemon=True).start()
    main()
