"""container_image: builds the project's Dockerfile and scans the image; without a Dockerfile, its record says so."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from llmops_assets.config.settings import Settings
from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.delivery.code_rules import builder_spec
from llmops_assets.delivery.gate_evidence import verdict_on, verdict_on_image
from llmops_assets.delivery.release_policy import not_on_branch
from llmops_assets.domain.images import no_image
from llmops_assets.domain.keys import short
from llmops_assets.domain.records import ContainerImage
from llmops_assets.domain.redaction import carries_credentials
from llmops_assets.domain.verdict import Verdict
from llmops_assets.programs.images.contents import SBOM, SCAN
from llmops_assets.programs.runtime.specs import ImageResult, ImageSpec, ScanSpec
from llmops_assets.stage.asset import stage_asset
from llmops_assets.stage.execution import StageExecution
from llmops_assets.stage.metadata import checks_metadata

DATABASE = "image-scan"
"""The folder in the home of the scanner's database, if the settings name none."""
SHOWN = 50
"""Vulnerabilities that the asset's page lists."""


def make(run: StageExecution) -> ContainerImage:
    if without := no_image(run.at.values):
        return ContainerImage(**run.header, without=without)
    settings, image = run.settings.images, run.at.config.image
    assert settings is not None
    spec = ImageSpec(
        work_tree=str(run.source.work_tree(run.revision)),
        name=run.project.name,
        context=image.context,
        dockerfile=image.file,
        target=image.target,
        cache=_cache(run),
        args={**settings.args, **image.args},
        labels=_labels(run),
        epoch=int(run.source.git.commit(run.revision).commit_time),
        bases=settings.bases,
        builder=builder_spec(settings),
        scan=ScanSpec(
            database=str(settings.scan.database or run.settings.home / DATABASE),
            update=settings.scan.update,
            max_age_s=settings.scan.max_age,
        ),
    )
    secrets = (settings.password.env,) if settings.password else ()
    done = run.program("image", spec, secrets=secrets)
    result = done.read(ImageResult)
    artifact = run.store.put(done.artifact)
    return ContainerImage(**run.header, **result.model_dump(), uri=artifact.uri)


def _cache(run: StageExecution) -> str:
    """The name of the build's cache mounts: what a branch or a fork writes there, the watched branch never reads."""
    elsewhere = not_on_branch(run.source, run.revision)
    return f"{run.project.name}-{run.revision}" if elsewhere else run.project.name


def _labels(run: StageExecution) -> dict[str, str]:
    """Labels of the Open Container Initiative. A later commit with the same files uses the image of the first one."""
    labels = {"org.opencontainers.image.revision": run.revision, "org.opencontainers.image.title": run.project.name}
    source = run.project.shown
    if "://" in source and not source.startswith("file:") and not carries_credentials(source):
        labels["org.opencontainers.image.source"] = source
    return labels


def describe(run: StageExecution, record: ContainerImage) -> Mapping[str, Any]:
    if record.without:
        return {"image": f"none: {record.without}"}
    rows = [
        dg.TableRecord(
            {"id": v.id, "severity": v.severity, "package": v.package, "version": v.version, "fixed": v.fixed}
        )
        for v in record.vulnerabilities[:SHOWN]
    ]
    counts = ", ".join(f"{n} {name}" for name, n in record.severities.items()) or "none known"
    return {
        "image": record.reference,
        "digest": record.digest,
        "size_bytes": record.size_bytes,
        "sbom": dg.MetadataValue.path(f"{record.uri}/{SBOM}"),
        "scan": dg.MetadataValue.path(f"{record.uri}/{SCAN}"),
        "vulnerabilities": f"not scanned: {record.not_scanned}" if record.not_scanned else counts,
        "packages": record.packages,
        **({"most_severe": dg.MetadataValue.table(records=rows)} if rows else {}),
        **checks_metadata(record.checks),
    }


def verdict(run: StageExecution, record: ContainerImage) -> Verdict:
    return verdict_on_image(run, record, f"the image of {short(run.revision)}")


def build(project: ProjectSource, settings: Settings) -> dg.AssetsDefinition:
    return stage_asset(
        project,
        settings,
        "container_image",
        make,
        describe,
        kinds={"docker"},
        judge=verdict,
        require=verdict_on,
    )
