"""TCP ports of this machine: which are free, and who holds one. Nothing about what listens there belongs here."""

import socket
from collections.abc import Container
from pathlib import Path
from typing import Any

import psutil


def is_free(host: str, port: int) -> bool:
    """Whether a listener could be opened there now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As a server does: connections of a former one in TIME_WAIT must not make the port look taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def free_port(host: str, first: int, taken: Container[int]) -> int:
    """The first free port from `first` on, going round below the range from which outgoing connections draw theirs.

    An engine comes back on its port after a crash; a port that the kernel may have lent to a connection in between
    would keep it down.

    Raises:
        OSError: there is none.
    """
    low, high = 1024, ephemeral_start()
    span = high - low
    for step in range(span):
        port = low + (first - low + step) % span
        if port not in taken and is_free(host, port):
            return port
    raise OSError(f"no free port between {low} and {high} on {host}")


def ephemeral_start() -> int:
    """Where the range of outgoing connections begins."""
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 32768


def holder(port: int) -> str:
    """Who listens on a port, in words; as much as this user may see."""
    try:
        found = [c for c in psutil.net_connections("tcp") if _listening_port(c) == port]
        pid = next((c.pid for c in found if c.pid), None)
        if pid is None:
            return "a process of another user" if found else "a process that cannot be seen from here"
        command = psutil.Process(pid).cmdline()
    except (psutil.Error, OSError):
        return "a process that cannot be seen from here"
    if other := next((part for part in command if "/serving/gateway/" in part), None):
        return f"the gateway of another llmops home, {other.partition('/serving/gateway/')[0]} (pid {pid})"
    return f"pid {pid}: {' '.join(command)[:120]}"


def listens(pid: int, port: int) -> bool:
    """Whether a process, or a child of it, listens on a port."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        return any(_listening_port(c) == port for p in family for c in p.net_connections("tcp"))
    except psutil.AccessDenied:
        return True  # macOS may hide even this user's own sockets; then the health check alone decides
    except psutil.Error:
        return False


def _listening_port(connection: Any) -> int | None:
    return connection.laddr.port if connection.status == psutil.CONN_LISTEN else None
