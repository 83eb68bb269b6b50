"""Symbolic links of a project. What is read is what is hashed, and nothing outside the project is read."""

import os
from pathlib import Path
from typing import Any

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


def remedy(path: str, where: str) -> str:
    """The error for a link that leaves the project."""
    return f"{path}: a symbolic link to {where}; replace it with the file itself, in Git or tracked by DVC"
