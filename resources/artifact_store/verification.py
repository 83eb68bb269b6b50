"""Checks whether an artifact's files are unchanged: every byte of a local copy, or quickly without large files."""

import posixpath
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from resources.artifact_store.artifact import File, sha256_file
from resources.artifact_store.transfer import WORKERS

_SMALL = 8 * 2**20
"""Maximum size in bytes of files that the quick check reads: reports and rows, not weights."""


def damage(folder: Path, files: tuple[File, ...]) -> dict[str, str]:
    """Path → what is wrong with it, for every file that has changed since it was stored. Reads every byte."""

    def wrong(file: File) -> str | None:
        path = folder / file.path
        if not path.is_file():
            return f"{file.path} is missing"
        if path.stat().st_size != file.size:
            return f"{file.path} has {path.stat().st_size} bytes, {file.size} were stored"
        return _altered(path, file)

    with ThreadPoolExecutor(WORKERS) as pool:
        return {f.path: w for f, w in zip(files, pool.map(wrong, files), strict=True) if w}


def quick_damage(fs: Any, folder: str, files: tuple[File, ...], is_local: bool) -> list[str]:
    """What is wrong with a stored artifact's files, without reading a large one."""

    def wrong(file: File) -> str | None:
        path = posixpath.join(folder, file.path)
        try:
            size = fs.size(path)
        except FileNotFoundError:
            return f"{file.path} is missing"
        if size != file.size:
            return f"{file.path} has {size} bytes, {file.size} were stored"
        return _altered(Path(path), file) if is_local and file.size <= _SMALL else None

    with ThreadPoolExecutor(WORKERS) as pool:
        return [w for w in pool.map(wrong, files) if w]


def _altered(path: Path, file: File) -> str | None:
    found = sha256_file(path)
    if found == file.sha256:
        return None
    return f"{file.path} was altered (sha256 {file.sha256} was stored, {found} is there)"
