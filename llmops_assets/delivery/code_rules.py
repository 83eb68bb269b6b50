"""The settings for a project's own code, as programs read them."""

from llmops_assets.config.compute import ComputeSettings
from llmops_assets.programs.runtime.specs import CodeRules


def code_rules(compute: ComputeSettings) -> CodeRules:
    return CodeRules(
        isolation=compute.isolation,
        memory=int(compute.project_memory * 2**30),
        processes=compute.project_processes,
        metric_timeout_s=compute.metric_timeout,
    )
