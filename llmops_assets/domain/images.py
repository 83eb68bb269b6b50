"""Decides about a project's container image: what of its scan counts, and what a commit loosens. Pure.

The program `image` measures (`records.ContainerImage`); the verdict is judged on that measurement at each use, so that
another limit needs no other build.
"""

from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any, Literal

from pydantic import Field, field_validator

from llmops_assets.domain.dockerfile import is_allowed_base
from llmops_assets.domain.findings import Finding, finding
from llmops_assets.domain.models import Frozen, Strict
from llmops_assets.domain.records import ContainerImage, Vulnerability
from llmops_assets.domain.verdict import Verdict

Severity = Literal["low", "medium", "high", "critical"]
SEVERITIES: tuple[str, ...] = ("unknown", "low", "medium", "high", "critical")
"""From the least to the most severe; `unknown` is what the scanner's database does not rate."""
NO_DOCKERFILE = "no Dockerfile"
SWITCHED_OFF = "image.build is false"
NO_BUILDER = "this installation builds no images: the settings have no `images`"
MOST_NAMED = 5
"""Vulnerabilities that a verdict names; the record has them all."""


class Accepted(Strict):
    """A vulnerability that the project accepts."""

    id: str = Field(
        pattern=r"^[A-Za-z][A-Za-z0-9]*-[A-Za-z0-9.:-]{1,60}$", description="Its identifier: CVE-2025-1234, GHSA-…."
    )
    reason: str = Field(min_length=3, max_length=500, description="Why it does no harm here.")
    until: date | None = Field(default=None, description="The last day on which it is accepted: 2026-12-31.")


class ImageScan(Strict):
    """Which vulnerabilities of the image fail its verdict. Read when acting: a change builds nothing again."""

    severity: Severity = Field(default="high", description="The least severity that fails.")
    unfixed: bool = Field(
        default=True, description="Whether vulnerabilities count for which no fixed version exists yet."
    )
    ignore: tuple[Accepted, ...] = Field(
        default=(), max_length=500, description="Vulnerabilities that are accepted, each with its reason."
    )

    @field_validator("ignore")
    @classmethod
    def _ids_differ(cls, ignore: tuple[Accepted, ...]) -> tuple[Accepted, ...]:
        ids = [entry.id.upper() for entry in ignore]
        if twice := sorted({name for name in ids if ids.count(name) > 1}):
            raise ValueError(f"{', '.join(twice)} is listed twice; keep one entry")
        return ignore


class ImagePolicy(Frozen):
    """What the image of a revision must satisfy."""

    build: bool = True
    scan: ImageScan = ImageScan()
    bases: tuple[str, ...] = Field(
        default=(), description="The settings' patterns of base images that are allowed; empty: any."
    )
    must_be_scanned: bool = Field(
        default=True, description="The settings': whether an image that could not be scanned fails."
    )


class ImageFloor(Strict):
    """The least that the scan of every image must satisfy."""

    severity: Severity | None = Field(
        default=None, description="The least severity that fails, whatever a project says."
    )
    unfixed: bool = Field(default=False, description="Vulnerabilities without a fixed version count in every project.")
    ignore: bool = Field(
        default=True, description="Whether a project may accept vulnerabilities (`image.scan.ignore`)."
    )

    @property
    def says_something(self) -> bool:
        return self != ImageFloor()


def no_image(values: Mapping[str, Any]) -> str | None:
    """Why a revision has no image, from its resolved values; None if it has one."""
    found: str | None = values.get("image", {"without": NO_DOCKERFILE}).get("without")
    return found


def judge_image(
    subject: str, record: ContainerImage | None, without: str | None, policy: ImagePolicy, today: date
) -> Verdict:
    """The verdict on an image.

    Args:
        record: None if the stage never ran.
        without: why the revision has no image, see `no_image`.
    """
    if without is not None:
        return Verdict(
            subject=subject, report=record.key if record else None, champion=None, reasons=(f"no image: {without}",)
        )
    if record is None:
        return Verdict(subject=subject, report=None, champion=None, failures=(f"no report on {subject}",))
    failures = [f"{c.name}: {c.summary}" for c in record.checks if not c.passed and c.severity == "error"]
    reasons = [f"{c.name}: {c.summary}" for c in record.checks if c.passed or c.severity == "warn"]
    if others := [name for name in record.bases if not is_allowed_base(name, policy.bases)]:
        allowed = ", ".join(policy.bases)
        failures.append(f"bases: {', '.join(others)}: not allowed by images.bases of the settings ({allowed})")
    if record.not_scanned:
        text = f"vulnerabilities: not scanned: {record.not_scanned}"
        (failures if policy.must_be_scanned else reasons).append(text)
    else:
        counted, accepted = counting(record, policy.scan, today)
        limit = policy.scan.severity
        if counted or _left_out(record, limit):
            failures.append(_listed(counted, record, limit))
        else:
            total = sum(record.severities.values())
            known = f"{total} known, " if total else ""
            reasons.append(
                f"vulnerabilities: {known}none of severity {limit} or above in {record.packages} packages "
                f"(database of {record.database[:10]})"
            )
        reasons += [f"vulnerabilities: {text}" for text in accepted]
    return Verdict(subject=subject, report=record.key, champion=None, failures=tuple(failures), reasons=tuple(reasons))


