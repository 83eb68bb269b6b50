"""Validity under a JSON Schema of the project: `{metric: json_schema, file: schemas/answer.json}`."""

import json
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from llmops_assets.config.documents import DocumentError, parse_json
from llmops_assets.programs.evaluation.metrics.base import Answer, RowMetric
from llmops_assets.programs.runtime.errors import BadInput


class JsonSchema(RowMetric):
    """The share of answers that are JSON and valid under the schema, as a whole: no code fence, no text around it.

    The schema's dialect is the one that its `$schema` names, else 2020-12. A `$ref` leads to the schema itself only.
    `format` is not checked, as the specification has it by default.
    """

    def check_file(self) -> None:
        from jsonschema.exceptions import SchemaError
        from referencing.exceptions import Unresolvable

        try:
            self._validator.check_schema(self._schema)
            self._valid("{}")
        except SchemaError as error:
            raise BadInput(f"its schema is not valid: {error.message} at {error.json_path}", self.name) from error
        except Unresolvable as error:
            told = f"its schema refers to {error.ref!r}, which is not in the file; put it there under $defs"
            raise BadInput(told, self.name) from error

    def check(self, rows: Sequence[Answer]) -> None:
        self.check_file()

    def statistics(self, answer: Answer) -> Sequence[float]:
        return [float(self._valid(answer.prediction)), 1.0]

    @cached_property
    def _schema(self) -> Any:
        try:
            return parse_json(self.options["file"])
        except DocumentError as error:
            raise BadInput(f"its schema is {error}", self.name) from error

    @cached_property
    def _validator(self) -> Any:
        from jsonschema.validators import Draft202012Validator, validator_for
        from referencing.jsonschema import EMPTY_REGISTRY

        # Without a registry jsonschema would fetch what a $ref names from the network.
        return validator_for(self._schema, Draft202012Validator)(self._schema, registry=EMPTY_REGISTRY)

    def _valid(self, text: str) -> bool:
        try:
            value = json.loads(text, parse_constant=_refuse)
        except (ValueError, RecursionError):
            return False
        return bool(self._validator.is_valid(value))


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
