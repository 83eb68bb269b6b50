"""The interface of a text metric: an `evaluate.Metric` that also tells the figure of each row."""

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate


class TextMetric(evaluate.Metric):
    """predictions, references -> {name: figure of the whole, name/rows: figure of each}

    One object computes all of `names`: those parts of the catalog that share its class and that a project asks for.
    Implement `_compute`.
    """

    names: tuple[str, ...] = ()

    @classmethod
    def of(cls, names: Sequence[str], cache: str) -> "TextMetric":
        """A metric for these names; `cache` is a folder that no other evaluation uses."""
        metric = cls(cache_dir=cache, keep_in_memory=True)
        metric.names = tuple(names)
        return metric

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=type(self).__doc__ or "",
            citation="",
            inputs_description="",
            features=datasets.Features({"predictions": text, "references": text}),
        )


def mean_of_rows(rows: dict[str, list[float]]) -> dict[str, Any]:
    """The figures of metrics whose whole is the mean over the rows."""
    whole = {name: sum(values) / len(values) for name, values in rows.items()}
    return {**whole, **{f"{name}/rows": values for name, values in rows.items()}}
