"""Starts a supervised program after ending the processes that its previous instance left behind.

    python -m llmops_assets.machine.clean_start COMMAND …

A killed program leaves its children behind (MLflow's server leaves its web server, which holds the port), and could not
start again next to them.
"""

import os
import signal
import sys

import psutil

from llmops_assets.machine.processes import MARK, end, marked, of_another_session

NAME = "SUPERVISOR_PROCESS_NAME"
"""supervisord sets this variable to the program's name; child processes inherit it."""


def earlier_lives() -> list[psutil.Process]:
    """Leftover processes of this program; not the runs that it started, which have their own sessions to outlive it."""
    found = []
    for process in marked(MARK, os.environ[MARK]):
        if process.pid != os.getpid() and not of_another_session(process):
            try:
                if process.environ().get(NAME) == os.environ[NAME]:
                    found.append(process)
            except psutil.Error:
                continue  # it has ended meanwhile
    return found


if __name__ == "__main__":
    end(earlier_lives(), patience_s=0)
    # A shell that starts this in the background ignores SIGINT; runs would inherit that, but SIGINT cancels a run.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.execvp(sys.argv[1], sys.argv[1:])
