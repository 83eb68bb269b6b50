"""Dagster's code server, which exits when its inner server dies, so that the supervisor restarts it.

    python -m resources.local_services.code_server --module-name … --socket …        (like `dagster code-server start`)

Dagster's code server is a proxy for an inner process, so that code can be reloaded. If the inner process is killed, the
proxy stays alive but no longer answers sensors or the UI.
"""

import os
import sys
import threading
import time
from pathlib import Path

LOOK_EVERY_S = 1.0
FAILURES = 3
"""Consecutive failed checks before it exits; a single one may coincide with a reload."""


def end_with_the_inner_one(socket: Path) -> None:
    from dagster._core.errors import DagsterUserCodeUnreachableError
    from dagster._grpc.client import DagsterGrpcClient

    client, answered, failures = DagsterGrpcClient(socket=str(socket)), False, 0
    while failures < FAILURES:
        time.sleep(LOOK_EVERY_S)
        try:
            client.list_repositories()  # code that fails to load still answers this call, and is no reason to exit
            answered, failures = True, 0
        except DagsterUserCodeUnreachableError:
            failures += answered  # before the first answer it is still loading
    print("the inner code server has died", file=sys.stderr, flush=True)
    os._exit(1)


if __name__ == "__main__":
    from dagster._cli import main

    from llmops_assets.machine.redaction import hide_secrets

    hide_secrets()
    watched = Path(sys.argv[sys.argv.index("--socket") + 1])
    threading.Thread(target=end_with_the_inner_one, args=(watched,), daemon=True).start()
    sys.argv[1:1] = ["code-server", "start"]
    main()
