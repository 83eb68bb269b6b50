"""The two pydantic bases that every record and every configuration model stands on, and how a model says to editors
what people may write."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """A value that never changes once made: records, verdicts, decisions."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Strict(BaseModel):
    """Configuration written by people: an unknown key is an error, never ignored. No bound is infinite or NaN."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), populate_by_name=True, allow_inf_nan=False
    )


def number_or_text(number: str, pattern: str, *examples: str, **bounds: float) -> dict[str, Any]:
    """JSON Schema of a value that is a number within bounds (`number` says of what), or text such as 10% or 5s."""
    return {
        "anyOf": [
            {"type": "number", "description": number, **bounds},
            {"type": "string", "pattern": f"^{pattern}$", "examples": list(examples)},
        ]
    }
