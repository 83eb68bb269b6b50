"""Runs a project's command in a container of its image, apart from everything else.

Files go in and out by copying, so the daemon may be on another machine. The container has no network, a read-only root,
no capabilities, the user nobody, and limits on memory, processes and time. If this process is killed, its container may
go on: its deadline is in a label, and the next run removes containers that are over theirs.
"""

import io
import subprocess
import tarfile
import time
from pathlib import Path

from llmops_assets.machine.isolation import Ended
from llmops_assets.programs.images.docker_client import SHORT_S, DockerClient
from llmops_assets.programs.images.interface import INSIDE, BuilderFault, RunRequest

UNTIL = "llmops.until"
"""Label: epoch seconds after which nobody waits for the container."""
PULL_S = 3600.0
NOBODY = "65534:65534"
MOST_WRITTEN = 256 * 2**20
"""Bytes of all files in `out`; and of any file that the container writes, four times as many."""


def run_in_container(docker: DockerClient, reference: str, request: RunRequest) -> Ended:
    """See `ImageBuilder.run`."""
    _remove_overdue(docker)
    _readable(request.folder)
    limits = request.limits
    until = int(time.time() + limits.seconds + PULL_S)
    program, *arguments = request.command
    container = docker.docker(
        [
            *("create", "--interactive", "--network", "none", "--read-only", "--cap-drop", "ALL"),
            *("--security-opt", "no-new-privileges", "--user", NOBODY, "--log-driver", "none", "--hostname", "project"),
            *("--memory", str(limits.memory), "--memory-swap", str(limits.memory)),
            *("--pids-limit", str(limits.processes), "--ulimit", "core=0", "--ulimit", f"fsize={4 * MOST_WRITTEN}"),
            *("--tmpfs", "/tmp:size=1g,mode=1777", "--volume", str(INSIDE), "--workdir", str(INSIDE / "tree")),
            *("--label", f"{UNTIL}={until}"),
            *(word for name, value in request.environment.items() for word in ("--env", f"{name}={value}")),
            *("--entrypoint", program, reference, *arguments),
        ],
        PULL_S,
    )
    try:
        docker.docker(["cp", f"{request.folder}/.", f"{container}:{INSIDE}"], SHORT_S * 10)
        ended = _run(docker, container, request)
        _fetch(docker, container, request.folder / "out")
        return ended
    finally:
        docker.docker(["rm", "--force", "--volumes", container], SHORT_S, check=False)


def _run(docker: DockerClient, container: str, request: RunRequest) -> Ended:
    began, limit = time.monotonic(), None
    with request.log.open("wb") as log:
        process = subprocess.Popen(
            [docker.client, "start", "--attach", "--interactive", container],
            env=docker.whole_environment(),
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            process.communicate(request.given, timeout=request.limits.seconds)
        except subprocess.TimeoutExpired:
            limit = "seconds"
            docker.docker(["kill", container], SHORT_S, check=False)
            process.wait()
    state = docker.docker(
        ["inspect", "--format", "{{.State.ExitCode}} {{.State.OOMKilled}} {{.State.Error}}", container], SHORT_S
    )
    code, killed, *error = state.split(" ", 2)
    if error and error[0].strip():
        raise BuilderFault(f"the command could not be started in the image: {error[0].strip()[:300]}")
    return Ended(
        code=int(code), limit=limit or ("memory" if killed == "true" else None), seconds=time.monotonic() - began
    )


def _fetch(docker: DockerClient, container: str, out: Path) -> None:
    """Copies the files that the command left in `out`: regular ones, up to a number of bytes."""
    process = subprocess.Popen(
        [docker.client, "cp", f"{container}:{INSIDE / 'out'}/.", "-"],
        env=docker.whole_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    try:
        content = process.stdout.read(MOST_WRITTEN + 1)
    finally:
        process.kill()
        process.wait()
    if len(content) > MOST_WRITTEN:
        return  # its result is missing, which the caller reports
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        for entry in tar:
            name = Path(entry.name)
            if (
                not entry.isreg()
                or name.is_absolute()
                or ".." in name.parts
                or (source := tar.extractfile(entry)) is None
            ):
                continue
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).write_bytes(source.read())


def _readable(folder: Path) -> None:
    """Lets the user nobody read the copy and write to `out`; docker copies modes, and makes root the owner."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | (0o555 if path.is_dir() else 0o444))
    (folder / "out").chmod(0o777)


def _remove_overdue(docker: DockerClient) -> None:
    listed = docker.docker(
        ["ps", "--all", "--filter", f"label={UNTIL}", "--format", '{{.ID}} {{.Label "' + UNTIL + '"}}'], SHORT_S
    )
    for line in listed.splitlines():
        name, _, until = line.partition(" ")
        if until.isdigit() and int(until) < time.time():
            docker.docker(["rm", "--force", "--volumes", name], SHORT_S, check=False)
