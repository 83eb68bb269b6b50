"""Keeps this user's files from other users of the machine."""

import os
import stat
from contextlib import suppress
from pathlib import Path

OTHERS = 0o077


class NotOurs(Exception):
    """The folder is open to others, and this user may not change that."""


def keep_private(home: Path) -> None:
    """From now on, what this process and its children write is accessible to this user only; closes an open home.

    Nobody else reads anything below the home: endpoints and pages are served over HTTP. A home of an earlier version
    may be open: closing its folder closes all of it at once, and its files are closed too, for copies of it.

    Raises:
        NotOurs: the home belongs to someone else.
    """
    os.umask(OTHERS)
    try:
        mode = home.stat().st_mode
    except FileNotFoundError:
        return  # it will be created under the new umask
    if not mode & OTHERS:
        return
    try:
        home.chmod(stat.S_IMODE(mode) & ~OTHERS)
    except PermissionError as error:
        raise NotOurs(
            f"{home} is open to other users (mode {stat.S_IMODE(mode):04o}) and belongs to user {home.stat().st_uid}. "
            "Remedy: `chmod 700` by its owner, or set LLMOPS_HOME to a folder of this user"
        ) from error
    for folder, folders, files in os.walk(home):
        for name in (*folders, *files):
            with suppress(OSError):  # it is gone meanwhile
                _close(os.path.join(folder, name))  # noqa: PTH118 - a store has many files, and Path is 10 times slower


def _close(path: str) -> None:
    mode = os.lstat(path).st_mode
    # Read-only files stay as they are: DVC tells by exactly that mode which files of its cache it need not hash again.
    if not stat.S_ISLNK(mode) and mode & OTHERS and mode & stat.S_IWUSR:
        os.chmod(path, stat.S_IMODE(mode) & ~OTHERS)  # noqa: PTH101
