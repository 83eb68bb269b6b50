"""A program ends as a whole: with everything that it started, wherever that has gone, and at its limits."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from llmops_assets.machine import keeper
from tests.support.waiting import wait_for

ESCAPES = """\
import os, pathlib, sys, time
HERE = pathlib.Path(sys.argv[1])

def escape():
    # A daemon: a session of its own, an orphan, and deaf to polite signals.
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            import signal
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            (HERE / "part").write_text(str(os.getpid()))
            (HERE / "part").rename(HERE / "escaped")
            time.sleep(600)
        os._exit(0)

escape()
while not (HERE / "escaped").exists():
    time.sleep(0.01)
"""


class Kept:
    """Commands under a keeper."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, code: str, *options: str, hold: int | None = None) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-I", "-S", keeper.__file__, "--told", str(self.folder / "told"), *options]
        words += ["--hold", str(hold)] if hold is not None else []
        command = [*words, "--", sys.executable, "-c", code, str(self.folder)]
        process = subprocess.Popen(command, pass_fds=(hold,) if hold is not None else ())
        self.started.append(process)
        return process

    @property
    def escaped(self) -> psutil.Process:
        return psutil.Process(int((self.folder / "escaped").read_text()))

    @property
    def told(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / "told").read_text()))


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    kept = Kept(tmp_path)
    yield kept
    for process in kept.started:
        if process.poll() is None:
            process.terminate()
            process.wait()


@pytest.mark.parametrize("code", [0, 7])
def test_a_command_that_ends_leaves_no_process_even_in_another_session(kept: Kept, code: int) -> None:
    """What had called setsid outlived its program, held its lock, and the next run waited for it forever."""
    assert kept.start(ESCAPES + f"sys.exit({code})").wait() == code
    assert not psutil.pid_exists(int((kept.folder / "escaped").read_text()))


def test_a_signal_is_passed_on_as_it_was(kept: Kept) -> None:
    assert kept.start("import os; os.kill(os.getpid(), 11)").wait() == -signal.SIGSEGV


def test_a_terminated_keeper_ends_what_ignores_it(kept: Kept) -> None:
    code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + ESCAPES + "time.sleep(600)"
    process = kept.start(code, "--grace", "0.2")
    wait_for("the escape", lambda: (kept.folder / "escaped").exists())
    escaped = kept.escaped
    process.terminate()
    assert process.wait() == -signal.SIGKILL
    assert not escaped.is_running()


def test_a_time_limit_ends_all_of_it_and_is_told(kept: Kept) -> None:
    assert kept.start(ESCAPES + "time.sleep(600)", "--seconds", "1.5").wait() == -signal.SIGTERM
    assert kept.told == {"limit": "seconds", "value": 1.5}
    assert not psutil.pid_exists(int((kept.folder / "escaped").read_text()))


def test_too_many_processes_are_ended_and_told(kept: Kept) -> None:
    code = "import os, time\nfor _ in range(30):\n    if os.fork() == 0:\n        break\ntime.sleep(600)"
    assert kept.start(code, "--processes", "10", "--grace", "0").wait() < 0
    assert kept.told == {"limit": "processes", "value": 10}


def test_memory_of_all_processes_together_is_ended_and_told(kept: Kept) -> None:
    """Each stays below the limit."""
    code = "import os, time\nos.fork()\nos.fork()\nheld = bytearray(60 * 2**20)\ntime.sleep(600)"
    assert kept.start(code, "--memory", str(150 * 2**20), "--grace", "0").wait() < 0
    assert kept.told["limit"] == "memory"


def test_one_process_gets_a_memory_error_at_the_limit(kept: Kept) -> None:
    code = "try:\n    bytearray(400 * 2**20)\nexcept MemoryError:\n    raise SystemExit(3)"
    assert kept.start(code, "--memory", str(300 * 2**20)).wait() == 3


def test_a_killed_keeper_takes_its_command_along(kept: Kept) -> None:
    process = kept.start(ESCAPES + "(HERE / 'me').write_text(str(os.getpid())); time.sleep(600)")
    wait_for("its start", lambda: (kept.folder / "me").exists() and (kept.folder / "me").read_text())
    process.kill()
    command = int((kept.folder / "me").read_text())
    wait_for("its end", lambda: not psutil.pid_exists(command))
    kept.escaped.kill()


def test_a_keeper_with_a_parent_ends_when_that_is_killed(kept: Kept) -> None:
    starts = (
        "import os, subprocess, sys, time\n"
        "words = [sys.executable, '-I', '-S', sys.argv[2], '--with-parent', str(os.getpid()), '--', *sys.argv[3:]]\n"
        "subprocess.Popen(words)\ntime.sleep(600)\n"
    )
    inner = [sys.executable, "-c", ESCAPES + "time.sleep(600)", str(kept.folder)]
    parent = subprocess.Popen([sys.executable, "-c", starts, "", keeper.__file__, *inner])
    wait_for("the escape", lambda: (kept.folder / "escaped").exists())
    escaped = kept.escaped
    parent.kill()
    parent.wait()
    wait_for("its end", lambda: not escaped.is_running())


def test_a_lock_is_the_keepers_and_not_its_commands(kept: Kept, tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as lock:
        code = "import os, pathlib, sys; pathlib.Path(sys.argv[1], 'seen').write_text(str(os.listdir('/proc/self/fd')))"
        assert kept.start(code, hold=lock.fileno()).wait() == 0
        assert str(lock.fileno()) not in (kept.folder / "seen").read_text()
        assert os.fstat(lock.fileno())
