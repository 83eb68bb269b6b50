"""Dagster's code server, which ends when what it stands for is gone, so that its supervisor starts it anew.

    python -m resources.local_services.code_server --module-name … --socket …        (as `dagster code-server start`)

Dagster's own is a process that passes everything on to an inner one, so that code can be reloaded. When the inner one
is killed it lives on, and answers no sensor and no page any more.
"""

import os
import sys
import threading
import time
from pathlib import Path

LOOK_EVERY_S = 1.0
FAILURES = 3
"""So many looks in a row that find nobody; one alone may meet a reload."""


def end_with_the_inner_one(socket: Path) -> None:
    from dagster._core.errors import DagsterUserCodeUnreachableError
    from dagster._grpc.client import DagsterGrpcClient

    client, answered, failures = DagsterGrpcClient(socket=str(socket)), False, 0
    while failures < FAILURES:
        time.sleep(LOOK_EVERY_S)
        try:
            client.list_repositories()  # code that cannot be loaded is an answer to this, and no reason to end
            answered, failures = True, 0
        except DagsterUserCodeUnreachableError:
            failures += answered  # it is still loading before
    print("the inner code server is gone", file=sys.stderr, flush=True)
    os._exit(1)


if __name__ == "__main__":
    from dagster._cli import main

    watched = Path(sys.argv[sys.argv.index("--socket") + 1])
    threading.Thread(target=end_with_the_inner_one, args=(watched,), daemon=True).start()
    sys.argv[1:1] = ["code-server", "start"]
    main()
