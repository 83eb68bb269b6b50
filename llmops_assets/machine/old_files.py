"""Files that nobody has used for a while: their size, their last change, and how to delete them."""

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from llmops_assets.machine.locks import alone_now


def _stats(path: Path) -> Iterator[os.stat_result]:
    """Of a file, or of a folder and all that lies in it; what vanishes meanwhile is left out."""
    with suppress(OSError):
        yield path.lstat()
    if path.is_dir() and not path.is_symlink():
        for parent, folders, files in os.walk(path):
            for name in (*folders, *files):
                with suppress(OSError):
                    yield Path(parent, name).lstat()


def freed_by(path: Path) -> int:
    """Bytes that deleting a file or folder frees: files with another hard link cost nothing here."""
    return sum(s.st_blocks * 512 for s in _stats(path) if s.st_nlink == 1)


def last_change(path: Path) -> float:
    """When a file, or anything in a folder, was last written; 0 if it does not exist."""
    return max((s.st_mtime for s in _stats(path)), default=0.0)


def delete(path: Path) -> None:
    """Deletes a file or folder; what cannot be deleted stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def unlinked(cache: Path, before: float) -> list[Path]:
    """Files of a cache that are older than this and have no other hard link, so that nothing outside uses them."""
    found = []
    for path in cache.rglob("*"):
        with suppress(OSError):
            seen = path.lstat()
            if path.is_file() and not path.is_symlink() and seen.st_nlink == 1 and seen.st_mtime < before:
                found.append(path)
    return sorted(found)


def take_away(folder: Path, before: float, lock: Path) -> bool:
    """Deletes a folder whose users touch it under this shared lock; returns whether it did.

    It is renamed under the exclusive lock, and deleted afterwards: users never wait long.
    """
    gone = folder.with_name(f".{folder.name}.collected")
    with alone_now(lock) as held:
        if not held or not folder.exists() or folder.stat().st_mtime >= before:
            return False
        folder.rename(gone)
    delete(gone)
    return True
