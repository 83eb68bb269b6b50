"""Resolves a revision to its records: by key, never by "the latest". Pure except for the given look-up."""

from collections.abc import Callable, Mapping
from typing import Any

from llmops_assets.domain.chain import CHAIN, WORK, Stage
from llmops_assets.domain.images import no_image
from llmops_assets.domain.models import Frozen
from llmops_assets.domain.records import AnyRecord, named_outputs


class ResolvedRecords(Frozen):
    """The existing records of a revision."""

    records: dict[str, AnyRecord]
    outputs: dict[str, str]
    keys: dict[str, str]
    """Stage → key, for every stage whose inputs all exist."""
    values: Mapping[str, bool] = {}
    """Those that decide whether a record is read."""
    needless: frozenset[str] = frozenset()
    """Stages without anything to do at this revision: nothing waits for their records."""

    def missing_for(self, stage: Stage) -> list[str]:
        """Stages that must be materialized before this one can act."""
        needed = [r.split(".")[0] for r in stage.reads(self.values) if r not in self.outputs]
        needed += [s for s in stage.requires if s not in {*self.records, *self.needless} and _is_work(s)]
        return list(dict.fromkeys(needed))


def _is_work(name: str) -> bool:
    return any(s.name == name for s in WORK)


def resolve_records(
    values: Mapping[str, Any],
    find: Callable[[str], AnyRecord | None],
    salt_of: Callable[[str], str | None] = lambda key: None,
) -> ResolvedRecords:
    """Computes keys and looks up records, in one pass over the chain's work stages."""
    records: dict[str, AnyRecord] = {}
    outputs: dict[str, str] = {}
    keys: dict[str, str] = {}
    for stage in CHAIN:
        if stage.kind == "event" or any(r not in outputs for r in stage.reads(values)):
            continue
        key = stage.key(values, outputs)
        if salt := salt_of(key):
            key = stage.key(values, outputs, salt)
        keys[stage.name] = key
        if (record := find(key)) is not None:
            records[stage.name] = record
            outputs |= named_outputs(record)
    needless = frozenset({"container_image"} if no_image(values) else ())
    deciding = {value: bool(values.get(value)) for stage in CHAIN for _, value in stage.records_if}
    return ResolvedRecords(records=records, outputs=outputs, keys=keys, values=deciding, needless=needless)
