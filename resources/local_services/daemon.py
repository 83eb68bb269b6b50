"""Dagster's daemon, which ends when the wall clock is set back, so that its supervisor starts it anew.

    python -m resources.local_services.daemon run -w …        (as `dagster-daemon run`)

Its loops measure their intervals by the wall clock: set back by an hour, queue and sensors rest for an hour.
"""

import os
import sys
import threading
import time
from collections.abc import Callable

import dagster as dg
from dagster._core.scheduler.instigation import InstigatorType, SensorInstigatorData

SET_BACK_S = 5.0
"""Less is waited out: no interval of ours is shorter."""
LOOK_EVERY_S = 1.0


def set_back(wall: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic) -> None:
    """Returns once the wall clock was set back."""
    ahead = wall() - steady()
    while (now := wall() - steady()) > ahead - SET_BACK_S:
        ahead = now
        time.sleep(LOOK_EVERY_S)


def forget_the_future(instance: dg.DagsterInstance, now: float) -> list[str]:
    """Lets sensors tick again that did so last at a time which has not come yet; their names."""
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

    with dg.DagsterInstance.get() as home:
        forget_the_future(home, time.time())
    threading.Thread(target=_end_when_set_back, daemon=True).start()
    main()
