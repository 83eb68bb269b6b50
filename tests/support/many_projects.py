"""Many watched projects, made of one: equal but for their names, each in a repository of its own."""

import os
import subprocess
from pathlib import Path

from llmops_assets.config.watched_project import ProjectSource
from resources.ledger import Ledger
from tests.support.projects import Project


def name_of(number: int) -> str:
    return f"zoo-{number:03}"


def make_repositories(template: Project, folder: Path, count: int) -> list[Path]:
    """Bare repositories with one commit: the template's, under another name. They share its objects."""
    import pygit2

    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for number in range(count):
        path = folder / f"{name_of(number)}.git"
        clone = ["git", "clone", "--quiet", "--bare", "--shared", "--", str(template.folder), str(path)]
        subprocess.run(clone, check=True, env={**os.environ, "GIT_CONFIG_GLOBAL": os.devnull})
        repo = pygit2.Repository(str(path))
        config = repo.revparse_single("main:llmops.yaml")
        named = config.data.replace(f"name: {template.name}\n".encode(), f"name: {name_of(number)}\n".encode())
        change(path, {"llmops.yaml": named.decode()})
        made.append(path)
    return made


def change(repository: Path, files: dict[str, str], message: str = "Another commit") -> str:
    """Commits files at the root of a bare repository's branch `main`; returns the commit."""
    import pygit2

    repo = pygit2.Repository(str(repository))
    head = repo.revparse_single("main")
    tree = repo.TreeBuilder(head.tree)
    for name, text in files.items():
        tree.insert(name, repo.create_blob(text.encode()), pygit2.enums.FileMode.BLOB)
    ada = pygit2.Signature("Ada", "ada@example.com")
    return str(repo.create_commit("refs/heads/main", ada, ada, message, tree.write(), [head.id]))


def sources_of(addresses: list[str]) -> tuple[ProjectSource, ...]:
    return tuple(ProjectSource(name=name_of(n), repository=address) for n, address in enumerate(addresses))


def note_heads(ledger: Ledger, repositories: list[Path]) -> None:
    """Records each head as delivered, as it is where nothing has changed since the last tick."""
    import pygit2

    for number, path in enumerate(repositories):
        head = str(pygit2.Repository(str(path)).revparse_single("main").id)
        ledger.open_request(name_of(number), head, 1, "first run of this project", status="done")
