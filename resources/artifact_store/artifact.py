"""An artifact: a list of files with their digests, and its manifest. No I/O on a store here."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from llmops_assets.domain.keys import digest
from llmops_assets.domain.models import Frozen

MANIFEST = ".manifest.json"


class StoreError(Exception):
    """An artifact is missing, incomplete or altered; the message names it."""


class StoreDenied(Exception):
    """The store refuses access or does not exist. The state of artifacts is unknown, so none may be deleted."""


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


def identity_of(files: Iterable[File]) -> str:
    """The digest of an artifact with these files: equal bytes under equal paths are one artifact."""
    return digest([f.model_dump() for f in files])


def identity_in(uri: str) -> str:
    """The digest that an artifact's URI names."""
    return uri.rstrip("/").rsplit("/", 1)[-1]


def manifest_of(artifact: Artifact) -> bytes:
    body = {"digest": artifact.digest, "files": [f.model_dump() for f in artifact.files]}
    return json.dumps(body, indent=1).encode()


def read_manifest(body: bytes, uri: str) -> Artifact:
    """The artifact that a manifest describes.

    Raises:
        StoreError: the manifest was altered, or is not one.
    """
    identity = identity_in(uri)
    try:
        files = tuple(File.model_validate(f) for f in json.loads(body)["files"])
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"artifact {identity[:12]}: its manifest is unreadable") from error
    if identity_of(files) != identity:
        raise StoreError(f"artifact {identity[:12]}: its manifest was altered")
    return Artifact(uri=uri, digest=identity, files=files)
