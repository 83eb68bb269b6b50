"""The artifact store: content-addressed folders of files on anything fsspec reaches, a manifest written last.

`artifacts/<digest>/…files…` and `artifacts/<digest>/.manifest.json`. Without its manifest an artifact does not exist.
The digest is that of the manifest's file list: equal bytes are one artifact. Records belong in the ledger; credentials
in the environment, where fsspec's own clients look for them.
"""

import errno
import hashlib
import json
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

from llmops_assets.domain.keys import digest
from llmops_assets.domain.models import Frozen
from llmops_assets.domain.weights import pickles
from llmops_assets.machine.disk_space import DiskFull, full, is_full, place_of

MANIFEST = ".manifest.json"
_WORKERS = min(8, (os.cpu_count() or 2) * 2)
_PART = 8 * 2**20
"""Bytes of one request. Files of twice that go up, and come down, as several at once."""
_MOST_PARTS = 9_000
"""S3 takes 10,000 parts of a file."""
_BUCKETS = frozenset({"s3", "gs", "abfs"})
_SMALL = 8 * 2**20
"""Bytes that a look may read of a file: reports and rows, not weights."""
_PARTIAL = ".part"
_ABANDONED_S = 24 * 3600.0
"""An upload to a folder that nobody has touched for so long was killed, and nobody took it up again."""


class StoreError(Exception):
    """An artifact is missing, incomplete or altered; the message names it and says what happens next."""


class StoreDenied(Exception):
    """The store does not let us in, or is not there. Nothing is known of any artifact, so nothing may be dropped."""


class File(Frozen):
    path: str
    size: int
    sha256: str


class Artifact(Frozen):
    uri: str
    digest: str
    files: tuple[File, ...]

    @property
    def size(self) -> int:
        return sum(f.size for f in self.files)


