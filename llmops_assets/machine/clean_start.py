"""Starts a program of the supervisor where no earlier life of it is left.

    python -m llmops_assets.machine.clean_start COMMAND …

A program that is killed leaves its own children behind (MLflow's server its web server, which holds the port), and
beside them it could not start again.
"""

import os
import signal
import sys

import psutil

from llmops_assets.machine.processes import MARK, end, marked, of_another_session

NAME = "SUPERVISOR_PROCESS_NAME"
"""supervisord names each program so in its environment, and what it starts inherits it."""


def earlier_lives() -> list[psutil.Process]:
    """What this program left behind; not the runs that it began, which have sessions of their own to outlive it."""
    found = []
    for process in marked(MARK, os.environ[MARK]):
        if process.pid != os.getpid() and not of_another_session(process):
            try:
                if process.environ().get(NAME) == os.environ[NAME]:
                    found.append(process)
            except psutil.Error:
                continue  # gone meanwhile
    return found


if __name__ == "__main__":
    end(earlier_lives(), patience_s=0)
    # A shell that starts us in the background has SIGINT ignored, and so would a run be, which is cancelled by it.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.execvp(sys.argv[1], sys.argv[1:])
