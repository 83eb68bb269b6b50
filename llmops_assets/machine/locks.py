"""Locks between processes of this machine. The kernel releases a lock when its last holder closes it or dies."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Exclusive lock between processes and threads."""
    with _opened(lock) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def sharing(lock: Path) -> Iterator[None]:
    """Shared lock: several holders at once, but none beside `alone` or `alone_now`."""
    with _opened(lock) as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield


@contextmanager
def alone_now(lock: Path) -> Iterator[bool]:
    """Exclusive lock if it is free now; yields whether it is held."""
    with _opened(lock) as file:
        yield take_now(file.fileno())


def take_now(descriptor: int) -> bool:
    """Takes the exclusive lock of an open file if it is free now; returns whether it is held."""
    return _try(descriptor, fcntl.LOCK_EX)


def is_locked(lock: Path) -> bool:
    """Whether somebody holds a lock exclusively. Nothing is created, and concurrent looks do not see each other."""
    try:
        descriptor = os.open(lock, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        return not _try(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _try(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _opened(lock: Path) -> IO[str]:
    lock.parent.mkdir(parents=True, exist_ok=True)
    return lock.open("w")
