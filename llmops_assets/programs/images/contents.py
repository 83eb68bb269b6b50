"""Lists what is in an image (syft, CycloneDX) and scans it for known vulnerabilities (trivy).

A scan that could not look says so: a scanner that is missing, a database that is missing or too old, an image in which
the scanner finds nothing that it knows. None of these is ever "no vulnerabilities".
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from llmops_assets.domain.formatting import excerpt
from llmops_assets.domain.images import SEVERITIES
from llmops_assets.domain.models import Frozen
from llmops_assets.domain.policy import lasting
from llmops_assets.domain.records import Check, Vulnerability
from llmops_assets.machine.locks import alone
from llmops_assets.programs.images.tools import NoAnswer, find_tool, last_words, run_tool
from llmops_assets.programs.runtime.specs import ScanSpec

SBOM, SCAN = "sbom.cdx.json", "scan.json"
SECONDS = 1800.0
MOST = 500
"""Vulnerabilities that the record lists."""


class Scanned(Frozen):
    not_scanned: str = ""
    database: str = ""
    packages: int = 0
    severities: Mapping[str, int] = {}
    vulnerabilities: tuple[Vulnerability, ...] = ()


def list_contents(reference: str, environment: Mapping[str, str], folder: Path, kept: Path) -> Check:
    """The check `sbom`: writes the list of what is in the image; a warning if there is none."""
    own = {"SYFT_CHECK_FOR_APP_UPDATE": "false"}
    try:
        words = [find_tool("syft"), "scan", f"docker:{reference}", "--quiet", "--output", f"cyclonedx-json={kept}"]
        done = run_tool(words, {**environment, **own}, SECONDS, folder)
        if done.returncode or not kept.is_file():
            raise NoAnswer(f"syft gave no result: {last_words(done)}")
        said = json.loads(kept.read_bytes())
        components = [c for c in said.get("components", []) if c.get("type") != "file"]
    except (NoAnswer, ValueError, AttributeError) as error:
        kept.unlink(missing_ok=True)
        return Check(name="sbom", passed=True, summary=f"no list of contents: {error}", severity="warn")
    return Check(name="sbom", passed=True, summary=f"CycloneDX {said.get('specVersion')}, {len(components)} components")


def scan(reference: str, spec: ScanSpec, environment: Mapping[str, str], folder: Path, kept: Path) -> Scanned:
    """Scans an image that the builder holds."""
    try:
        return _scan(reference, spec, environment, folder, kept)
    except (NoAnswer, ValueError) as error:
        return Scanned(not_scanned=excerpt(str(error), 500), database=_made(Path(spec.database)) or "")


def _scan(reference: str, spec: ScanSpec, environment: Mapping[str, str], folder: Path, kept: Path) -> Scanned:
    trivy, database = find_tool("trivy"), Path(spec.database)
    with _locked(database):
        return _scan_alone(trivy, database, reference, spec, environment, folder, kept)


@contextmanager
def _locked(database: Path) -> Iterator[None]:
    """trivy opens its database for itself alone, and a second scan of that time would fail."""
    with ExitStack() as stack:
        with suppress(OSError):  # without write access there is no lock: scans at the same time may fail
            stack.enter_context(alone(database / ".llmops.lock"))
        yield


def _scan_alone(
    trivy: str, database: Path, reference: str, spec: ScanSpec, environment: Mapping[str, str], folder: Path, kept: Path
) -> Scanned:
    if spec.update:
        _update(trivy, database, folder)
    made = _made(database)
    if made is None:
        raise NoAnswer(f"there is no database in {database} (images.scan.database)")
    age = datetime.now(UTC) - datetime.fromisoformat(made)
    if age > timedelta(seconds=spec.max_age_s):
        raise NoAnswer(
            f"its database of {made[:10]} is older than {lasting(spec.max_age_s)} (images.scan.max_age); update it"
        )
    words = [
        *(trivy, "image", "--image-src", "docker", "--scanners", "vuln", "--format", "json", "--output", str(kept)),
        *("--list-all-pkgs", "--offline-scan", "--skip-db-update", "--skip-java-db-update", "--no-progress"),
        *("--cache-dir", str(database), "--timeout", f"{int(SECONDS)}s", reference),
    ]
    done = run_tool(words, environment, SECONDS + 60, folder)
    if done.returncode or not kept.is_file():
        raise NoAnswer(f"trivy gave no result: {last_words(done)}")
    return _read(json.loads(kept.read_bytes()), made)


def _read(said: Any, made: str) -> Scanned:
    if not isinstance(said, dict):
        raise NoAnswer("trivy's report is no object")
    results = [r for r in said.get("Results") or [] if isinstance(r, dict)]
    packages = sum(len(r.get("Packages") or []) for r in results)
    if not packages:
        family = (said.get("Metadata") or {}).get("OS") or {}
        where = f" ({family.get('Family')} {family.get('Name')})" if family else ""
        raise NoAnswer(f"trivy knows no package in it{where}: there was nothing to compare with its database")
    found = [
        Vulnerability(
            id=str(v.get("VulnerabilityID", ""))[:100],
            package=str(v.get("PkgName", ""))[:200],
            version=str(v.get("InstalledVersion", ""))[:100],
            fixed=str(v.get("FixedVersion") or "")[:200],
            severity=_severity(v.get("Severity")),
            title=excerpt(str(v.get("Title") or ""), 200),
        )
        for r in results
        for v in r.get("Vulnerabilities") or []
        if isinstance(v, dict)
    ]
    found = sorted(set(found), key=lambda v: (-SEVERITIES.index(v.severity), v.id, v.package))
    counts = {name: n for name in reversed(SEVERITIES) if (n := sum(v.severity == name for v in found))}
    return Scanned(database=made, packages=packages, severities=counts, vulnerabilities=tuple(found[:MOST]))


def _severity(value: Any) -> Any:
    name = str(value).lower()
    return name if name in SEVERITIES else "unknown"


def _update(trivy: str, database: Path, folder: Path) -> None:
    """Fetches a newer database, if there is one. What is there stays; its age decides whether it is used."""
    words = [trivy, "image", "--download-db-only", "--no-progress", "--cache-dir", str(database)]
    done = run_tool(words, {}, 600.0, folder)
    if done.returncode and _made(database) is None:
        raise NoAnswer(f"its database could not be fetched: {last_words(done)}")


def _made(database: Path) -> str | None:
    """When the database was made: ISO 8601; None if there is none."""
    try:
        text = str(json.loads((database / "db" / "metadata.json").read_bytes())["UpdatedAt"])
        parsed = datetime.fromisoformat(text)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).isoformat(timespec="seconds")
