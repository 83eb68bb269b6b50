"""What a revision's container image is made from, or why it has none.

Building it belongs in `llmops_assets.programs.image`, judging it in `llmops_assets.domain.images`.
"""

from collections.abc import Mapping
from typing import Any

from llmops_assets import catalog
from llmops_assets.config.documents import CONFIG_BYTES
from llmops_assets.config.image_context import BadPattern, context_files, ignore_file
from llmops_assets.config.images import ImageSettings
from llmops_assets.config.metrics import CustomMetric
from llmops_assets.config.project import ProjectConfig
from llmops_assets.domain.images import NO_BUILDER, NO_DOCKERFILE, SWITCHED_OFF
from llmops_assets.domain.keys import digest, short
from resources.project_source.revision_files import RevisionFiles


def image_values(
    config: ProjectConfig, settings: ImageSettings | None, files: RevisionFiles
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The resolved values of the image, and the files that it is built from.

    Args:
        settings: those of images; None: the settings name no builder.
    """
    without = _without(config, settings, files)
    if without is not None or settings is None:
        return {"image": {"without": without}}, ()
    paths = _context(config, files)
    return {
        "image": _image(config, settings, {path: files.ids[path] for path in paths}),
        "image.scan": config.image.scan.model_dump(mode="json", exclude_defaults=True),
        "metrics.in_image": _runs_metrics(config, settings),
    }, paths


def _without(config: ProjectConfig, settings: ImageSettings | None, files: RevisionFiles) -> str | None:
    """Why a revision has no image; None if it has one. A Dockerfile that llmops.yaml names must exist."""
    image = config.image
    if not image.build:
        return SWITCHED_OFF
    if image.file in files.ids:
        return None if settings else NO_BUILDER
    if image.dockerfile is not None:
        files.problem(
            "image.dockerfile",
            f"there is no {image.file} in Git at {short(files.revision)}; add it, or leave the key out",
        )
    return NO_DOCKERFILE


def _context(config: ProjectConfig, files: RevisionFiles) -> tuple[str, ...]:
    """The files that the image is built from."""
    image = config.image
    if image.context != "." and not any(path.startswith(f"{image.context}/") for path in files.ids):
        files.problem("image.context", f"there is no folder {image.context} in Git")
        return ()
    ignoring = ignore_file(files.ids, image.context, image.file)
    try:
        text = files.text(ignoring, "image", CONFIG_BYTES) if ignoring else ""
        return tuple(context_files(files.ids, image.context, image.file, text))
    except BadPattern as error:
        files.problems.append(f"{ignoring}:{error.line}: {error}; see Docker's documentation of .dockerignore")
        return ()


def _image(config: ProjectConfig, settings: ImageSettings, ids: Mapping[str, str]) -> dict[str, Any]:
    """What the image is made from. Where it is built and pushed, and how it is judged, is not part of it."""
    stated = config.image.model_dump(mode="json", exclude_defaults=True, include={"context", "target", "args"})
    return {
        "dockerfile": config.image.file,
        **stated,
        "files": digest(dict(ids)),
        "installation": settings.identity,
    }


def _runs_metrics(config: ProjectConfig, settings: ImageSettings) -> bool:
    """Whether the project's own metrics run in its image."""
    own = any(isinstance(metric, CustomMetric) for metric in config.evaluation.metrics)
    return own and settings.run_code and catalog.IMAGE_BUILDERS[settings.builder].runs
