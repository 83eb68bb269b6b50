"""Who acts on this machine, and addresses without their credentials."""

import os
import re
import subprocess


def local_identity() -> str:
    """Who sits at this machine, as they say themselves: LLMOPS_USER, else Git's user.email; empty if nobody says.

    It is not authentication: whoever may write to the ledger may call themselves what they like.
    """
    if named := os.environ.get("LLMOPS_USER", "").strip():
        return named
    try:
        done = subprocess.run(["git", "config", "user.email"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def without_credentials(text: str) -> str:
    return re.sub(r"(://)[^@/\s]+@", r"\1***@", text)
