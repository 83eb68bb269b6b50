"""Calls a project's own metric in this process, which has only the project's code.

    python metric_function.py RESULT.json < {"file", "module", "function", "paths", "pairs"}

Writes the value of each pair, or what went wrong. Run by its path and importing nothing of ours.
"""

import importlib
import importlib.util
import json
import math
import numbers
import os
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    asked = json.loads(sys.stdin.buffer.read())
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.path[0:1] = asked["paths"]
    try:
        told: dict[str, Any] = {"values": _values(asked)}
    except Wrong as error:
        told = {"wrong": str(error)}
    Path(sys.argv[1]).write_text(json.dumps(told))


def _module(name: str, file: str) -> Any:
    """The module; one that is in no package may have the name of another, such as statistics.py."""
    if "." in name:
        return importlib.import_module(name)
    found = importlib.util.spec_from_file_location(name, file)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules.setdefault(name, module)
    found.loader.exec_module(module)
    return module


class Wrong(Exception):
    """The project's code is at fault."""


def _values(asked: dict[str, Any]) -> list[float]:
    try:
        module = _module(asked["module"], asked["file"])
    except (Exception, SystemExit) as error:
        raise Wrong(f"cannot be imported: {type(error).__name__}: {error}") from error
    function = getattr(module, asked["function"], None)
    if not callable(function):
        raise Wrong(f"{Path(asked['file']).name} has no function {asked['function']!r}")
    found = []
    for number, (prediction, reference) in enumerate(asked["pairs"], start=1):
        try:
            value = function(prediction, reference)
        except (Exception, SystemExit) as error:
            raise Wrong(f"raised {type(error).__name__} on row {number}: {error}") from error
        if not isinstance(value, numbers.Real) or not math.isfinite(value):
            raise Wrong(f"returned {value!r:.100} on row {number}; a metric returns a finite number")
        found.append(float(value))
    return found


if __name__ == "__main__":
    main()
