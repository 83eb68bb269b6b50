"""Types of keys that name a part of the catalog: validated against it, and listed in the JSON Schema."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from llmops_assets.catalog import QUANTIZATION_BACKENDS, Parts, UnknownPart


@dataclass(frozen=True, eq=False)
class NameOf:
    """Annotation of a string: the name of one of these parts. Validation loads no part."""

    parts: Parts[Any]
    otherwise: str = ""
    """Other allowed values, for the error message."""
    listed: Callable[[Any], bool] = lambda part: True
    """Whether the JSON Schema lists a part."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._known, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", "enum": [name for name, part in self.parts.items() if self.listed(part)]}

    def _known(self, name: str) -> str:
        try:
            return str(self.parts[name].name)
        except UnknownPart as error:
            raise ValueError(f"{error}{self.otherwise}") from None


class SchemeName:
    """Annotation of a string: a quantization scheme. The JSON Schema lists the schemes of all backends."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        schemes = (scheme for part in QUANTIZATION_BACKENDS.values() for scheme in part.schemes)
        return {"type": "string", "enum": list(dict.fromkeys(schemes))}
