"""Builds images with BuildKit at a Docker daemon, by its command line: the daemon keeps the cache between builds.

What is between a project's RUN and the daemon's machine is the daemon's container: its own namespaces, Docker's
capabilities and seccomp profile, and no network. It is root inside; a daemon that is rootless, or remaps users, is the
stronger wall. The build gets no secret and no agent, and is ended with its client.
"""

import re
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from llmops_assets.domain.dockerfile import bases, line_of
from llmops_assets.domain.formatting import excerpt
from llmops_assets.machine.isolation import Ended
from llmops_assets.machine.redaction import redacted
from llmops_assets.programs.images.build_log import Failed, failed_step, progress_of
from llmops_assets.programs.images.docker_client import SHORT_S, DockerClient
from llmops_assets.programs.images.docker_run import run_in_container
from llmops_assets.programs.images.interface import BuilderFault, BuildRequest, Built, RunRequest, Tell
from llmops_assets.programs.runtime.errors import BadInput

POLL_S, LONG_S = 0.5, 3600.0
MOST_LOG = 2**28
"""Bytes that a build may print."""
_DIGEST = re.compile(r"digest: (sha256:[0-9a-f]{64})")
_NOT_THERE = (
    *("Cannot connect to the Docker daemon", "error during connect", "docker daemon is not running"),
    *("permission denied while trying to connect", "buildx component is missing"),
)
_TRANSIENT = (
    *("failed to do request", "dial tcp", "i/o timeout", "TLS handshake", "connection refused", "connection reset"),
    *("toomanyrequests", "503 Service", "502 Bad", "500 Internal", "no space left on device", "rpc error"),
)
"""In the builder's own last line: faults of registry, network or daemon."""


class DockerBuilder(DockerClient):
    def run(self, reference: str, request: RunRequest) -> Ended:
        return run_in_container(self, reference, request)

    # -- building ---------------------------------------------------------------------------------------------------

    def build(self, request: BuildRequest, tell: Tell) -> Built:
        found = self.folder / "image-id"
        found.unlink(missing_ok=True)
        words = [
            *(self.client, "build", "--network", self.spec.network, "--file", str(request.dockerfile)),
            *("--iidfile", str(found), "--force-rm"),
            *(["--target", request.target] if request.target else []),
            *(word for name, value in request.args.items() for word in ("--build-arg", f"{name}={value}")),
            *(word for name, value in request.labels.items() for word in ("--label", f"{name}={value}")),
            str(request.context),
        ]
        code = self._watch(words, request, tell)
        if code or not found.is_file():
            raise self._why(request, code)
        image_id = found.read_text().strip()
        size = int(self.docker(["image", "inspect", "--format", "{{.Size}}", image_id], SHORT_S))
        if size > self.spec.max_size:
            self.docker(["image", "rm", "--force", image_id], SHORT_S, check=False)
            raise BadInput(
                f"the image has {_gib(size)}, and at most {_gib(self.spec.max_size)} are allowed (images.max_size); "
                "leave out what it does not need",
                request.name,
            )
        return Built(image_id, size)

    def _watch(self, words: Sequence[str], request: BuildRequest, tell: Tell) -> int:
        """Runs the build to its end, or ends it with its client when the builder's disk fills up."""
        disk = self._disk()
        free = _free(disk)
        with request.log.open("wb") as log:
            process = subprocess.Popen(
                words, env=self.whole_environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
            try:
                while process.poll() is None:
                    time.sleep(POLL_S)
                    if step := progress_of(request.log):
                        tell(step)
                    if request.log.stat().st_size > MOST_LOG:
                        raise BadInput(
                            f"the build printed more than {_gib(MOST_LOG)}; {self._at(request)}", request.name
                        )
                    if free is not None and (now := _free(disk)) is not None and free - now > self.spec.max_disk:
                        raise BadInput(
                            f"the build filled the builder's disk by more than {_gib(self.spec.max_disk)} "
                            f"(images.max_disk), and was ended; {self._at(request)}",
                            request.name,
                        )
            finally:
                _end(process)
        return process.returncode

    def _at(self, request: BuildRequest) -> str:
        return f"it was at {step}" if (step := progress_of(request.log)) else "it had not begun"

    def _disk(self) -> Path | None:
        """The daemon's folder, if it is on this machine."""
        if not self.spec.host.startswith("unix://"):
            return None
        root = Path(self.docker(["info", "--format", "{{.DockerRootDir}}"], SHORT_S))
        return root if root.is_dir() else None

    def _why(self, request: BuildRequest, code: int) -> Exception:
        failure = failed_step(request.log)
        if any(text in failure.message for text in _NOT_THERE):
            return BuilderFault(f"the builder at {self.spec.host} cannot be reached: {failure.message}")
        if any(text in failure.message for text in _TRANSIENT):
            return BuilderFault(f"the builder failed: {failure.message}")
        text = request.dockerfile.read_text(encoding="utf-8", errors="replace")
        line = (
            failure.line
            or (line_of(text, failure.step) if failure.step else None)
            or _base_line(text, request, failure)
        )
        where = f"{request.name}:{line}" if line else request.name
        said = f"; it said: {failure.output}" if failure.output else ""
        step = f"{excerpt(failure.step, 200)}: " if failure.step else ""
        return BadInput(redacted(f"{step}{failure.message or f'exit code {code}'}{said}"), where)

    # -- pushing ----------------------------------------------------------------------------------------------------

    def push(self, built: Built, name: str) -> str:
        # The tag only carries the image there. Afterwards nothing reads it: what it means is the registry's to say.
        tag = f"{name}:llmops-{built.image_id.removeprefix('sha256:')[:24]}"
        self.docker(["image", "tag", built.image_id, tag], SHORT_S)
        match = _DIGEST.search(self.docker(["push", tag], LONG_S))
        if match is None:
            raise BuilderFault(f"{name}: the registry returned no digest of what was pushed")
        reference = f"{name}@{match[1]}"
        self.docker(["pull", "--quiet", reference], LONG_S)  # the daemon verifies the content against the digest
        there = self.docker(["image", "inspect", "--format", "{{.Id}}", reference], SHORT_S)
        if there != built.image_id:
            raise BuilderFault(
                f"{reference}: the registry holds another image ({there[:19]}) than the one that was built "
                f"({built.image_id[:19]}); nothing was recorded"
            )
        return match[1]


def _base_line(text: str, request: BuildRequest, failure: Failed) -> int | None:
    """The line that names the base image which could not be had."""
    named = bases(text, request.args)
    return next((line for line, image in named if failure.base and image in failure.base), None)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Ends the client, and with it the build: the daemon ends what its client no longer waits for."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free(folder: Path | None) -> int | None:
    return shutil.disk_usage(folder).free if folder is not None else None


def _gib(size: int) -> str:
    return f"{size / 2**30:.3g} GiB"
