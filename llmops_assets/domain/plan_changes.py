"""What differs between two revisions, by file and key with both values, and which values of the chain it changes. Pure.

`domain.config_diff` says the same in a sentence; `delivery.planning` reads the revisions.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import Field

from llmops_assets.domain.chain import CHAIN
from llmops_assets.domain.config_diff import key_changes
from llmops_assets.domain.formatting import excerpt
from llmops_assets.domain.keys import short
from llmops_assets.domain.models import Frozen

CONFIG = "llmops.yaml"
MOST_FILES = 20
"""Changed files of one value that are named; the rest is counted."""
TEXT = 120
"""Characters of a prompt that are shown."""
_READ_BY: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("name", ("name",)),
    ("data", ("data",)),
    ("model.base", ("model.base",)),
    ("prompt", ("prompt", "training.prompt")),
    ("training.prompt", ("training.prompt",)),
    ("training", ("training",)),
    ("evaluation.slices", ()),
    ("evaluation.must_pass", ("data", "evaluation", "gates")),
    ("evaluation", ("evaluation",)),
    ("gates", ("gates",)),
    ("quantization", ("quantization",)),
    ("deployment.engine", ("engine",)),
    ("deployment.serving", ("engine",)),
    ("deployment.sampling", ("engine",)),
    ("deployment", ("policy",)),
    ("ci", ("tree",)),
    ("image", ("image",)),
    ("image.scan", ("image.scan",)),
)
"""Prefix of a key of llmops.yaml → the values that it decides; the longest prefix counts."""


class PlannedChange(Frozen):
    """One difference between two revisions."""

    file: str = Field(description="Path in the project.")
    key: str | None = Field(description="Key of llmops.yaml, or what names the file; None: the file itself.")
    before: str | None = Field(description="None: it was not there.")
    after: str | None = Field(description="None: it is not there any more.")
    values: tuple[str, ...] = Field(description="The values of the chain that it changes.")

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages that read it, in chain order."""
        return tuple(s.name for s in CHAIN if set(s.values) & set(self.values))

    @property
    def where(self) -> str:
        return f"{self.file}: {self.key}" if self.key else self.file

    @property
    def what(self) -> str:
        if self.before is None:
            return f"added ({self.after})" if self.key else "added"
        if self.after is None:
            return f"removed ({self.before})" if self.key else "removed"
        return f"{self.before} → {self.after}" if self.before or self.after else "changed"


class RevisionContent(Frozen):
    """A revision as people wrote it: what its values were made from."""

    values: dict[str, Any]
    config: dict[str, Any] = Field(description="llmops.yaml with all defaults.")
    code: dict[str, str] = Field(description="Path → blob id of every file that ci_report reads.")
    metric_files: dict[str, tuple[str, ...]] = Field(description="The project's own metrics → their files.")
    files: dict[str, str] = Field(description="Path → blob id of the files of those metrics.")
    image_files: dict[str, str] = Field(
        default_factory=dict, description="Path → blob id of the files that the image is built from."
    )

    def prompt_file(self, value: str) -> str | None:
        own = (self.config.get("training") or {}).get("prompt") if value == "training.prompt" else None
        found: str | None = own or self.config.get("prompt")
        return found


def planned_changes(before: RevisionContent, after: RevisionContent) -> tuple[PlannedChange, ...]:
    """Every difference that a stage or the policy reads: keys of llmops.yaml first, then files."""
    differing = {name for name in {*before.values, *after.values} if before.values.get(name) != after.values.get(name)}
    found = [*_of_config(before, after, differing), *_of_files(before, after, differing)]
    return tuple(change for change in found if change.values)


def _of_config(before: RevisionContent, after: RevisionContent, differing: set[str]) -> Iterator[PlannedChange]:
    for change in key_changes(before.config, after.config):
        values = tuple(v for v in _values_of(change.key) if v in differing)
        yield PlannedChange(file=CONFIG, key=change.key, before=change.before, after=change.after, values=values)


