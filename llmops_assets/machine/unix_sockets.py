"""Where a folder's Unix sockets lie: their paths are short by law, those of folders are not."""

import hashlib
import os
import stat
from pathlib import Path

# A Unix socket's path is limited to 108 bytes on Linux and 104 on macOS. supervisord binds to NAME.PID first.
LONGEST = 104 - len("/supervisor.sock.4194304") - 1


class NotPrivate(Exception):
    """Somebody else's folder is where the sockets should be; the message names it."""


def socket_folder(folder: Path) -> Path:
    """Within the folder if its path is short enough, else in one named after it.

    Both follow from the folder alone, so that every process finds them, also after all state was lost.
    """
    inside = folder / "run"
    if len(os.fsencode(inside)) <= LONGEST:
        return inside
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    return Path(f"/tmp/llmops-{os.getuid()}-{name}")


def make_socket_folder(folder: Path) -> Path:
    """The same, made for its owner only.

    Raises:
        NotPrivate: it is there, and not this user's alone.
    """
    sockets = socket_folder(folder)
    sockets.mkdir(exist_ok=True, mode=0o700)
    seen = sockets.lstat()
    if not stat.S_ISDIR(seen.st_mode) or seen.st_uid != os.getuid() or seen.st_mode & 0o077:
        raise NotPrivate(f"{sockets} is not a private folder of this user; remove it and try again")
    return sockets
