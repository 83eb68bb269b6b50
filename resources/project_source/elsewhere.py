"""Files of a commit whose content is not in the repository: Git LFS pointers, and what lies in a submodule.

Git itself is satisfied with them, so a stage would read the pointer's three lines, or nothing.
"""

from itertools import islice
from typing import Any

from resources.project_source.git_objects import walk

POINTER = b"version https://git-lfs.github.com/spec/"
"""How a Git LFS pointer begins, by its specification; it has less than 1024 bytes."""
MOST_READ = 1024
_MOST_FILES = 2_000
"""Files of a folder that are looked at: a base model has about ten."""


def kept_elsewhere(root: Any, path: str) -> str | None:
    """Why the content at a path of a Git tree is not in the repository, with the remedy; None if it is, or absent."""
    at, parts = root, [part for part in path.split("/") if part not in ("", ".")]
    for depth, part in enumerate(parts, 1):
        if at.type_str != "tree" or part not in at:
            return None
        at = at[part]
        if at.type_str == "commit":
            return _of_submodule("/".join(parts[:depth]), path)
    if at.type_str == "blob":
        return _of_pointer(path) if _is_pointer(at) else None
    for below, entry in islice(walk(at), _MOST_FILES):
        name = "/".join([*parts, below])
        if entry.type_str == "commit":
            return _of_submodule(name, path)
        if _is_pointer(entry):
            return _of_pointer(name)
    return None


def _is_pointer(entry: Any) -> bool:
    return entry.type_str == "blob" and entry.size < MOST_READ and bytes(entry.data).startswith(POINTER)


def _of_pointer(path: str) -> str:
    return (
        f"{path} is a Git LFS pointer, and its content is not fetched; keep the file in DVC: `git lfs untrack {path}`, "
        f"`git rm --cached {path}`, `dvc add {path}`, `dvc push`"
    )


def _of_submodule(submodule: str, path: str) -> str:
    what = path if submodule == path else f"{path} needs {submodule}, which"
    return (
        f"{what} is a Git submodule, and submodules are not fetched; keep the files in this repository, or import "
        "them: `dvc import URL PATH`"
    )
