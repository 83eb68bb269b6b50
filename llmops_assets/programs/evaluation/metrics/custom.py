"""A project's own metric: a Python function in a file of the project, called in a process of its own.

The process sees only the files that the metric's key covers, so a result never depends on anything else of the project.
"""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llmops_assets.domain.python_imports import module_name, search_paths
from llmops_assets.programs.checks.metric_function import __file__ as METRIC_FUNCTION
from llmops_assets.programs.checks.project_code import private_copy, tail
from llmops_assets.programs.evaluation.metrics.base import Answer, RowMetric
from llmops_assets.programs.runtime.errors import BadInput
from llmops_assets.programs.runtime.specs import CodeRules, MetricSpec


class Custom(RowMetric):
    """A project's own function of a prediction and its reference, the mean over the rows."""

    def __init__(self, spec: MetricSpec, rules: CodeRules):
        super().__init__(spec.name)
        self.spec, self.rules = spec, rules

    def statistics_of(self, answers: Sequence[Answer]) -> list[Sequence[float]]:
        pairs = [(a.prediction, a.reference) for a in answers]
        return [(value, 1.0) for value in call_function(self.spec, self.rules, pairs)]


def call_function(spec: MetricSpec, rules: CodeRules, pairs: Sequence[tuple[str, str]]) -> list[float]:
    """The function's value of each pair; with no pairs, it is only loaded.

    Raises:
        BadInput: the file or its function cannot be loaded, it fails on a row, or reaches a limit.
    """
    file = spec.file or ""
    where = f"{Path(file).name}:{spec.function}"
    if not (Path(spec.tree) / file).is_file():
        raise BadInput("the file does not exist; add it to the project", where)
    with (
        tempfile.TemporaryDirectory(prefix="llmops-metric-") as folder,
        private_copy(Path(folder) / "project", Path(spec.tree), spec.files or (file,), rules) as code,
    ):
        files = spec.files or (file,)
        asked = {
            "file": code.seen(code.tree / file),
            "module": module_name(file, files),
            "function": spec.function,
            "paths": [code.seen(code.tree / path) for path in search_paths(file, files)],
            "pairs": pairs,
        }
        log, result = Path(folder) / "log", code.out / "result.json"
        command = [code.python, code.bring(Path(METRIC_FUNCTION)), code.seen(result)]
        ended = code.run(command, log, rules.metric_timeout_s, given=json.dumps(asked).encode())
        if limit := code.why_ended(ended, rules.metric_timeout_s):
            raise BadInput(limit, where)
        told = _told(result)
        if told is None:
            last = f": {text.splitlines()[-1]}" if (text := tail(log)) else ""
            raise BadInput(f"ended its process with exit code {ended.code} before it returned{last}", where)
    if "wrong" in told:
        raise BadInput(str(told["wrong"]), where)
    values = told.get("values")
    if not isinstance(values, list) or len(values) != len(pairs):
        raise BadInput("its process did not return one number for each row", where)
    return [float(v) for v in values]


def _told(result: Path) -> dict[str, Any] | None:
    if result.is_symlink() or not result.is_file():
        return None
    try:
        told = json.loads(result.read_bytes())
    except ValueError:
        return None
    return told if isinstance(told, dict) else None
