"""The user of this machine."""

import os

from resources.project_source.errors import SourceError
from resources.project_source.git import git


def local_identity() -> str:
    """The user's own claim of identity: LLMOPS_USER, else Git's user.email; empty if neither is set.

    It is not authentication: anyone who can write to the ledger can use any name.
    """
    if named := os.environ.get("LLMOPS_USER", "").strip():
        return named
    try:
        return git("config", "user.email", timeout=10).strip()
    except (SourceError, OSError):
        return ""
