"""The artifact store: content-addressed folders of files on anything fsspec reaches, a manifest written last.

`artifacts/<digest>/…files…` and `artifacts/<digest>/.manifest.json`. Without its manifest an artifact does not exist.
The digest is that of the manifest's file list: equal bytes are one artifact. A marker in the store's root distinguishes
a store from an empty folder where one should be mounted, see `marker`. This module puts, finds, fetches and
deletes artifacts; their format belongs in `artifact`, moving bytes in `transfer`, checking them in `verification`.
Records belong in the ledger; credentials in the environment, where fsspec's clients read them.
"""

import os
import posixpath
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from itertools import islice
from pathlib import Path
from typing import Any

from llmops_assets.domain.weights import pickles
from llmops_assets.machine.locks import sharing
from resources.artifact_store.artifact import (
    MANIFEST,
    Artifact,
    File,
    StoreDenied,
    StoreError,
    identity_in,
    identity_of,
    manifest_of,
    read_manifest,
    sha256_file,
)
from resources.artifact_store.errors import store_errors
from resources.artifact_store.leases import Leases, Stored
from resources.artifact_store.marker import LOOKED_FOR, is_marked, mark, refuse_without
from resources.artifact_store.owners import Owner, forget_others, note_owner, owners
from resources.artifact_store.transfer import (
    WORKERS,
    download,
    sweep,
    upload,
    upload_local,
    write_manifest,
    write_manifest_local,
)
from resources.artifact_store.verification import damage, quick_damage

_BUCKETS = frozenset({"s3", "gs", "abfs"})


def cache_lock(cache: Path) -> Path:
    """Shared while a use of a local copy is noted, exclusive while garbage collection takes one away."""
    return cache.with_name(f"{cache.name}.lock")


