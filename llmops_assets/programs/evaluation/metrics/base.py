"""The interface of a text metric: an `evaluate.Metric` that also returns the value of each row."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import datasets
import evaluate


class TextMetric(evaluate.Metric):
    """predictions, references -> {name: value over all rows, name/rows: value of each row}

    One object computes all of `names`: the project's metrics whose catalog entries share this class. Implement
    `_compute`.
    """

    names: tuple[str, ...] = ()
    options: Mapping[str, Any] = MappingProxyType({})
    """What llmops.yaml sets for it: `model` is a folder on this machine, `file` the text of a file."""

    @classmethod
    def of(cls, names: Sequence[str], cache: str, options: Mapping[str, Any] | None = None) -> "TextMetric":
        """A metric for these names; `cache` is a folder that no other evaluation uses."""
        metric = cls(cache_dir=cache, keep_in_memory=True)
        metric.names, metric.options = tuple(names), dict(options or {})
        return metric

    def check(self, references: Sequence[str] = ()) -> None:
        """Called before any inference.

        Raises:
            BadInput: the options cannot be used, or it measures nothing on these references.
        """

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=type(self).__doc__ or "",
            citation="",
            inputs_description="",
            features=datasets.Features({"predictions": text, "references": text}),
        )


def mean_of_rows(rows: dict[str, list[float]]) -> dict[str, Any]:
    """The values of metrics whose total is the mean over the rows."""
    whole = {name: sum(values) / len(values) for name, values in rows.items()}
    return {**whole, **{f"{name}/rows": values for name, values in rows.items()}}
