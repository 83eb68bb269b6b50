"""Tests of an optional package are skipped, with the remedy, where it is not installed."""

from importlib.util import find_spec

import pytest


def needs(module: str, extra: str) -> pytest.MarkDecorator:
    """Skips tests without the module, and does not import it.

    Every worker collects every file: `kubernetes` alone costs three CPU seconds in each.
    """
    remedy = f"pip install 'llmops-assets[{extra}]'"
    return pytest.mark.skipif(find_spec(module) is None, reason=f"{module} is not installed: {remedy}")
