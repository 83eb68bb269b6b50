"""Which ledgers store artifacts in a store: one file each in its root.

Equal content is one artifact, so a store that two ledgers share has artifacts that both reference, and neither knows
what the other needs. Garbage collection deletes nothing there.
"""

import json
import posixpath
import socket
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from llmops_assets.domain.models import Frozen

PREFIX = ".llmops-ledger-"


class Owner(Frozen):
    """A ledger that stores artifacts here."""

    ledger: str
    where: str
    """Its machine and home, for people."""
    since: str

    def __str__(self) -> str:
        return f"the ledger of {self.where}, since {self.since}"


def note_owner(fs: Any, root: str, ledger: str, home: Path) -> None:
    """Notes, once, that this ledger stores artifacts here. Before it does: a collector that looks later sees it."""
    file = posixpath.join(root, PREFIX + ledger)
    if fs.exists(file):
        return
    since = datetime.fromtimestamp(time.time(), UTC).strftime("%Y-%m-%d")
    owner = Owner(ledger=ledger, where=f"{socket.gethostname()}:{home}", since=since)
    fs.makedirs(root, exist_ok=True)
    fs.pipe_file(file, owner.model_dump_json().encode())


def owners(fs: Any, root: str) -> list[Owner]:
    """All ledgers that store artifacts here; one whose file cannot be read counts too."""
    found = []
    for path in sorted(fs.glob(posixpath.join(root, f"{PREFIX}*"))):
        ledger = str(path).rsplit(PREFIX, 1)[-1]
        try:
            found.append(Owner.model_validate(json.loads(fs.cat_file(path)) | {"ledger": ledger}))
        except (ValueError, TypeError):
            found.append(Owner(ledger=ledger, where=f"an unknown place ({path} is damaged)", since="unknown"))
    return found


def forget_others(fs: Any, root: str, ledger: str) -> None:
    """Removes what other ledgers noted. One that is still in use notes itself again with its next artifact."""
    for other in owners(fs, root):
        if other.ledger != ledger:
            fs.rm_file(posixpath.join(root, PREFIX + other.ledger))
