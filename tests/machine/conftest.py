"""What the tests of this machine's processes share."""

from collections.abc import Callable

import pytest

from llmops_assets.machine.processes import wait_for


@pytest.fixture
def until() -> Callable[[Callable[[], object]], None]:
    """Waits for a condition of another process; fails after 30 seconds."""

    def wait(condition: Callable[[], object]) -> None:
        assert wait_for(lambda: bool(condition()), 30), "it never came true"

    return wait
