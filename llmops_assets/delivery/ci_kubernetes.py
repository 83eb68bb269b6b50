"""The check of Kubernetes manifests in a project: each document against the published schema of its kind, strictly.

What the schemas cannot tell, such as whether an image exists, is not checked. Templates of Helm are left out: no YAML.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from llmops_assets.config.documents import CONFIG_BYTES, DocumentError, parse_yaml, read_text
from llmops_assets.config.ignore_patterns import ignoring
from llmops_assets.config.yaml_validation import locate
from llmops_assets.domain.findings import Finding, finding
from llmops_assets.domain.records import Check
from llmops_assets.programs.checks.project_code import files_in_git
from llmops_assets.programs.ci_checks.check_run import problems, unchecked

NAME = "kubernetes"
VERSION = "1.37"
_MANIFEST = re.compile(r"^apiVersion:.*^kind:|^kind:.*^apiVersion:", re.MULTILINE | re.DOTALL)
_SEPARATOR = re.compile(r"^---.*$", re.MULTILINE)


def check_manifests(tree: Path, ignore: Sequence[str], untracked: bool) -> Check | None:
    """The check; None if the project has no manifest."""
    ignored = ignoring(ignore)
    names = [n for n in files_in_git(tree, untracked) if n.endswith((".yaml", ".yml")) and not ignored.match_file(n)]
    manifests = {name: text for name in names if (text := _manifest(tree / name)) is not None}
    if not manifests:
        return None
    try:
        import kubernetes_validate
    except ImportError:
        return unchecked(
            NAME, f"{len(manifests)} manifests, and kubernetes-validate is not installed: llmops-assets[ci]"
        )
    found: list[Finding] = []
    kinds: list[str] = []
    for name, text in manifests.items():
        for line, document in _documents(text):
            try:
                node, value = parse_yaml(document)
            except DocumentError as error:
                found.append(finding(NAME, "yaml", error.problem, name, line + (error.line or 1)))
                continue
            if not isinstance(value, dict) or not isinstance(value.get("kind"), str):
                continue
            try:
                kubernetes_validate.validate(value, VERSION, strict=True)
            except kubernetes_validate.ValidationError as error:
                path, at = locate(node, list(error.path))
                where = ".".join(map(str, path))
                message = f"{where + ': ' if where else ''}{error.message}"
                found.append(finding(NAME, value["kind"], message, name, line + (at or 1)))
            except (kubernetes_validate.InvalidSchemaError, kubernetes_validate.SchemaNotFoundError):
                kinds.append(value["kind"])
    custom = f", without {', '.join(sorted(set(kinds))[:5])}, which Kubernetes {VERSION} does not have" if kinds else ""
    check = problems(NAME, found, passed=f"{len(manifests)} files")
    return check.model_copy(update={"summary": f"{check.summary}{custom}"})


def _manifest(path: Path) -> str | None:
    """The text of a file that holds manifests; None if it does not. Too large a file is none."""
    if path.is_symlink() or not path.is_file():
        return None
    try:
        text = read_text(path, CONFIG_BYTES)
    except DocumentError:
        return None
    return text if _MANIFEST.search(text) and "{{" not in text else None


def _documents(text: str) -> Iterator[tuple[int, str]]:
    """The documents of a YAML stream, each with the number of lines before it."""
    start = 0
    for found in [*_SEPARATOR.finditer(text), None]:
        document = text[start : found.start() if found else None]
        if document.strip():
            yield text.count("\n", 0, start), document
        if found:
            start = found.end()