def counting(record: ContainerImage, scan: ImageScan, today: date) -> tuple[list[Vulnerability], list[str]]:
    """The vulnerabilities that fail, and what is said about those that are accepted."""
    accepted = {entry.id.upper(): entry for entry in scan.ignore}
    least = SEVERITIES.index(scan.severity)
    found, said = [], []
    for one in record.vulnerabilities:
        if SEVERITIES.index(one.severity) < least or not (scan.unfixed or one.fixed):
            continue
        entry = accepted.get(one.id.upper())
        if entry is not None and (entry.until is None or today <= entry.until):
            said.append(f"{one.id} in {one.package} is accepted: {entry.reason}")
            continue
        found.append(one)
    return found, list(dict.fromkeys(said))


def vulnerability_findings(
    record: ContainerImage, scan: ImageScan, today: date, dockerfile: str, line: int
) -> list[Finding]:
    """The vulnerabilities that fail, at the line of the Dockerfile from which the image is built."""
    return [
        finding("trivy", one.id, f"{one.text}{f': {one.title}' if one.title else ''}", dockerfile, line)
        for one in counting(record, scan, today)[0]
    ]


def _left_out(record: ContainerImage, severity: str) -> int:
    """Vulnerabilities of at least this severity that the record counts and does not list."""
    at_least = SEVERITIES[SEVERITIES.index(severity) :]
    listed = sum(v.severity in at_least for v in record.vulnerabilities)
    return sum(record.severities.get(name, 0) for name in at_least) - listed


def _listed(counted: list[Vulnerability], record: ContainerImage, limit: str) -> str:
    number = len(counted) + _left_out(record, limit)
    named = ", ".join(v.text for v in counted[:MOST_NAMED])
    more = f", and {number - MOST_NAMED} more" if number > MOST_NAMED else ""
    return f"vulnerabilities: {number} of severity {limit} or above: {named}{more}"


def stricter_image(policy: ImagePolicy, floor: ImageFloor) -> ImagePolicy:
    """The policy that applies under a floor."""
    if not floor.says_something:
        return policy
    scan = policy.scan
    update: dict[str, Any] = {"unfixed": scan.unfixed or floor.unfixed}
    if floor.severity is not None and _weaker(scan.severity, floor.severity):
        update["severity"] = floor.severity
    if not floor.ignore:
        update["ignore"] = ()
    return policy.model_copy(update={"scan": scan.model_copy(update=update)})


def image_below_floor(policy: ImagePolicy, floor: ImageFloor) -> Iterator[str]:
    """What llmops.yaml sets below the floor, each with what applies instead."""
    own = policy.scan.model_fields_set
    if floor.severity is not None and "severity" in own and _weaker(policy.scan.severity, floor.severity):
        yield f"image.scan.severity is {policy.scan.severity}; {floor.severity} applies"
    if floor.unfixed and not policy.scan.unfixed:
        yield "image.scan.unfixed is false, but vulnerabilities without a fixed version count; remove it"
    if not floor.ignore and policy.scan.ignore:
        yield "image.scan.ignore accepts vulnerabilities, which no project may; remove it"


def image_floor_in_words(floor: ImageFloor) -> Iterator[str]:
    if floor.severity is not None:
        yield f"images: vulnerabilities of severity {floor.severity} or above fail"
    if floor.unfixed:
        yield "images: vulnerabilities without a fixed version count"
    if not floor.ignore:
        yield "images: no vulnerability is accepted"


def loosened_image(before: ImagePolicy, after: ImagePolicy) -> Iterator[str]:
    if before.build and not after.build:
        yield "image.build switched off"
        return
    old, new = before.scan, after.scan
    if _weaker(new.severity, old.severity):
        yield f"image.scan.severity {old.severity} → {new.severity}"
    if old.unfixed and not new.unfixed:
        yield "image.scan.unfixed switched off"
    was = {entry.id.upper(): entry for entry in old.ignore}
    for entry in new.ignore:
        known = was.get(entry.id.upper())
        if known is None:
            yield f"image.scan.ignore: {entry.id} added"
        elif known.until is not None and (entry.until is None or entry.until > known.until):
            yield f"image.scan.ignore: {entry.id} is accepted for longer"


def _weaker(severity: str, than: str) -> bool:
    return SEVERITIES.index(severity) > SEVERITIES.index(than)
