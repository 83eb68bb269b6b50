"""TCP ports of this machine: which are free, and which process holds one."""

import socket
from collections.abc import Container
from pathlib import Path
from typing import Any

import psutil


def is_free(host: str, port: int) -> bool:
    """Whether a listener can be opened on this port now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # Like a server: connections of an earlier listener in TIME_WAIT must not make the port look used.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def free_port(host: str, first: int, taken: Container[int]) -> int:
    """The first free port from `first` on, wrapping around below the range of ephemeral ports.

    An engine restarts on the same port after a crash; if the kernel had given that port to an outgoing connection
    meanwhile, the engine could not start.

    Raises:
        OSError: no port is free.
    """
    low, high = 1024, ephemeral_start()
    span = high - low
    for step in range(span):
        port = low + (first - low + step) % span
        if port not in taken and is_free(host, port):
            return port
    raise OSError(f"no free port between {low} and {high} on {host}")


def ephemeral_start() -> int:
    """The first ephemeral port."""
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 32768


def holder(port: int) -> str:
    """The process that listens on a port, as text, as far as this user can see it."""
    try:
        found = [c for c in psutil.net_connections("tcp") if _listening_port(c) == port]
        pid = next((c.pid for c in found if c.pid), None)
        if pid is None:
            return "a process of another user" if found else "a process that is not visible to this user"
        command = psutil.Process(pid).cmdline()
    except (psutil.Error, OSError):
        return "a process that is not visible to this user"
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
        return True  # macOS may hide even this user's own sockets; then only the health check decides
    except psutil.Error:
        return False


def _listening_port(connection: Any) -> int | None:
    return connection.laddr.port if connection.status == psutil.CONN_LISTEN else None
