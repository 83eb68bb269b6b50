"""python -m llmops_assets.programs.image --spec SPEC.json --output DIR

Builds a project's Dockerfile from a private copy of the files that its key covers, pushes the image by digest, lists
what is in it, and scans it. What the findings mean is decided in `domain.images`, each time that they are used.
"""

import os
from pathlib import Path

from llmops_assets.catalog import IMAGE_BUILDERS
from llmops_assets.config.documents import CONFIG_BYTES, DocumentError, read_text
from llmops_assets.config.image_context import BadPattern, context_files, ignore_file
from llmops_assets.domain.dockerfile import bases, refused
from llmops_assets.domain.findings import finding
from llmops_assets.domain.records import Check
from llmops_assets.programs.checks.project_code import files_in_git, private_copy
from llmops_assets.programs.images.contents import SBOM, SCAN, list_contents, scan
from llmops_assets.programs.images.interface import BuildRequest, ImageBuilder
from llmops_assets.programs.images.lint import lint_dockerfile
from llmops_assets.programs.images.tools import version_of_tool
from llmops_assets.programs.runtime.entry import ProgramRun, run
from llmops_assets.programs.runtime.errors import BadInput
from llmops_assets.programs.runtime.specs import CodeRules, ImageResult, ImageSpec

TOOLS = ("hadolint", "syft", "trivy")
LOG, LINT = "build.log", "lint.json"


def make(spec: ImageSpec, job: ProgramRun) -> ImageResult:
    """The whole program.

    Raises:
        BadInput: the Dockerfile, or what it copies, is at fault.
        BuilderFault: builder or registry failed.
    """
    tree, artifact = Path(spec.work_tree), job.new_artifact()
    text = _checked(spec, tree)
    named = bases(text, spec.args)
    checks = [_pinned(spec, named), lint_dockerfile(text, spec.dockerfile, job.output, artifact / LINT)]
    builder: ImageBuilder = IMAGE_BUILDERS[spec.builder.builder].load()(spec.builder, job.output / "login")
    try:
        with private_copy(job.output / "context", tree, _files(spec, tree), CodeRules(isolation="off")) as copy:
            _as_committed(copy.tree, spec.epoch)
            job.progress("build", f"{spec.dockerfile} for {spec.builder.registry}/{spec.name}")
            request = BuildRequest(
                context=copy.tree / spec.context,
                dockerfile=copy.tree / spec.dockerfile,
                name=spec.dockerfile,
                target=spec.target,
                # Without a name of their own, `RUN --mount=type=cache` of all projects of a daemon would share folders.
                args={
                    **spec.args,
                    "SOURCE_DATE_EPOCH": str(spec.epoch),
                    "BUILDKIT_CACHE_MOUNT_NS": spec.cache or spec.name,
                },
                labels=spec.labels,
                log=artifact / LOG,
            )
            built = builder.build(request, lambda step: job.progress("build", step, every_s=2.0))
        name = f"{spec.builder.registry}/{spec.name}"
        job.progress("push", name)
        digest = builder.push(built, name)
        reference = f"{name}@{digest}"
        job.progress("sbom", reference)
        checks.append(list_contents(reference, builder.environment(), job.output, artifact / SBOM))
        job.progress("scan", reference)
        scanned = scan(reference, spec.scan, builder.environment(), job.output, artifact / SCAN)
        tools = {spec.builder.builder: builder.version()}
    finally:
        builder.close()
    tools |= {tool: version for tool in TOOLS if (version := version_of_tool(tool, job.output))}
    return ImageResult(
        reference=reference,
        digest=digest,
        image_id=built.image_id,
        size_bytes=built.size_bytes,
        checks=tuple(checks),
        bases=tuple(dict.fromkeys(image for _, image in named)),
        tools=tools,
        **scanned.model_dump(),
    )


def _checked(spec: ImageSpec, tree: Path) -> str:
    """The Dockerfile's text, if it does nothing that is not allowed here."""
    try:
        text = read_text(tree / spec.dockerfile, CONFIG_BYTES)
    except DocumentError as error:
        raise BadInput(str(error), spec.dockerfile) from error
    if problems := refused(text, spec.args, spec.builder.network != "none", spec.bases):
        first, *others = problems
        more = "".join(f"; line {p.line}: {p.message}" for p in others[:4])
        raise BadInput(f"{first.message}{more}", f"{spec.dockerfile}:{first.line}")
    return text


def _files(spec: ImageSpec, tree: Path) -> list[str]:
    names = files_in_git(tree)
    ignoring = ignore_file(names, spec.context, spec.dockerfile)
    try:
        text = read_text(tree / ignoring, CONFIG_BYTES) if ignoring else ""
        return context_files(names, spec.context, spec.dockerfile, text)
    except DocumentError as error:
        raise BadInput(str(error), str(ignoring)) from error
    except BadPattern as error:
        raise BadInput(str(error), f"{ignoring}:{error.line}") from error


def _as_committed(folder: Path, epoch: int) -> None:
    """Gives every file the time of the commit and the mode that Git knows, for the builder copies both into layers.

    The home's files are its owner's alone: without this, no other user in the image could read what it copies.
    """
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        os.utime(path, (epoch, epoch), follow_symlinks=False)


def _pinned(spec: ImageSpec, named: list[tuple[int, str]]) -> Check:
    """A warning for base images that are named by a tag: building the same commit again may give another image."""
    loose = [(line, image) for line, image in named if "@sha256:" not in image]
    found = tuple(
        finding(
            "bases", "by-tag", f"{image} is named by a tag, not by its digest", spec.dockerfile, line, severity="warn"
        )
        for line, image in loose
    )
    text = f"{len(loose)} of {len(named)} base images are named by a tag, not by digest" if loose else "named by digest"
    return Check(
        name="bases", passed=True, summary=text, severity="warn" if loose else "error", findings=found,
        detail="\n".join(f.text for f in found),
    )  # fmt: skip


if __name__ == "__main__":
    run("image", ImageSpec, make)
