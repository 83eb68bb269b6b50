"""A project's own metric: a Python function in a file of the project."""

import importlib.util
import math
import numbers
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from llmops_assets.programs.evaluation.metrics.base import TextMetric, mean_of_rows
from llmops_assets.programs.runtime.errors import BadInput
from llmops_assets.programs.runtime.specs import MetricSpec


class Custom(TextMetric):
    """A project's own function of a prediction and its reference, the mean over the rows."""

    where = ""
    function: Callable[[str, str], float]

    @classmethod
    def load(cls, spec: MetricSpec, cache: str) -> "Custom":
        """Loads the metric of a project's function.

        Raises:
            BadInput: the file or its function cannot be loaded.
        """
        metric = cls.of([spec.name], cache)
        assert isinstance(metric, Custom)
        metric.function, metric.where = load_function(spec), _where(spec)
        return metric

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
        rows = [self._row(n, *pair) for n, pair in enumerate(zip(predictions, references, strict=True), start=1)]
        return mean_of_rows({self.names[0]: rows})

    def _row(self, number: int, prediction: str, reference: str) -> float:
        try:
            value = self.function(prediction, reference)
        except (Exception, SystemExit) as error:
            raise BadInput(f"raised {type(error).__name__} on row {number}: {error}", self.where) from error
        if not isinstance(value, numbers.Real) or not math.isfinite(value):
            raise BadInput(f"returned {value!r} on row {number}; a metric returns a finite number", self.where)
        return float(value)


def load_function(spec: MetricSpec) -> Callable[[str, str], float]:
    """Loads a project's function.

    Raises:
        BadInput: the file or its function cannot be loaded.
    """
    path = Path(spec.file or "")
    if not path.is_file():
        raise BadInput("the file does not exist; add it to the project", _where(spec))
    loader = importlib.util.spec_from_file_location(f"_project_metric_{path.stem}", path)
    assert loader is not None and loader.loader is not None
    module = importlib.util.module_from_spec(loader)
    sys.path.insert(0, str(path.parent))
    try:
        loader.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise BadInput(f"cannot be imported: {type(error).__name__}: {error}", _where(spec)) from error
    finally:
        sys.path.remove(str(path.parent))
    function = getattr(module, spec.function or "", None)
    if not callable(function):
        raise BadInput(f"{path.name} has no function {spec.function!r}", _where(spec))
    return function


def _where(spec: MetricSpec) -> str:
    return f"{Path(spec.file or '').name}:{spec.function}"
