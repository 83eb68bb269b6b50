"""The fork servers of a test session, which all its test processes share."""

import os
from pathlib import Path

from llmops_assets.machine.forked import ForkServers
from llmops_assets.machine.unix_sockets import socket_folder
from tests.support.forking import used_together


def test_the_servers_end_with_the_last_process_that_uses_them(tmp_path: Path) -> None:
    """The first one to end took them along, and another's test failed: "the fork server does not start: exit -9"."""
    servers, users = ForkServers(tmp_path / "servers", "json"), tmp_path / "users"
    with used_together(servers, users):
        with used_together(servers, users):
            servers.connect(os.environ).close()
        (socket,) = socket_folder(tmp_path / "servers").glob("fork-*.sock")
        before = socket.stat().st_ino
        servers.connect(os.environ).close()
        assert socket.stat().st_ino == before, "no second server was started"
    assert not socket.exists()
