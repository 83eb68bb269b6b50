"""The settings for a project's own code and its image, as programs read them."""

from llmops_assets.config.compute import ComputeSettings
from llmops_assets.config.images import ImageSettings
from llmops_assets.programs.runtime.specs import BuilderSpec, CodeRules

GIB = 2**30


def code_rules(compute: ComputeSettings) -> CodeRules:
    return CodeRules(
        isolation=compute.isolation,
        memory=int(compute.project_memory * 2**30),
        processes=compute.project_processes,
        metric_timeout_s=compute.metric_timeout,
    )


def builder_spec(settings: ImageSettings) -> BuilderSpec:
    return BuilderSpec(
        builder=settings.builder,
        host=settings.host,
        client=settings.client,
        registry=settings.registry,
        username=settings.username,
        password_env=settings.password.env if settings.password else None,
        docker_config=str(settings.docker_config) if settings.docker_config else None,
        network=settings.network,
        max_size=int(settings.max_size * GIB),
        max_disk=int(settings.max_disk * GIB),
    )