def sha256_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class ArtifactStore:
    """Constructing it does no I/O."""

    def __init__(self, url: str, cache: Path):
        self.url, self.cache = url.rstrip("/"), cache
        self._fs: Any = None

    def _open(self) -> tuple[Any, str]:
        import fsspec

        if self._fs is None:
            # No listing from before: other processes write here too. No instance of somebody else's: it would have
            # read its credentials from another environment.
            self._fs = fsspec.core.url_to_fs(self.url, use_listings_cache=False, skip_instance_cache=True)
        return self._fs[0], self._fs[1]

    @contextmanager
    def _access(self) -> Iterator[None]:
        try:
            yield
        except PermissionError as error:
            raise StoreDenied(
                f"the store {self.url} refuses access ({error}). Remedy: check the credentials in the environment "
                "(for S3 AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY) and what they may do"
            ) from error
        except OSError as error:
            if not is_full(error):
                raise
            here = Path(self._open()[1]) if self.is_local else self.cache
            raise DiskFull(full("an artifact of the store", place_of(error, here))) from error

    @property
    def is_local(self) -> bool:
        return "://" not in self.url or self.url.startswith("file://")

    def put(self, folder: Path) -> Artifact:
        """Stores a folder's files and returns the artifact; equal content is stored once.

        Raises:
            StoreError: the folder is empty or holds a pickle.
            DiskFull: there is no room for it; nothing that counts was stored.
        """
        paths = sorted(p for p in folder.rglob("*") if p.is_file())
        if not paths:
            raise StoreError(f"{folder} is empty: there is nothing to store")
        if found := pickles(p.name for p in paths):
            raise StoreError(f"{', '.join(found)}: pickles are never stored; write safetensors or GGUF")
        with ThreadPoolExecutor(_WORKERS) as pool:
            hashes = list(pool.map(sha256_file, paths))
        files = tuple(
            File(path=p.relative_to(folder).as_posix(), size=p.stat().st_size, sha256=h)
            for p, h in zip(paths, hashes, strict=True)
        )
        identity = digest([f.model_dump() for f in files])
        fs, root = self._open()
        target = posixpath.join(root, "artifacts", identity)
        artifact = Artifact(uri=f"{self.url}/artifacts/{identity}", digest=identity, files=files)
        with self._access():
            # On a folder also beside a manifest: each file is looked at, and one that was altered is replaced.
            if self.is_local or not fs.exists(posixpath.join(target, MANIFEST)):
                if self.is_local:
                    Path(target).mkdir(parents=True, exist_ok=True)
                    os.utime(target)  # it is not abandoned
                with ThreadPoolExecutor(_WORKERS) as pool:
                    pairs = zip(paths, files, strict=True)
                    list(pool.map(lambda pair: self._upload(fs, pair[0], pair[1], target), pairs))
                body = json.dumps({"digest": identity, "files": [f.model_dump() for f in files]}, indent=1).encode()
                self._write_manifest(fs, posixpath.join(target, MANIFEST), body)
        if self.is_local:
            _sweep(Path(root) / "artifacts", identity)
        return artifact

    def _upload(self, fs: Any, path: Path, file: File, target: str) -> None:
        there = posixpath.join(target, file.path)
        if self.is_local:
            here = Path(there)
            if here.is_file() and here.stat().st_size == file.size and sha256_file(here) == file.sha256:
                return  # an upload that was cut goes on where it stopped, also where there is no room for a second one
            with _renamed_into_place(here) as part:
                shutil.copyfile(path, part)
            return
        if fs.exists(there) and fs.size(there) == file.size:
            return  # an upload that was cut goes on where it stopped: an object is there as a whole or not at all
        options = {}
        if "s3" in fs.protocol:
            options = {"chunksize": max(_PART, -(-file.size // _MOST_PARTS)), "max_concurrency": 4}
        fs.put_file(str(path), there, **options)

    def _write_manifest(self, fs: Any, manifest: str, body: bytes) -> None:
        """Last, and only if it is not there: of two who store the same, one writes it and both have it."""
        if self.is_local:
            with _renamed_into_place(Path(manifest)) as part:
                part.write_bytes(body)
            return
        try:
            fs.pipe_file(manifest, body, mode="create")
        except OSError as error:  # FileExistsError, or a refusal that does not say which condition failed
            if fs.exists(manifest):
                return  # equal content has an equal manifest
            if error.errno != errno.ENOSYS:
                raise
            fs.pipe_file(manifest, body)  # a server without conditional writes: the same bytes, whoever is last

    def manifest(self, uri: str) -> Artifact:
        """The artifact at a URI.

        Raises:
            StoreError: it has no manifest, so it does not exist, or its manifest was altered.
        """
        fs, root = self._open()
        identity = uri.rstrip("/").rsplit("/", 1)[-1]
        path = posixpath.join(root, "artifacts", identity, MANIFEST)
        try:
            with self._access():
                value = json.loads(fs.cat_file(path))
            files = tuple(File.model_validate(f) for f in value["files"])
        except FileNotFoundError as error:
            self._refuse_without_bucket(fs, root)
            raise StoreError(f"artifact {identity[:12]} is not in the store {self.url}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"artifact {identity[:12]}: its manifest is unreadable") from error
        if digest([f.model_dump() for f in files]) != identity:
            raise StoreError(f"artifact {identity[:12]}: its manifest was altered")
        return Artifact(uri=uri, digest=identity, files=files)

    def _refuse_without_bucket(self, fs: Any, root: str) -> None:
        """To S3 a missing bucket is a missing file. A misspelt one must not make every artifact seem lost."""
        if _BUCKETS.isdisjoint([fs.protocol] if isinstance(fs.protocol, str) else fs.protocol):
            return
        bucket = root.split("/")[0]
        with self._access():
            if not fs.exists(bucket):
                raise StoreDenied(
                    f"the store {self.url} is not there: no bucket {bucket!r} at this endpoint; create it"
                )

    def fetch(self, uri: str, verify: bool = True) -> Path:
        """A local folder with the artifact's files, verified. On a local store that is the artifact itself.

        Raises:
            StoreError: a file is missing, truncated or altered; names it.
        """
        artifact = self.manifest(uri)
        fs, root = self._open()
        there = posixpath.join(root, "artifacts", artifact.digest)
        folder = Path(there) if self.is_local else self.cache / artifact.digest
        if not self.is_local:
            with self._access():
                self._download(fs, there, folder, artifact.files)
        if not verify:
            return folder
        wrong = _damage(folder, artifact.files)
        if wrong and not self.is_local:
            # The copy here may be the damaged one: it is not the store's fault, and must not outlive this.
            bad = tuple(f for f in artifact.files if f.path in wrong)
            for file in bad:
                (folder / file.path).unlink(missing_ok=True)
            with self._access():
                self._download(fs, there, folder, bad)
            wrong = _damage(folder, bad)
            for path in wrong:
                (folder / path).unlink(missing_ok=True)
        if wrong:
            raise StoreError(f"artifact {artifact.digest[:12]} is damaged: {'; '.join(wrong.values())}")
        return folder

    def quick_check(self, uri: str) -> str | None:
        """What is wrong with an artifact, as far as a look tells that reads no large file; None if nothing is.

        Whoever uses an artifact fetches it, and then every byte is verified.
        """
        fs, root = self._open()
        try:
            artifact = self.manifest(uri)
        except StoreError as error:
            return str(error)
        there = posixpath.join(root, "artifacts", artifact.digest)

        def wrong(file: File) -> str | None:
            path = posixpath.join(there, file.path)
            try:
                size = fs.size(path)
            except FileNotFoundError:
                return f"{file.path} is missing"
            if size != file.size:
                return f"{file.path} has {size} bytes, {file.size} were stored"
            small = self.is_local and file.size <= _SMALL
            return altered(Path(path), file.path, file.sha256) if small else None

        with self._access(), ThreadPoolExecutor(_WORKERS) as pool:
            found = [w for w in pool.map(wrong, artifact.files) if w]
        return f"artifact {artifact.digest[:12]} is damaged: {'; '.join(found)}" if found else None

    def sha256(self, uri: str, name: str) -> str:
        """What a file of an artifact must be.

        Raises:
            StoreError: there is no such artifact, or no such file in it.
        """
        for file in self.manifest(uri).files:
            if file.path == name:
                return file.sha256
        raise StoreError(f"artifact {uri.rsplit('/', 1)[-1][:12]} has no file {name}")

    @staticmethod
    def _is_whole(fs: Any, path: str, file: File) -> bool:
        try:
            return bool(fs.size(path) == file.size)
        except FileNotFoundError:
            return False

    def _download(self, fs: Any, there: str, folder: Path, files: tuple[File, ...]) -> None:
        """Brings what is not here yet; what the store does not hold is left for `_damage` to name."""
        wanted: dict[File, Path] = {}
        for file in files:
            local = folder / file.path
            if not (local.is_file() and local.stat().st_size == file.size):
                local.parent.mkdir(parents=True, exist_ok=True)
                wanted[file] = local.with_name(f"{local.name}.{uuid.uuid4().hex}.part")

        def bring(task: tuple[File, int | None]) -> File | None:
            """A file, or the part of it that begins there; the file if there was none."""
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
                if file.size < 2 * _PART or not self._is_whole(fs, posixpath.join(there, file.path), file):
                    tasks.append((file, None))
                    continue
                part.touch()
                os.truncate(part, file.size)
                tasks += [(file, begin) for begin in range(0, file.size, _PART)]
            with ThreadPoolExecutor(_WORKERS) as pool:
                absent = set(pool.map(bring, tasks))
            for file, part in wanted.items():
                if file not in absent:
                    part.replace(folder / file.path)
        finally:
            for part in wanted.values():
                part.unlink(missing_ok=True)

    def discard(self, uri: str) -> None:
        """Drops an artifact, manifest first, so that no reader takes half of it for a whole."""
        fs, root = self._open()
        folder = posixpath.join(root, "artifacts", uri.rstrip("/").rsplit("/", 1)[-1])
        manifest = posixpath.join(folder, MANIFEST)
        with self._access():
            if fs.exists(manifest):
                fs.rm_file(manifest)
            if fs.exists(folder):
                fs.rm(folder, recursive=True)


@contextmanager
def _renamed_into_place(path: Path) -> Iterator[Path]:
    """Where to write a file that nobody sees before it is whole. Of two who write the same, the last one stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex}{_PARTIAL}")
    try:
        yield part
        part.replace(path)
    except FileNotFoundError:
        if not path.is_file():
            raise
        # Somebody who stored the same was first, and swept up.
    finally:
        part.unlink(missing_ok=True)


def _sweep(artifacts: Path, identity: str) -> None:
    """Drops what uploads that were killed left: in this artifact, which is whole, and all that was never ended."""
    for part in (artifacts / identity).rglob(f"*{_PARTIAL}"):
        part.unlink(missing_ok=True)
    for folder in artifacts.iterdir():
        if (folder / MANIFEST).exists():
            continue
        with suppress(FileNotFoundError):  # somebody is at work there
            if time.time() - max(p.stat().st_mtime for p in (folder, *folder.rglob("*"))) > _ABANDONED_S:
                shutil.rmtree(folder, ignore_errors=True)


def altered(path: Path, name: str, expected: str) -> str | None:
    found = sha256_file(path)
    return None if found == expected else f"{name} was altered (sha256 {expected} was stored, {found} is there)"


def _damage(folder: Path, files: tuple[File, ...]) -> dict[str, str]:
    """Path → what is wrong with it, for every file that is not as it was stored."""

    def damage(file: File) -> str | None:
        path = folder / file.path
        if not path.is_file():
            return f"{file.path} is missing"
        if path.stat().st_size != file.size:
            return f"{file.path} has {path.stat().st_size} bytes, {file.size} were stored"
        return altered(path, file.path, file.sha256)

    with ThreadPoolExecutor(_WORKERS) as pool:
        return {f.path: w for f, w in zip(files, pool.map(damage, files), strict=True) if w}
