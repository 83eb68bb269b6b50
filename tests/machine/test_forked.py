"""Commands forked from a preloaded process behave as `python -m` does, and outlive that process.

The preloaded module has two lines; the forked commands print, wait or exit on request.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from llmops_assets.machine.forked import SERVER, Forked, ForkServers, NotForked, fork
from llmops_assets.machine.processes import command_line
from llmops_assets.machine.unix_sockets import make_socket_folder, socket_folder
from tests.support.waiting import wait_for

HEAVY = "import os\nTIMES = []\nVALUE = 1\n"
COMMAND = """\
import json, os, pathlib, random, sys, time
import heavy

heavy.TIMES.append(1)
what, *rest = sys.argv[1:]
if what == "tell":
    print(json.dumps({
        "value": heavy.VALUE, "times": len(heavy.TIMES), "environment": dict(os.environ), "folder": os.getcwd(),
        "pid": os.getpid(), "session": os.getsid(0), "group": os.getpgid(0), "input": sys.stdin.read(),
        "name": __name__, "random": random.random(), "files": os.listdir("/proc/self/fd"), "arguments": rest,
    }))
elif what == "exit":
    sys.exit(int(rest[0]))
elif what == "end":
    import atexit, ctypes, threading
    atexit.register(print, "at exit")
    threading.Thread(target=lambda: (time.sleep(0.2), print("of a thread"))).start()
    ctypes.CDLL(None).printf(b"of a library in C\\n")
    sys.exit("a message")
elif what == "fail":
    raise RuntimeError("no luck")
else:
    pathlib.Path("began").touch()
    while not pathlib.Path("go").exists():
        time.sleep(0.01)
