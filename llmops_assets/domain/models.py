"""The two pydantic base classes of all records and configuration models, and a JSON Schema helper for them."""

from typing import Any

from pydantic import BaseModel, ConfigDict

_SHARED = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), defer_build=True)
"""Schemas are built at first use: loading the location uses 39 of 287, and building all takes 0.4 CPU seconds."""


class Frozen(BaseModel):
    """An immutable value: a record, verdict or decision."""

    model_config = _SHARED


class Strict(BaseModel):
    """Configuration written by people: unknown keys are errors. Numbers must be finite."""

    model_config = {**_SHARED, "populate_by_name": True, "allow_inf_nan": False}


def build_schemas() -> None:
    """Builds the schemas of all models that are loaded: for a process that is forked for each piece of work."""
    models: list[type[BaseModel]] = [Frozen, Strict]
    for model in models:
        model.model_rebuild()
        models += model.__subclasses__()


class WrongAt(ValueError):
    """A model's validator found a value wrong that lies inside the model: `at` is its path from there.

    pydantic reports such an error at the model, which is the first line of the file for the outermost one.
    """

    def __init__(self, message: str, *at: str | int):
        super().__init__(message)
        self.at = at


def number_or_text(number: str, pattern: str, *examples: str, **bounds: float) -> dict[str, Any]:
    """JSON Schema of a value that is a number within bounds (`number` names its unit), or text such as 10% or 5s."""
    return {
        "anyOf": [
            {"type": "number", "description": number, **bounds},
            {"type": "string", "pattern": f"^{pattern}$", "examples": list(examples)},
        ]
    }
