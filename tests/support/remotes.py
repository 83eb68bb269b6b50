"""Git remotes over a network: Git's own daemon, behind a proxy that delays every byte or keeps it."""

import asyncio
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.ports import free_port
from tests.support.waiting import wait_for


class SlowLink:
    """A TCP proxy on 127.0.0.1. A byte arrives half a round trip after it was sent; none while `hangs` is set.

    Args:
        port: where the bytes go.
        round_trip_s: how long a question and its answer take on the way.
    """

    def __init__(self, port: int, round_trip_s: float = 0.0, hangs: bool = False):
        self._to, self.round_trip_s, self.hangs = port, round_trip_s, hangs
        self.connections = 0
        """How many were made, ever."""
        self.port = free_port()

    @contextmanager
    def running(self) -> Iterator["SlowLink"]:
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._connected, "127.0.0.1", self.port, backlog=1024), loop
        ).result()
        try:
            yield self
        finally:
            loop.call_soon_threadsafe(server.close)
            asyncio.run_coroutine_threadsafe(_cancel_all(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with suppress(OSError, asyncio.CancelledError):
            if self.hangs:
                await reader.read()  # to its end
            else:
                up, down = await asyncio.open_connection("127.0.0.1", self._to)
                await asyncio.gather(self._carry(reader, down), self._carry(up, writer))
        writer.close()

    async def _carry(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        loop, sent = asyncio.get_running_loop(), asyncio.Queue[tuple[float, bytes]]()

        async def deliver() -> None:
            while True:
                due, data = await sent.get()
                await asyncio.sleep(max(0.0, due - loop.time()))
                if not data:
                    break
                target.write(data)
                await target.drain()
            target.close()

        delivery = asyncio.ensure_future(deliver())
        while True:
            data = await source.read(1 << 16)
            sent.put_nowait((loop.time() + self.round_trip_s / 2, data))
            if not data:
                break
        await delivery


async def _cancel_all() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


@contextmanager
def git_daemon(folder: Path) -> Iterator[int]:
    """Serves every repository of a folder by Git's protocol; yields the port."""
    port = free_port()
    daemon = subprocess.Popen(
        ["git", "daemon", f"--base-path={folder}", "--export-all", "--listen=127.0.0.1", f"--port={port}",
         "--max-connections=0", str(folder)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip

    def answers() -> bool:
        asked = ["git", "ls-remote", f"git://127.0.0.1:{port}/none"]
        return b"not exported" in subprocess.run(asked, capture_output=True).stderr

    try:
        wait_for("git daemon", answers)
        yield port
    finally:
        os.killpg(daemon.pid, signal.SIGKILL)  # `git` waits for the daemon that it has started
        daemon.wait()