"""


class Place:
    """A folder with the two modules, and the servers that preload one of them."""

    def __init__(self, folder: Path):
        self.folder, self.modules = folder, folder / "modules"
        self.modules.mkdir()
        (self.modules / "heavy.py").write_text(HEAVY)
        (self.modules / "command.py").write_text(COMMAND)
        self.servers = ForkServers(folder / "servers", "heavy")
        self.environment = {"PYTHONPATH": str(self.modules), "PATH": os.environ["PATH"], "HOME": "/nowhere"}

    def work(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        return folder

    def start(self, *arguments: str, name: str = "work", begin: bool = True) -> tuple[Forked, socket.socket]:
        folder = self.work(name)
        connection = self.servers.connect(self.environment)
        with (folder / "log").open("ab") as log, (folder / "held").open("w") as held:
            environment = {**self.environment, "NAME": name}
            forked = fork(connection, "command", arguments, folder, environment, log.fileno(), [held.fileno()])
        if begin:
            forked.begin()
        return forked, connection

    def run(self, *arguments: str, name: str = "work") -> tuple[int | None, str]:
        """Exit code and output."""
        forked, connection = self.start(*arguments, name=name)
        with connection:
            wait_for("its end", lambda: forked.poll() is not None)
        return forked.returncode, (self.folder / name / "log").read_text()

    def told(self, *arguments: str, name: str = "work") -> dict[str, Any]:
        code, output = self.run("tell", *arguments, name=name)
        assert code == 0, output
        return dict(json.loads(output.splitlines()[-1]))

    def processes(self) -> list[psutil.Process]:
        """The servers, without their forks, which look like their server until they give themselves a title."""
        sockets = str(socket_folder(self.folder / "servers"))  # in /tmp, if the folder's own path is too long for one
        words = ((p, command_line(p)) for p in psutil.process_iter(["ppid"]))
        alike = {p.pid: p for p, w in words if SERVER in w and any(word.startswith(sockets) for word in w)}
        return [p for p in alike.values() if p.info["ppid"] not in alike]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.servers.end()
    assert place.processes() == []


def test_a_command_sees_what_python_dash_m_would_show_it(place: Place) -> None:
    told = place.told("a", "b c")
    assert told["environment"].items() >= {**place.environment, "NAME": "work"}.items()
    assert set(told["environment"]) - {"LC_CTYPE"} == {*place.environment, "NAME"}
    assert told["folder"] == str(place.folder / "work") and told["arguments"] == ["a", "b c"]
    assert told["pid"] == told["session"] == told["group"] != os.getpid()
    assert told["name"] == "__main__" and told["input"] == ""
    assert len(told["files"]) == 4, "input, output, errors, and the listing itself; its keeper has the lock"


def test_nothing_of_a_command_is_left_for_the_next(place: Place) -> None:
    first, second = place.told(name="one"), place.told(name="two")
    assert first["times"] == second["times"] == 1
    assert first["environment"]["NAME"] == "one" and second["environment"]["NAME"] == "two"
    assert first["random"] != second["random"]
    assert len({p.pid for p in place.processes()}) == 1, "one server forked both"


@pytest.mark.parametrize(("arguments", "code"), [(("exit", "0"), 0), (("exit", "7"), 7), (("fail",), 1)])
def test_the_exit_code_is_the_commands(place: Place, arguments: tuple[str, ...], code: int) -> None:
    found, output = place.run(*arguments)
    assert found == code
    assert ("RuntimeError: no luck" in output) == (arguments == ("fail",))


def test_a_command_ends_as_an_interpreter_does(place: Place) -> None:
    """It frees nothing, but its threads end, its exit functions run, and all that was printed is in the log."""
    code, output = place.run("end")
    assert code == 1
    assert {*output.splitlines()} == {"a message", "of a thread", "of a library in C", "at exit"}


def test_a_killed_command_is_reported_with_its_signal(place: Place) -> None:
    forked, connection = place.start("wait")
    wait_for("its start", lambda: (place.folder / "work/began").exists())
    os.killpg(forked.pid, signal.SIGKILL)
    with connection:
        wait_for("its end", lambda: forked.poll() is not None)
    assert forked.returncode == -signal.SIGKILL


def test_a_command_can_be_terminated_although_its_client_ignores_that_signal(place: Place) -> None:
    """A shell may start background jobs so: the server and its commands inherited it, and a cancel took 10 seconds."""
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        forked, connection = place.start("wait")
    finally:
        signal.signal(signal.SIGTERM, before)
    wait_for("its start", lambda: (place.folder / "work/began").exists())
    os.kill(forked.pid, signal.SIGTERM)
    with connection:
        wait_for("its end", lambda: forked.poll() is not None)
    assert forked.returncode == -signal.SIGTERM


def test_a_command_looks_like_itself_in_the_list_of_processes(place: Place) -> None:
    """Otherwise `ps` would not distinguish a training from the process that it was forked from."""
    forked, connection = place.start("wait")
    wait_for("its start", lambda: (place.folder / "work/began").exists())
    assert command_line(psutil.Process(forked.pid))[1:] == ["-m", "command", "wait"]
    (place.folder / "work/go").touch()
    with connection:
        wait_for("its end", lambda: forked.poll() == 0)


def test_a_command_whose_client_is_gone_never_starts(place: Place) -> None:
    forked, connection = place.start("wait", begin=False)
    connection.close()
    wait_for("its end", lambda: not psutil.pid_exists(forked.pid))
    assert not (place.folder / "work/began").exists()


def test_a_killed_server_takes_neither_commands_nor_their_exit_codes_along(place: Place) -> None:
    forked, connection = place.start("wait")
    wait_for("its start", lambda: (place.folder / "work/began").exists())
    (server,) = place.processes()
    server.kill()
    other = place.told(name="other")
    assert other["value"] == 1, "the next command has a server of its own"
    os.kill(forked.pid, signal.SIGTERM)
    with connection:
        wait_for("its end", lambda: forked.poll() is not None)
    assert forked.returncode == -signal.SIGTERM


def test_a_killed_keeper_takes_its_command_along_and_says_that_it_is_lost(place: Place) -> None:
    """The keeper holds the command's lock: a command that went on would run beside the next of its name."""
    forked, connection = place.start("wait")
    wait_for("its start", lambda: (place.folder / "work/began").exists())
    command = psutil.Process(forked.pid)
    keeper = command.parent()
    assert keeper is not None
    keeper.kill()
    with connection:
        wait_for("its end", lambda: forked.poll() is None and forked.lost)
    wait_for("its end", lambda: not psutil.pid_exists(command.pid))


