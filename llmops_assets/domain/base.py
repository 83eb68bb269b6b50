"""The two pydantic bases that every record and every configuration model stands on."""

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """A value that never changes once made: records, verdicts, decisions."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Strict(BaseModel):
    """Configuration written by people: an unknown key is an error, never ignored. No bound is infinite or NaN."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), populate_by_name=True, allow_inf_nan=False
    )
