"""The marker in a store's root, which shows that the store is there.

The empty folder under an unmounted disk, or a misspelt prefix in a bucket, looks like a store that lost everything:
every record was dropped, and everything was trained again onto the root disk. So a store without its marker is not
used, unless it is new, or holds artifacts from a version that wrote no marker.
"""

import json
import posixpath
from collections.abc import Collection
from typing import Any

from resources.artifact_store.artifact import MANIFEST, StoreDenied

MARKER = ".llmops-store"
ABOUT = "This folder is an artifact store of llmops. Without this file it counts as not mounted."
LOOKED_FOR = 200
"""Artifacts to look for in a store without a marker: versions that wrote none never deleted any."""


def is_marked(fs: Any, root: str) -> bool:
    return bool(fs.exists(posixpath.join(root, MARKER)))


def mark(fs: Any, root: str) -> None:
    fs.makedirs(root, exist_ok=True)
    fs.pipe_file(posixpath.join(root, MARKER), json.dumps({"about": ABOUT}).encode())


def refuse_without(expected: Collection[str], fs: Any, root: str, shown: str) -> None:
    """Refuses a store without a marker that holds nothing of what the ledger expects.

    Args:
        expected: digests of artifacts that the ledger expects in the store.
        fs: fsspec's file system.
        root: the store's root in it.
        shown: the store's address, for the message.

    Raises:
        StoreDenied: it holds none of them.
    """
    if any(fs.exists(posixpath.join(root, "artifacts", digest, MANIFEST)) for digest in expected):
        return
    raise StoreDenied(
        f"the store {shown} has no file {MARKER}, and none of the artifacts in the ledger: is it not mounted, or "
        "is `store` in the settings wrong? Nothing was changed. Remedy: mount it, and work continues; only if its "
        f"artifacts are really lost, create {posixpath.join(shown, MARKER)}, and they are computed again"
    )
