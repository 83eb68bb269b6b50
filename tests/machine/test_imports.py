"""Imports without Python's garbage collector."""

import gc
import json
import subprocess
import sys

import pytest

from llmops_assets.machine.imports import importing

COUNTED = """
import gc, json
noted = []
gc.callbacks.append(lambda phase, info: noted.append(info["generation"]) if phase == "start" else None)
{block}
print(json.dumps([len(noted), gc.isenabled(), gc.get_freeze_count()]))
"""


def collections(block: str) -> tuple[int, bool, int]:
    """In a fresh process: how often the collector ran, whether it is on afterwards, and how many objects are exempt."""
    done = subprocess.run([sys.executable, "-c", COUNTED.format(block=block)], capture_output=True, check=True)
    ran, enabled, exempt = json.loads(done.stdout.splitlines()[-1])
    return ran, enabled, exempt


@pytest.mark.parametrize("module", ["llmops_assets.definitions", "llmops_assets.cli.app"])
def test_what_is_imported_for_good_is_not_collected(module: str) -> None:
    ran, enabled, exempt = collections(f"import {module}")
    assert enabled and exempt > 50_000
    assert ran < 60, "381 and 173 before"


def test_an_import_that_fails_turns_the_collector_on_again() -> None:
    with pytest.raises(ModuleNotFoundError), importing():
        assert not gc.isenabled()
        import no_such_module  # type: ignore[import-not-found]  # noqa: F401
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        with importing():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
