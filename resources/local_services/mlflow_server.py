"""MLflow's server, without secrets in its log.

    python -m resources.local_services.mlflow_server -h 127.0.0.1 -p 5000        (like `mlflow server`)

The server is a command that starts web servers, and each writes to the log by itself: MLflow repeats the address of a
database that it does not support, with the password. So what they all print is read here, line by line.
"""

import signal
import subprocess
import sys
from collections.abc import Sequence

from llmops_assets.machine.redaction import redacted

LINE_CHARACTERS = 65536
"""What is read at most before it is written: a line without an end must not fill the memory."""


def serve(arguments: Sequence[str]) -> int:
    """Runs MLflow's server to its end and returns its exit code. A signal that ends this process ends the server."""
    command = [sys.executable, "-m", "mlflow", "server", *arguments]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _: server.send_signal(received))
    assert server.stdout is not None
    while line := server.stdout.readline(LINE_CHARACTERS):
        sys.stdout.write(redacted(line))
        sys.stdout.flush()
    return server.wait()


if __name__ == "__main__":
    code = serve(sys.argv[1:])
    raise SystemExit(code if code >= 0 else 128 - code)
