"""A code host that does not behave like a server: it holds up nothing for long, and one error says what it did."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from resources.code_hosts.http import Api
from resources.code_hosts.interface import HostUnavailable


@contextmanager
def listening(answer: Callable[[socket.socket, threading.Event], None]) -> Iterator[str]:
    """The URL of a server that accepts each connection, and then does `answer`."""
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    threading.Thread(target=serve, args=(connection,), daemon=True).start()

        def serve(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                answer(connection, ended)

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            ended.set()
            server.shutdown(socket.SHUT_RDWR)


def silent(connection: socket.socket, ended: threading.Event) -> None:
    ended.wait()


def half(connection: socket.socket, ended: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
    ended.wait()


def dripping(connection: socket.socket, ended: threading.Event) -> None:
    """A byte at a time: each part of the answer comes in time."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while not ended.wait(0.02):
        connection.sendall(b" ")


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (silent, "no answer within 0.2 s"),
        (half, "no answer within 0.2 s"),
        (dripping, "its answer takes longer than 1.2 s"),
    ],
)
def test_a_host_that_accepts_the_connection_and_never_answers_is_given_up(
    answer: Callable[[socket.socket, threading.Event], None], told: str
) -> None:
    """Nothing would have been posted to any host any more, and no tick would have said why."""
    with listening(answer) as url, pytest.raises(HostUnavailable, match=told):
        Api(url, {}, "s3cret", timeout_s=0.2).get("/user")
