"""The folder for Unix sockets: the operating system limits their path length."""

import hashlib
import os
import stat
from pathlib import Path

# A Unix socket's path is limited to 108 bytes on Linux and 104 on macOS. supervisord binds to NAME.PID first.
LONGEST = 104 - len("/supervisor.sock.4194304") - 1


class NotPrivate(Exception):
    """The socket folder is not private to this user; the message names it."""


def socket_folder(folder: Path) -> Path:
    """The socket folder: inside the given folder if the path is short enough, otherwise in /tmp, named after it.

    It depends on the given folder only, so that every process finds it, even after all state is lost.
    """
    inside = folder / "run"
    if len(os.fsencode(inside)) <= LONGEST:
        return inside
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    return Path(f"/tmp/llmops-{os.getuid()}-{name}")


def make_socket_folder(folder: Path) -> Path:
    """Creates the socket folder, accessible to its owner only.

    Raises:
        NotPrivate: it exists and is not private to this user.
    """
    sockets = socket_folder(folder)
    sockets.mkdir(exist_ok=True, mode=0o700)
    seen = sockets.lstat()
    if not stat.S_ISDIR(seen.st_mode) or seen.st_uid != os.getuid() or seen.st_mode & 0o077:
        raise NotPrivate(f"{sockets} is not a private folder of this user; remove it and try again")
    return sockets
