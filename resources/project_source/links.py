"""Symbolic links of a project. What is read is what is hashed, and nothing outside the project is read."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmops_assets.config.ignore_patterns import ignoring
from resources.project_source.errors import SourceError
from resources.project_source.git import git

LINK = 0o120000
"""Git's file mode of a symbolic link."""
_MOST = 40
"""Links in one path, as in Linux; more are a loop."""


class LeavesProject(Exception):
    """A symbolic link points out of the project, or to itself; the message says where."""


def follow(root: Any, path: str) -> Any | None:
    """The object of a Git tree at a path, through symbolic links; None if there is none.

    Raises:
        LeavesProject: a link on the way points out of the tree, or in a circle.
    """
    at, left, links = [root], path.split("/"), 0
    while left:
        part = left.pop(0)
        if part in ("", "."):
            continue
        if part == "..":
            if len(at) == 1:
                raise LeavesProject("outside the project")
            at.pop()
            continue
        if at[-1].type_str != "tree":
            return None
        try:
            entry = at[-1][part]
        except (KeyError, ValueError):  # ValueError: no name that Git could hold
            return None
        if entry.filemode != LINK:
            at.append(entry)
            continue
        target = os.fsdecode(entry.data)
        links += 1
        if links > _MOST:
            raise LeavesProject("a circle of links")
        if target.startswith("/"):
            raise LeavesProject("outside the project")
        left = [*target.split("/"), *left]
    return at[-1]


def links_out_of(tree: Path, path: str) -> list[str]:
    """The symbolic links at or below a path of a folder on disk that lead out of the folder."""
    root = tree.resolve()
    found = []
    above = [tree.joinpath(*Path(path).parts[:depth]) for depth in range(1, len(Path(path).parts) + 1)]
    below = [Path(folder) / name for folder, folders, files in os.walk(tree / path) for name in (*folders, *files)]
    for file in (*above, *below):
        if file.is_symlink() and not file.resolve().is_relative_to(root):
            found.append(file.relative_to(tree).as_posix())
    return found


def links_to_commit(folder: Path) -> dict[str, str]:
    """The symbolic links of a working copy that Git holds or would add, and where they point. Ignored ones are none.

    Without a repository, all of the folder that its own .gitignore does not name.
    """
    try:
        listed = git("ls-files", "-z", "--cached", "--others", "--exclude-standard", where=folder).split("\0")
    except (SourceError, UnicodeDecodeError):  # no repository, or a name that is no text
        file = folder / ".gitignore"
        try:
            ignored = ignoring(file.read_text(errors="replace").splitlines() if file.is_file() else ())
        except ValueError:  # Git skips a pattern that is none
            ignored = ignoring(())
        inside = [
            (Path(at) / name).relative_to(folder).as_posix()
            for at, folders, files in os.walk(folder)
            for name in (*folders, *files)
        ]
        listed = [p for p in inside if ".git" not in p.split("/") and not ignored.match_file(p)]
    return {path: str((folder / path).readlink()) for path in listed if path and (folder / path).is_symlink()}


def leaving(links: Mapping[str, str]) -> dict[str, str]:
    """The links that lead out of the folder, or in a circle → where to, as `GitMirror.links_out` says of a commit.

    Args:
        links: all links of the folder → their targets.
    """
    return {path: f"{links[path]}, {why}" for path in sorted(links) if (why := _leaves(links, path))}


def _leaves(links: Mapping[str, str], path: str) -> str | None:
    at: list[str] = []
    left, followed = path.split("/"), 0
    while left:
        part = left.pop(0)
        if part in ("", "."):
            continue
        if part == "..":
            if not at:
                return "outside the project"
            at.pop()
            continue
        at.append(part)
        target = links.get("/".join(at))
        if target is None:
            continue
        at.pop()
        followed += 1
        if followed > _MOST:
            return "a circle of links"
        if target.startswith("/"):
            return "outside the project"
        left = [*target.split("/"), *left]
    return None


def remedy(path: str, where: str) -> str:
    """The error for a link that leaves the project."""
    return f"{path}: a symbolic link to {where}; replace it with the file itself, in Git or tracked by DVC"
