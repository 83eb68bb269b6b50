"""What Dagster loads: `defs`. Assembly only; every part is built in the module of its name.

Loading does no I/O but reading the settings file: no torch, no MLflow, no socket.
"""

from typing import Any

import dagster as dg

from llmops_assets import (
    acceptance,
    approval,
    checkpoint,
    ci,
    dataset,
    deployment,
    evaluation,
    quantization,
    registry,
)
from llmops_assets.console import console_logger
from llmops_assets.decisions import build_rollback_job
from llmops_assets.kubernetes import executor_config
from llmops_assets.project import ConfigError
from llmops_assets.settings import ProjectSource, Settings, load_settings
from llmops_assets.tags import PROJECT_TAG
from resources.assembly import build_resources
from resources.git import without_credentials
from sensors.build import build_sensors

STAGE_BUILDERS = (
    ci.build,
    dataset.build,
    checkpoint.build,
    evaluation.build,
    registry.build,
    quantization.build,
    evaluation.build_served,
    deployment.build_staging,
    acceptance.build_smoke,
    approval.build,
    deployment.build_production,
    acceptance.build_health,
)


def job_name(project: ProjectSource) -> str:
    return f"{project.group}_deliver"


def project_assets(project: ProjectSource, settings: Settings) -> list[dg.AssetsDefinition | dg.AssetSpec]:
    """The twelve stages of a project and the two sources that they read."""
    common: dict[str, Any] = {"group_name": project.group, "owners": list(project.owners)}
    repository = dg.AssetSpec(
        [project.name, "repository"],
        kinds={"git"},
        metadata={"repository": without_credentials(project.repository), "branch": project.branch},
        description=f"The branch {project.branch}, as the sensors saw it last. Its data version is the commit.",
        **common,
    )
    data = dg.AssetSpec(
        [project.name, "data"],
        kinds={"dvc"},
        description="The DVC-tracked rows, as the sensors saw them last. Its data version is a digest of theirs.",
        **common,
    )
    return [repository, data, *(build(project, settings) for build in STAGE_BUILDERS)]


def build_executor(settings: Settings) -> dg.ExecutorDefinition:
    """All steps in one process, or each in a pod of its own."""
    if not settings.steps_have_pods:
        return dg.in_process_executor
    from dagster_k8s import k8s_job_executor  # 1.5 s of imports, for those who use it

    return k8s_job_executor.configured(executor_config(settings.kubernetes, str(settings.home)), name="k8s_job")


def build_definitions(settings: Settings | None = None, **resource_overrides: Any) -> dg.Definitions:
    """The whole location, as production assembles it; tests override resources by name.

    Args:
        settings: None reads them as `load_settings` says. Broken settings give an empty location that says why, so
            that Dagster's own page stays reachable.
    """
    if settings is None:
        try:
            settings = load_settings()
        except ConfigError as error:
            settings = Settings(hint=f"The settings are wrong, so nothing is watched: {error}")
    jobs = [
        dg.define_asset_job(
            job_name(project),
            selection=dg.AssetSelection.groups(project.group)
            - dg.AssetSelection.assets([project.name, "repository"], [project.name, "data"]),
            tags={PROJECT_TAG: project.name},
            description=f"Everything from {project.name}'s data to its endpoint. Sensors start it; by hand it works "
            "on the head of the branch, or on the `revision` that ci_report is given.",
        )
        for project in settings.projects
    ]
    return dg.Definitions(
        assets=[a for project in settings.projects for a in project_assets(project, settings)],
        jobs=[*jobs, *(build_rollback_job(project) for project in settings.projects)],
        sensors=[
            s
            for project, job in zip(settings.projects, jobs, strict=True)
            for s in build_sensors(project, job, settings)
        ],
        resources=build_resources(settings, **resource_overrides),
        executor=build_executor(settings),
        loggers={"console": console_logger},
        metadata={"hint": settings.hint} if settings.hint else {},
    )


defs = build_definitions()