@pytest.mark.parametrize("change", ["edited", "replaced", "removed"])
def test_code_that_has_changed_since_it_was_loaded_is_never_run(place: Place, change: str) -> None:
    assert place.told()["value"] == 1
    heavy = place.modules / "heavy.py"
    newer = HEAVY.replace("VALUE = 1", "VALUE = 22")
    if change == "edited":
        heavy.write_text(newer)
    elif change == "replaced":  # by a file with the same mtime, as installers do
        other, seen = place.modules / "other", heavy.stat()
        other.write_text(newer)
        os.utime(other, ns=(seen.st_atime_ns, seen.st_mtime_ns))
        other.replace(heavy)
    else:
        heavy.unlink()
        with pytest.raises(NotForked, match="No module named 'heavy'"):
            place.told()
        return
    assert place.told()["value"] == 22
    assert len(place.processes()) == 1, "the stale server has ended"


def test_two_at_once_share_one_server(place: Place) -> None:
    with ThreadPoolExecutor(2) as pool:
        told = list(pool.map(lambda name: place.told(name=name), ("one", "two")))
    assert [t["environment"]["NAME"] for t in told] == ["one", "two"]
    wait_for("the end of the other server", lambda: len(place.processes()) == 1)


def test_another_environment_has_a_server_of_its_own(place: Place) -> None:
    """Libraries read the environment at import, for example OMP_NUM_THREADS."""
    place.told()
    place.environment["OMP_NUM_THREADS"] = "1"
    assert place.told()["environment"]["OMP_NUM_THREADS"] == "1"
    wait_for("both servers", lambda: len(place.processes()) == 2)


def test_a_module_that_cannot_be_preloaded_is_named_with_its_fault(place: Place) -> None:
    (place.modules / "heavy.py").write_text("raise RuntimeError('it needs a GPU')\n")
    with pytest.raises(NotForked, match="does not start: RuntimeError: it needs a GPU"):
        place.servers.connect(place.environment)


def test_a_module_that_starts_threads_is_refused(place: Place) -> None:
    """A lock that another thread holds during the fork is never released in the child."""
    threads = "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True, name='busy').start()\n"
    (place.modules / "heavy.py").write_text(threads)
    with pytest.raises(NotForked, match="heavy starts threads"):
        place.servers.connect(place.environment)


def test_the_server_has_one_thread_and_no_file_of_its_client(place: Place) -> None:
    place.told()
    (server,) = place.processes()
    assert server.num_threads() == 1
    assert not [f.path for f in server.open_files() if not f.path.endswith(".log")]
    assert server.ppid() != os.getpid()


def test_a_server_that_does_not_answer_is_replaced(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.told()
    (server,) = place.processes()
    monkeypatch.setattr("llmops_assets.machine.forked.ANSWER_S", 0.5)
    server.suspend()
    assert place.told()["value"] == 1
    server.resume()
    wait_for("its end", lambda: not server.is_running())


@pytest.mark.parametrize("name", ["short", "long" * 30])
def test_a_server_ends_when_its_folder_is_gone(tmp_path: Path, name: str) -> None:
    """The socket of a folder with a long path is in /tmp, and stays when the folder is deleted."""
    (tmp_path / name).mkdir()
    place = Place(tmp_path / name)
    place.told()
    (server,) = place.processes()
    gone = place.folder / "gone"
    (place.folder / "servers").rename(gone)
    wait_for("its end", lambda: not server.is_running())


def test_an_idle_server_ends_and_removes_its_socket(place: Place) -> None:
    folder = place.work("servers")
    path = make_socket_folder(folder) / "fork-idle.sock"
    command = [sys.executable, "-m", SERVER, "--socket", str(path), "--folder", str(folder), "--preload", "heavy"]
    command += ["--idle", "0.5"]
    subprocess.run(command, env=place.environment, check=True)
    wait_for("its end", lambda: place.processes() == [])
    assert not path.exists()


def test_a_link_shares_the_servers_and_does_not_end_them(place: Place, tmp_path: Path) -> None:
    place.told()
    link = tmp_path / "link"
    link.symlink_to(place.folder / "servers")
    shared = ForkServers(link, "heavy")
    shared.connect(place.environment).close()
    shared.end()
    assert len(place.processes()) == 1
    place.servers.end()
    assert place.processes() == []


def test_ending_the_servers_leaves_commands_running(place: Place) -> None:
    forked, connection = place.start("wait")
    wait_for("its start", lambda: (place.folder / "work/began").exists())
    place.servers.end()
    assert place.processes() == []
    assert psutil.pid_exists(forked.pid)
    (place.folder / "work/go").touch()
    wait_for("its end", lambda: not psutil.pid_exists(forked.pid))
    connection.close()
