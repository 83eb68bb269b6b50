"""The interface of a text metric, on top of `evaluate.Metric`."""

from typing import Any

import datasets
import evaluate


class _TextMetric(evaluate.Metric):
    """predictions, references -> {name: figure of the whole, name/rows: figure of each}"""

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=type(self).__doc__ or "",
            citation="",
            inputs_description="",
            features=datasets.Features({"predictions": text, "references": text}),
        )


def _figures(rows: dict[str, list[float]]) -> dict[str, Any]:
    whole = {name: sum(values) / len(values) for name, values in rows.items()}
    return {**whole, **{f"{name}/rows": values for name, values in rows.items()}}
