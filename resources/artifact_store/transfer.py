"""Uploads and downloads an artifact's files, so that no reader sees a file before it is complete.

The format of artifacts belongs in `artifact`, checking their files in `verification`.
"""

import errno
import os
import posixpath
import shutil
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from llmops_assets.machine.files import PARTIAL, replacing
from resources.artifact_store.artifact import MANIFEST, File, sha256_file

WORKERS = min(8, (os.cpu_count() or 2) * 2)
_PART = 8 * 2**20
"""Bytes of one request. Files of twice that are transferred in concurrent parts."""
_MOST_PARTS = 9_000
"""S3 takes 10,000 parts of a file."""
_ABANDONED_S = 24 * 3600.0
"""An upload whose folder has not changed for so long was killed and not resumed."""


def upload_local(path: Path, file: File, target: Path) -> None:
    """Copies a file into an artifact's folder on this machine, unless an intact copy is there."""
    here = target / file.path
    if here.is_file() and here.stat().st_size == file.size and sha256_file(here) == file.sha256:
        return  # an interrupted upload continues where it stopped, also if there is no space for a second copy
    with _into_place(here) as part:
        shutil.copyfile(path, part)


def upload(fs: Any, path: Path, file: File, target: str) -> None:
    """Puts a file into an artifact's folder on a remote store, unless an object of its size is there."""
    there = posixpath.join(target, file.path)
    if fs.exists(there) and fs.size(there) == file.size:
        return  # an interrupted upload continues where it stopped: an object exists completely or not at all
    options = {}
    if "s3" in fs.protocol:
        options = {"chunksize": max(_PART, -(-file.size // _MOST_PARTS)), "max_concurrency": 4}
    fs.put_file(str(path), there, **options)


def write_manifest_local(target: Path, body: bytes) -> None:
    with _into_place(target / MANIFEST) as part:
        part.write_bytes(body)


def write_manifest(fs: Any, target: str, body: bytes) -> None:
    """Written last, and only if there is none: of two concurrent uploads of the same artifact, one writes it."""
    manifest = posixpath.join(target, MANIFEST)
    try:
        fs.pipe_file(manifest, body, mode="create")
    except OSError as error:  # FileExistsError, or a refusal that does not say which condition failed
        if fs.exists(manifest):
            return  # equal content has an equal manifest
        if error.errno != errno.ENOSYS:
            raise
        fs.pipe_file(manifest, body)  # a server without conditional writes: concurrent writers write the same bytes


def download(fs: Any, there: str, folder: Path, files: tuple[File, ...]) -> None:
    """Downloads files that are not in `folder` yet; `verification` reports those that the store does not have."""
    wanted: dict[File, Path] = {}
    for file in files:
        local = folder / file.path
        if not (local.is_file() and local.stat().st_size == file.size):
            local.parent.mkdir(parents=True, exist_ok=True)
            wanted[file] = local.with_name(f"{local.name}.{uuid.uuid4().hex}{PARTIAL}")

    def bring(task: tuple[File, int | None]) -> File | None:
        """Downloads a file, or the part at an offset; returns the file if the store does not have it."""
        file, begin = task
        try:
            if begin is None:
                fs.get_file(posixpath.join(there, file.path), str(wanted[file]))
            else:
                end = min(begin + _PART, file.size)
                with wanted[file].open("r+b") as out:
                    out.seek(begin)
                    out.write(fs.cat_file(posixpath.join(there, file.path), start=begin, end=end))
        except FileNotFoundError:
            return file
        return None

    tasks: list[tuple[File, int | None]] = []
    try:
        for file, part in wanted.items():
            if file.size < 2 * _PART or not _is_whole(fs, posixpath.join(there, file.path), file):
                tasks.append((file, None))
                continue
            part.touch()
            os.truncate(part, file.size)
            tasks += [(file, begin) for begin in range(0, file.size, _PART)]
        with ThreadPoolExecutor(WORKERS) as pool:
            absent = set(pool.map(bring, tasks))
        for file, part in wanted.items():
            if file not in absent:
                part.replace(folder / file.path)
    finally:
        for part in wanted.values():
            part.unlink(missing_ok=True)


def _is_whole(fs: Any, path: str, file: File) -> bool:
    try:
        return bool(fs.size(path) == file.size)
    except FileNotFoundError:
        return False


@contextmanager
def _into_place(path: Path) -> Iterator[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with replacing(path) as part:
            yield part
    except FileNotFoundError:
        if not path.is_file():
            raise
        # A concurrent upload of the same artifact finished first, and swept.


def sweep(artifacts: Path, identity: str) -> None:
    """Deletes remains of killed uploads: partial files of this complete artifact, and abandoned artifacts."""
    for part in (artifacts / identity).rglob(f"*{PARTIAL}"):
        part.unlink(missing_ok=True)
    for folder in artifacts.iterdir():
        if (folder / MANIFEST).exists():
            continue
        with suppress(FileNotFoundError):  # another process is changing the folder
            if time.time() - max(p.stat().st_mtime for p in (folder, *folder.rglob("*"))) > _ABANDONED_S:
                shutil.rmtree(folder, ignore_errors=True)
