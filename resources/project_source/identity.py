"""Who acts on this machine, and addresses without their credentials."""

import os
import re

from resources.project_source.errors import SourceError
from resources.project_source.git import git


def local_identity() -> str:
    """Who sits at this machine, as they say themselves: LLMOPS_USER, else Git's user.email; empty if nobody says.

    It is not authentication: whoever may write to the ledger may call themselves what they like.
    """
    if named := os.environ.get("LLMOPS_USER", "").strip():
        return named
    try:
        return git("config", "user.email", timeout=10).strip()
    except (SourceError, OSError):
        return ""


def without_credentials(text: str) -> str:
    return re.sub(r"(://)[^@/\s]+@", r"\1***@", text)