def _values_of(key: str) -> tuple[str, ...]:
    known = [(prefix, values) for prefix, values in _READ_BY if key == prefix or key.startswith(f"{prefix}.")]
    return max(known, key=lambda entry: len(entry[0]))[1] if known else ()


def _of_files(before: RevisionContent, after: RevisionContent, differing: set[str]) -> Iterator[PlannedChange]:
    if "tree" in differing:
        yield from _differing_files(before.code, after.code, None, ("tree",))
    if "image" in differing:
        yield from _differing_files(before.image_files, after.image_files, "image", ("image",))
    if "data" in differing:
        yield from _data(before.values["data"], after.values["data"])
    if "model.base" in differing:
        old, new = (_version(side.values["model.base"]) for side in (before, after))
        if old and new:
            path = (after.config["model"]["base"] or {}).get("path") or CONFIG
            yield PlannedChange(file=path, key="model.base", before=old, after=new, values=("model.base",))
    yield from _prompts(before, after, differing)
    if "evaluation" in differing:
        for name in sorted({*before.metric_files, *after.metric_files}):
            old_files, new_files = (
                {path: side.files[path] for path in side.metric_files.get(name, ()) if path in side.files}
                for side in (before, after)
            )
            yield from _differing_files(old_files, new_files, f"evaluation.metrics: {name}", ("evaluation",))


def _data(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[PlannedChange]:
    for split in ("train", "validation", "test", "must_pass"):
        old, new = (_version(side.get(split)) for side in (before, after))
        if old != new:
            path = (after.get(split) or before.get(split) or {}).get("path", split)
            values = ("data", "evaluation") if split == "must_pass" else ("data",)
            yield PlannedChange(file=path, key=f"data.{split}", before=old, after=new, values=values)


def _prompts(before: RevisionContent, after: RevisionContent, differing: set[str]) -> Iterator[PlannedChange]:
    """One change per text: a prompt that is served and trained with is one file."""
    seen: dict[tuple[str, str, str], list[str]] = {}
    for value in ("prompt", "training.prompt"):
        if value in differing:
            path = after.prompt_file(value) or before.prompt_file(value) or CONFIG
            texts = (excerpt(before.values.get(value, ""), TEXT), excerpt(after.values.get(value, ""), TEXT))
            seen.setdefault((path, *texts), []).append(value)
    for (path, old, new), values in seen.items():
        yield PlannedChange(file=path, key=values[0], before=old, after=new, values=tuple(values))


def _differing_files(
    before: Mapping[str, str], after: Mapping[str, str], key: str | None, values: tuple[str, ...]
) -> Iterator[PlannedChange]:
    paths = sorted(path for path in {*before, *after} if before.get(path) != after.get(path))
    for path in paths[:MOST_FILES]:
        old, new = (short(side[path]) if path in side else None for side in (before, after))
        yield PlannedChange(file=path, key=key, before=old, after=new, values=values)
    if (more := len(paths) - MOST_FILES) > 0:
        yield PlannedChange(file=f"{more:,} more files", key=key, before="", after="", values=values)


def _version(value: Any) -> str | None:
    """The version of data or of a base model, shortened; None if there is none."""
    if not isinstance(value, Mapping):
        return None
    text = value.get("version") or value.get("revision")
    if text is None:
        return None
    kind, _, digest = str(text).rpartition(":")
    return f"{kind}:{short(digest)}" if kind else short(digest)


def stages_of(changes: Iterable[PlannedChange]) -> dict[str, tuple[PlannedChange, ...]]:
    """The changes by the stage that reads them."""
    found: dict[str, list[PlannedChange]] = {}
    for change in changes:
        for stage in change.stages:
            found.setdefault(stage, []).append(change)
    return {stage: tuple(changes) for stage, changes in found.items()}


__all__ = ["PlannedChange", "RevisionContent", "planned_changes", "stages_of"]