class ArtifactStore:
    """Constructing it does no I/O.

    Args:
        url: a folder, or an fsspec URL.
        cache: folder for copies of what a remote store holds.
        expected: the digests of artifacts that the ledger expects in it, newest first.
        ledger: the identity of the ledger that records its artifacts; None: there is none.
    """

    def __init__(
        self,
        url: str,
        cache: Path,
        expected: Callable[[], Iterable[str]] = tuple,
        ledger: Callable[[], str] | None = None,
    ):
        self.url, self.cache, self.expected, self.ledger = url.rstrip("/"), cache, expected, ledger
        self._fs: Any = None
        self._cached_leases: Leases | None = None

    def _leases(self) -> Leases:
        if self._cached_leases is None:
            self._cached_leases = Leases(*self._open(), self.is_local)
        return self._cached_leases

    def _open(self) -> tuple[Any, str]:
        import fsspec

        if self._fs is None:
            # No cached listing: other processes write here too. No cached instance: it may have read its credentials
            # from another environment.
            self._fs = fsspec.core.url_to_fs(self.url, use_listings_cache=False, skip_instance_cache=True)
        return self._fs[0], self._fs[1]

    def _access(self) -> AbstractContextManager[None]:
        here = Path(self._open()[1]) if self.is_local else self.cache
        return store_errors(self.url, self.is_local, here)

    @property
    def is_local(self) -> bool:
        return "://" not in self.url or self.url.startswith("file://")

    @property
    def folder(self) -> Path:
        """The folder of a local store."""
        return Path(self._open()[1])

    def require(self) -> bool:
        """Verifies that the store is there: a mount that is missing must not look like a store without artifacts.

        Returns:
            Whether it exists: a new one does once its first artifact is stored.

        Raises:
            StoreDenied: it is not there, does not answer, or refuses access.
        """
        fs, root = self._open()
        with self._access():
            if is_marked(fs, root):
                return True
        expected = list(islice(self.expected(), LOOKED_FOR))
        if expected:
            with self._access():
                refuse_without(expected, fs, root, self.url)
                mark(fs, root)
        return bool(expected)

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
        with ThreadPoolExecutor(WORKERS) as pool:
            hashes = list(pool.map(sha256_file, paths))
        files = tuple(
            File(path=p.relative_to(folder).as_posix(), size=p.stat().st_size, sha256=h)
            for p, h in zip(paths, hashes, strict=True)
        )
        identity = identity_of(files)
        artifact = Artifact(uri=f"{self.url}/artifacts/{identity}", digest=identity, files=files)
        exists = self.require()
        self.note_ledger()
        with self._access():
            self._store(artifact, paths)
            if not exists:
                mark(*self._open())
        if self.is_local:
            sweep(Path(self._open()[1]) / "artifacts", identity)
        return artifact

    def _store(self, artifact: Artifact, paths: list[Path]) -> None:
        fs, root = self._open()
        target = posixpath.join(root, "artifacts", artifact.digest)
        pairs = list(zip(paths, artifact.files, strict=True))
        if self.is_local:
            # Even if there is a manifest: each file is checked, and an altered one is replaced.
            folder = Path(target)
            folder.mkdir(parents=True, exist_ok=True)
            self._leases().note(artifact.digest)  # it is neither abandoned nor unused
            folder.mkdir(parents=True, exist_ok=True)  # it may just have been collected
            with ThreadPoolExecutor(WORKERS) as pool:
                list(pool.map(lambda pair: upload_local(pair[0], pair[1], folder), pairs))
            write_manifest_local(folder, manifest_of(artifact))
            return
        self._leases().note(artifact.digest, again=True)
        if not fs.exists(posixpath.join(target, MANIFEST)):
            with ThreadPoolExecutor(WORKERS) as pool:
                list(pool.map(lambda pair: upload(fs, pair[0], pair[1], target), pairs))
            write_manifest(fs, target, manifest_of(artifact))

    def manifest(self, uri: str) -> Artifact:
        """The artifact at a URI.

        Raises:
            StoreError: it has no manifest, so it does not exist, or its manifest was altered.
            StoreDenied: the store is not there, or refuses access.
        """
        fs, root = self._open()
        identity = identity_in(uri)
        try:
            with self._access():
                body = fs.cat_file(posixpath.join(root, "artifacts", identity, MANIFEST))
                if self._leases().note(identity):  # it may have been collected just before
                    body = fs.cat_file(posixpath.join(root, "artifacts", identity, MANIFEST))
        except FileNotFoundError as error:
            self._refuse_without_bucket(fs, root)
            self.require()
            raise StoreError(f"artifact {identity[:12]} is not in the store {self.url}") from error
        return read_manifest(body, uri)

    def _refuse_without_bucket(self, fs: Any, root: str) -> None:
        """S3 reports a missing bucket as a missing file. A misspelt bucket must not make every artifact seem lost."""
        if _BUCKETS.isdisjoint([fs.protocol] if isinstance(fs.protocol, str) else fs.protocol):
            return
        bucket = root.split("/")[0]
        with self._access():
            if not fs.exists(bucket):
                raise StoreDenied(
                    f"the store {self.url} does not exist: no bucket {bucket!r} at this endpoint; create it"
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
            with sharing(cache_lock(self.cache)):
                folder.mkdir(parents=True, exist_ok=True)
                os.utime(folder)  # it is in use
            with self._access():
                download(fs, there, folder, artifact.files)
        if not verify:
            return folder
        wrong = damage(folder, artifact.files)
        if wrong and not self.is_local:
            # The local copy may be damaged, not the store: delete it and download again.
            bad = tuple(f for f in artifact.files if f.path in wrong)
            for file in bad:
                (folder / file.path).unlink(missing_ok=True)
            with self._access():
                download(fs, there, folder, bad)
            wrong = damage(folder, bad)
            for path in wrong:
                (folder / path).unlink(missing_ok=True)
        if wrong:
            raise StoreError(f"artifact {artifact.digest[:12]} is damaged: {'; '.join(wrong.values())}")
        return folder

    def quick_check(self, uri: str) -> str | None:
        """What is wrong with an artifact, checked without reading large files; None if nothing is.

        Every use fetches the artifact, and `fetch` verifies every byte.
        """
        fs, root = self._open()
        try:
            artifact = self.manifest(uri)
        except StoreError as error:
            return str(error)
        there = posixpath.join(root, "artifacts", artifact.digest)
        with self._access():
            found = quick_damage(fs, there, artifact.files, self.is_local)
        return f"artifact {artifact.digest[:12]} is damaged: {'; '.join(found)}" if found else None

    def sha256(self, uri: str, name: str) -> str:
        """The recorded digest of an artifact's file.

        Raises:
            StoreError: there is no such artifact, or no such file in it.
        """
        for file in self.manifest(uri).files:
            if file.path == name:
                return file.sha256
        raise StoreError(f"artifact {identity_in(uri)[:12]} has no file {name}")

    def discard(self, uri: str) -> None:
        """Deletes an artifact, manifest first, so that no reader takes a part of it for the whole."""
        self.require()
        fs, root = self._open()
        folder = posixpath.join(root, "artifacts", identity_in(uri))
        manifest = posixpath.join(folder, MANIFEST)
        with self._access():
            if fs.exists(manifest):
                fs.rm_file(manifest)
            if fs.exists(folder):
                fs.rm(folder, recursive=True)

    # -- garbage collection -----------------------------------------------------------------------------------------

    def note_ledger(self, alone: bool = False) -> None:
        """Notes in the store that our ledger uses it; `alone`: a person says that no other one does any more."""
        if self.ledger is None:
            return
        ours = self.ledger()
        with self._access():
            note_owner(*self._open(), ours, self.cache.parent)
            if alone:
                forget_others(*self._open(), ours)

    def other_ledgers(self) -> list[Owner]:
        """The other ledgers that store artifacts here."""
        ours = self.ledger() if self.ledger is not None else None
        with self._access():
            return [owner for owner in owners(*self._open()) if owner.ledger != ours]

    def stored(self) -> list[Stored]:
        """Everything in the store, by digest."""
        with self._access():
            return self._leases().stored()

    def last_use(self, stored: Stored) -> float:
        with self._access():
            return self._leases().last_use(stored)

    def collect(self, identity: str, unused_since: float) -> int | None:
        """Deletes an artifact unless it was used since; returns the bytes freed, None if it stays.

        A reader or writer that comes at the same moment gets the whole artifact, or none.
        """
        with self._access():
            return self._leases().collect(identity, unused_since)
