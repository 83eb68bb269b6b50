"""The check of licences: the base model's, and those of the packages that the project's lock installs."""

from collections.abc import Iterator
from email.parser import BytesHeaderParser
from pathlib import Path

from llmops_assets.config.ci import Licences
from llmops_assets.config.documents import DocumentError, parse_yaml, read_file, read_text
from llmops_assets.config.project import CONFIG_FILE, BaseModelPath, ProjectConfig
from llmops_assets.domain.findings import Finding, finding
from llmops_assets.domain.licences import LicencesFound, stated_licence, why_not
from llmops_assets.domain.records import Check
from llmops_assets.programs.ci_checks.check_run import problems, unchecked
from resources.project_environments.environments import Environment
from resources.project_environments.requirements import requirements_of
from resources.project_environments.uv import NotBuilt
from resources.project_source.dvc_files import is_tracked

NAME = "licences"
METADATA_BYTES = 4 * 2**20


def check_licences(config: ProjectConfig | None, tree: Path, built: Environment | None) -> Check:
    """Checks the licences against `ci.licences`.

    Args:
        config: None: llmops.yaml is invalid.
        built: the environment of the project's lock, if it was built.
    """
    rules = config.ci.licences if config is not None else None
    if config is None or rules is None:
        return unchecked(NAME, "ci.licences is not set" if config else f"{CONFIG_FILE} is not valid")
    found = [*_of_base(config, rules, tree), *_of_packages(config, rules, tree, built)]
    packages = f" and {built.packages} packages" if built is not None else ""
    return problems(NAME, found, passed=f"the base model{packages}: all allowed")


def licences_found(config: ProjectConfig, tree: Path, built: Environment | None) -> LicencesFound:
    """All licences, whatever `ci.licences` says: they are judged by the settings' floor whenever something acts."""
    unknown = _why_unknown(config, tree) if built is None else None
    packages = {name: stated or "" for name, stated in licences_in(built.folder).items()} if built is not None else {}
    stated, _ = _base_licence(config, tree)
    return LicencesFound(
        base_model=stated or "",
        packages=packages,
        unknown=f"{unknown[0]}: {unknown[1]}" if unknown else "",
    )


def _base_licence(config: ProjectConfig, tree: Path) -> tuple[str | None, str]:
    """The base model's licence, and the file that states it: llmops.yaml, else the model card that Git has."""
    base = config.model.base
    if config.model.license is None and isinstance(base, BaseModelPath) and not is_tracked(tree, base.path):
        card = f"{base.path}/README.md"
        if told := _of_card(tree / card):
            return told, card
    return config.model.license, CONFIG_FILE


def _of_base(config: ProjectConfig, rules: Licences, tree: Path) -> Iterator[Finding]:
    (stated, where), base = _base_licence(config, tree), config.model.base
    if where == CONFIG_FILE and stated and isinstance(base, BaseModelPath) and not is_tracked(tree, base.path):
        told = _of_card(tree / base.path / "README.md")
        if told and told.casefold() != stated.casefold():
            message = f"the base model's README.md says {told!r}, and model.license in {CONFIG_FILE} {stated!r}"
            yield finding(NAME, "base-model", message, f"{base.path}/README.md", 1)
    if why := why_not(stated, rules.allow):
        remedy = "" if stated else "; state it as model.license"
        yield finding(NAME, "base-model", f"the base model: {why}{remedy}", where)


def _of_card(card: Path) -> str | None:
    """The licence in a model card's front matter."""
    try:
        text = read_text(card, METADATA_BYTES)
        front = text.split("---", 2)[1] if text.startswith("---") else ""
        _, value = parse_yaml(front)
    except (DocumentError, IndexError):
        return None
    licence = value.get("license") if isinstance(value, dict) else None
    return licence if isinstance(licence, str) else None


def _of_packages(config: ProjectConfig, rules: Licences, tree: Path, built: Environment | None) -> Iterator[Finding]:
    if built is None:
        if unknown := _why_unknown(config, tree):
            yield finding(NAME, "packages", unknown[1], unknown[0])
        return
    for name, stated in sorted(licences_in(built.folder).items()):
        if why := why_not(rules.packages.get(name, stated), rules.allow):
            remedy = "; name it in ci.licences.packages" if "unknown" in why else ""
            yield finding(NAME, name, f"{name}: {why}{remedy}", built.lock)


def _why_unknown(config: ProjectConfig, tree: Path) -> tuple[str, str] | None:
    """The lock, and why the licences of its packages are unknown without an environment; None if there is no lock."""
    try:
        lock = requirements_of(tree, config.ci.ignore)
    except NotBuilt as error:
        lock = (error.file, "", 0)
    return (
        (lock[0], "the licences of its packages are unknown, because no environment was built from it")
        if lock
        else None
    )


def licences_in(environment: Path) -> dict[str, str | None]:
    """Package → the licence that its metadata state; None if they do not. Nothing is imported."""
    found: dict[str, str | None] = {}
    for file in environment.glob("lib/python*/site-packages/*.dist-info/METADATA"):
        try:
            message = BytesHeaderParser().parsebytes(read_file(file, METADATA_BYTES))
        except DocumentError:
            found[file.parent.name.split("-")[0].lower().replace("_", "-")] = None
            continue
        headers: dict[str, list[str]] = {}
        for header, value in message.items():
            headers.setdefault(header.lower(), []).append(str(value))
        name = headers.get("name", [file.parent.name.split("-")[0]])[0]
        found[name.lower().replace("_", "-").replace(".", "-")] = stated_licence(headers)
    return found
