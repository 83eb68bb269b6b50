"""Builds the code location from the settings. Assembly only; the other modules build the parts."""

from collections.abc import Sequence
from typing import Any

import dagster as dg

from llmops_assets.assets import (
    ci_report,
    container_image,
    dataset_version,
    endpoint_health,
    evaluation_report,
    fine_tuned_checkpoint,
    production_endpoint,
    quantized_artifact,
    registered_model,
    release_approval,
    served_evaluation_report,
    smoke_test_report,
    staging_endpoint,
)
from llmops_assets.config.settings import Settings
from llmops_assets.config.settings_file import load_settings
from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.config.yaml_validation import ConfigError
from llmops_assets.delivery.console_logger import console_logger
from llmops_assets.delivery.run_tags import PROJECT_TAG
from llmops_assets.jobs.garbage import build_garbage_job, build_garbage_schedule
from llmops_assets.jobs.rollback import build_rollback_job
from llmops_assets.machine.private import NotOurs, keep_private
from llmops_assets.stage.per_project import copied
from resources.assembly import build_clients
from resources.run_launching.kubernetes_pods import executor_config
from sensors.source_changes import build_sensors

STAGE_BUILDERS = (
    ci_report.build,
    container_image.build,
    dataset_version.build,
    fine_tuned_checkpoint.build,
    evaluation_report.build,
    registered_model.build,
    quantized_artifact.build,
    served_evaluation_report.build,
    staging_endpoint.build,
    smoke_test_report.build,
    release_approval.build,
    production_endpoint.build,
    endpoint_health.build,
)


def job_name(project: ProjectSource) -> str:
    return f"{project.group}_deliver"


def project_assets(
    project: ProjectSource, stages: Sequence[dg.AssetsDefinition]
) -> list[dg.AssetsDefinition | dg.AssetSpec]:
    """A project's thirteen stages and their two external sources.

    Args:
        stages: those of any project.
    """
    common: dict[str, Any] = {"group_name": project.group, "owners": list(project.owners)}
    repository = dg.AssetSpec(
        [project.name, "repository"],
        kinds={"git"},
        metadata={"repository": project.shown, "branch": project.branch},
        description=f"Branch {project.branch}, as last seen by the sensors. Its data version is the commit.",
        **common,
    )
    data = dg.AssetSpec(
        [project.name, "data"],
        kinds={"dvc"},
        description="The DVC-tracked rows, as last seen by the sensors. Its data version digests their versions.",
        **common,
    )
    return [repository, data, *(copied(stage, project) for stage in stages)]


def build_executor(settings: Settings) -> dg.ExecutorDefinition:
    """The executor: all steps in one process, or each in its own pod."""
    if not settings.steps_have_pods:
        return dg.in_process_executor
    from dagster_k8s import k8s_job_executor  # imports for 1.5 s, so only if it is used

    return k8s_job_executor.configured(executor_config(settings.kubernetes, str(settings.home)), name="k8s_job")


def build_definitions(settings: Settings | None = None, **overrides: Any) -> dg.Definitions:
    """Builds the whole location; tests override clients by name.

    Args:
        settings: None: from `load_settings`. Invalid settings give an empty location whose metadata has the error, so
            that Dagster's UI stays available.
    """
    if settings is None:
        try:
            settings = load_settings()
            if settings.profile == "local":
                keep_private(settings.home)
        except (ConfigError, NotOurs) as error:
            settings = Settings(hint=f"The settings are invalid, so no project is watched: {error}")
    jobs = [
        dg.define_asset_job(
            job_name(project),
            selection=dg.AssetSelection.groups(project.group)
            - dg.AssetSelection.assets([project.name, "repository"], [project.name, "data"]),
            tags={PROJECT_TAG: project.name},
            description=f"Runs all stages from {project.name}'s data to its endpoint. Sensors start it. Started "
            "manually, it uses the head of the branch, or the `revision` in ci_report's config.",
        )
        for project in settings.projects
    ]
    garbage = build_garbage_job()
    stages = [build(settings.projects[0], settings) for build in STAGE_BUILDERS] if settings.projects else []
    return dg.Definitions(
        assets=[a for project in settings.projects for a in project_assets(project, stages)],
        jobs=[
            *jobs,
            *(build_rollback_job(project) for project in settings.projects),
            *([garbage] if settings.projects else []),
        ],
        schedules=build_garbage_schedule(settings, garbage) if settings.projects else [],
        sensors=[
            s
            for project, job in zip(settings.projects, jobs, strict=True)
            for s in build_sensors(project, job, settings)
        ],
        resources=build_clients(settings, **overrides).as_resources(),
        executor=build_executor(settings),
        loggers={"console": console_logger},
        metadata={"hint": settings.hint} if settings.hint else {},
    )
