"""Checkouts of a mirror's revisions for programs: made once, reused, deleted when they are no longer used."""

import os
import shutil
from pathlib import Path

from llmops_assets.machine.locks import alone
from resources.project_source.git import git

_TIMEOUT_S = 600.0
"""Of a checkout: it reads and writes only this machine's disk."""


def export(mirror: Path, revision: str, folder: Path) -> Path:
    """A clean checkout of the revision's whole repository, made once and then reused.

    Raises:
        GitError: Git failed; nothing is left that a later call would take for complete.
    """
    complete = folder.parent / f"{folder.name}.complete"
    if _note_use(complete) and (folder / ".git").exists():
        return folder
    with alone(folder.parent / ".lock"):  # both sensors may export at the same time
        if _note_use(complete) and (folder / ".git").exists():
            return folder
        shutil.rmtree(folder, ignore_errors=True)
        clone = ("clone", "--quiet", "--shared", "--no-checkout", str(mirror), str(folder))
        git(*clone, where=folder.parent, timeout=_TIMEOUT_S)
        git("checkout", "--quiet", "--detach", revision, where=folder, timeout=_TIMEOUT_S)
        complete.touch()
    return folder


def drop_export(folder: Path, unused_since: float) -> bool:
    """Deletes an export that was not used since; returns whether it did.

    The marker is renamed before its time is read: who notes a use later finds none, and waits for the lock.
    """
    complete, gone = (folder.parent / f"{folder.name}.{end}" for end in ("complete", "collected"))
    with alone(folder.parent / ".lock"):
        try:
            complete.rename(gone)
            if gone.stat().st_mtime >= unused_since:
                gone.rename(complete)
                return False
        except FileNotFoundError:
            if folder.stat().st_mtime >= unused_since:  # an export that was interrupted
                return False
        shutil.rmtree(folder, ignore_errors=True)
        for marker in folder.parent.glob(f"{folder.name}.*"):
            marker.unlink(missing_ok=True)
    return True


def _note_use(complete: Path) -> bool:
    """Marks an export as used now; returns whether there is one."""
    try:
        os.utime(complete)
    except FileNotFoundError:
        return False
    return True
