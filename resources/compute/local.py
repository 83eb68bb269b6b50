"""Runs programs as local subprocesses that outlive the run that started them: submit or adopt, poll, cancel.

A job's name is derived from its key, so the same work is never done twice: a second submission adopts the running job.
Its folder holds spec.json, log.txt, messages.jsonl, result.json (written last) and an `alive` file that the program's
keeper (`llmops_assets.machine.keeper`) keeps locked, and with it the slot of a heavy program. The kernel releases both
when nothing of the program is left, whether or not a run still waits for it: no stale pid can be mistaken for a
program, nor a process that it has left behind.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import Self

import psutil

from llmops_assets.config.settings import Settings
from llmops_assets.domain.formatting import time_span
from llmops_assets.domain.keys import short
from llmops_assets.machine import keeper
from llmops_assets.machine.disk_space import DiskFull, full, has_no_room, says_full
from llmops_assets.machine.forked import Forked
from llmops_assets.machine.locks import is_locked, take_now
from llmops_assets.machine.processes import PASSIVE_OPENMP
from llmops_assets.programs.runtime.errors import DISK_FULL, KINDS, BadInput
from llmops_assets.programs.runtime.hardware import noted_hardware
from resources.compute.interface import Finished, Job, OnProgress, ProgramError, TimeLimitReached
from resources.compute.job_folder import process_of, tail_of, written
from resources.compute.pipes import forward_progress, pipes_environment, reported_metadata
from resources.compute.preloading import Preloading
from resources.compute.slots import heavy_slot

ALLOWED_ENVIRONMENT = (
    "PATH",
    "PYTHONPATH",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
    "CUDA_VISIBLE_DEVICES",
    "LD_LIBRARY_PATH",
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "HF_HOME",
    "HF_ENDPOINT",
)
"""Environment variables that are passed to programs. No credentials: a project's own code runs there."""


LIMIT = "limit.json"
"""The keeper writes it when it ends a program that has reached its time limit."""
Program = subprocess.Popen[bytes] | Forked
"""A program that this process has started, and whose exit code it receives."""


class LocalCompute:
    """Subprocesses on this machine, or in this pod.

    Args:
        one_heavy: heavy programs wait for each other. Not in pods: the scheduler assigns their resources, and all pods
            that share a home would wait for one.
        preload: heavy programs are forked from a process that has imported their libraries. Not in pods: a pod runs
            only one program.
    """

    def __init__(
        self,
        home: Path,
        threads: int | None = None,
        poll_s: float = 0.2,
        one_heavy: bool = True,
        preload: bool = False,
    ):
        self.jobs, self.threads, self.poll_s, self.one_heavy = home / "jobs", threads, poll_s, one_heavy
        self.preload, self._preloading = preload, Preloading(home)

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        local = settings.profile == "local"
        return cls(settings.home, settings.compute.threads, one_heavy=local, preload=local and settings.compute.preload)

    def folder(self, name: str) -> Path:
        return self.jobs / name

    def run(self, job: Job, on_progress: OnProgress | None = None) -> Finished:
        """Submits the job or adopts the running one, and waits for its result.

        Raises:
            BadInput: the program reported invalid input.
            DiskFull: the program ran out of space, or there is none to start it.
            TimeLimitReached: it did not end in time.
            ProgramError: it ended without a result: killed, out of memory, or a bug.
        """
        folder = self.folder(job.name)
        began = time.monotonic()
        with ExitStack() as connections:
            needs = job.heavy and self.one_heavy
            with self._slot(folder, on_progress) if needs else nullcontext() as slot:
                folder.mkdir(parents=True, exist_ok=True)
                preloaded = connections.enter_context(self._preloaded(job, folder))
                folder.mkdir(parents=True, exist_ok=True)  # the last holder of the slot may have deleted it
                process, adopted = self._submit_or_adopt(job, folder, preloaded, slot)
            try:
                self._wait(folder, process, on_progress)
            except BaseException as error:
                # The run was cancelled: cancel its program. After our own error it stays, to be adopted.
                if not isinstance(error, Exception):
                    self.cancel(job.name)
                raise
        return self._collect(job, folder, process, adopted, time.monotonic() - began)

    def _preloaded(self, job: Job, folder: Path) -> AbstractContextManager[socket.socket | None]:
        """Connects before the job is locked: that can take seconds, and a locked job looks like a running one."""
        if not self.preload or is_locked(folder / "alive") or (folder / "result.json").exists():
            return nullcontext()
        return self._preloading.connection(job.program, self.environment(folder), folder / "log.txt")

    def _wait(self, folder: Path, process: Program | None, on_progress: OnProgress | None) -> None:
        seen = 0
        while True:
            running = process is not None and process.poll() is None
            if process is None or (isinstance(process, Forked) and process.lost):
                running = is_locked(folder / "alive")
            seen = forward_progress(folder, seen, on_progress)
            if not running:
                break
            time.sleep(self.poll_s)
        forward_progress(folder, seen, on_progress)

    def _submit_or_adopt(
        self, job: Job, folder: Path, preloaded: socket.socket | None, slot: int | None
    ) -> tuple[Program | None, bool]:
        descriptor = os.open(folder / "alive", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            while not take_now(descriptor):
                # If it is taken but not locked, another process only looked at it, and has released it by now.
                if is_locked(folder / "alive"):
                    return None, True  # the program's keeper holds it: adopt
            if (folder / "result.json").exists():
                return None, True  # it finished without an observer
            for stale in ("error.json", LIMIT):
                (folder / stale).unlink(missing_ok=True)
            spec = folder / "spec.json"
            spec.write_text(json.dumps(job.spec, indent=1))
            held = [descriptor] if slot is None else [descriptor, slot]
            process = self._start(job, folder, spec, held, preloaded)
            (folder / "pid").write_text(str(process.keeper if isinstance(process, Forked) else process.pid))
            if isinstance(process, Forked):
                process.begin()
            return process, False
        finally:
            os.close(descriptor)

    def _start(self, job: Job, folder: Path, spec: Path, held: list[int], preloaded: socket.socket | None) -> Program:
        module, arguments = job.module, ["--spec", str(spec), "--output", str(folder)]
        environment = self.environment(folder) | pipes_environment(job, folder)
        environment |= {name: os.environ[name] for name in job.secrets if name in os.environ}
        # The locks' descriptors go to the keeper; closing ours leaves it as their only holder.
        with (folder / "log.txt").open("ab") as log:
            if preloaded is not None:
                forked = self._preloading.start(
                    preloaded,
                    module,
                    arguments,
                    folder,
                    environment,
                    log.fileno(),
                    held,
                    job.time_limit_s,
                    folder / LIMIT,
                )
                if forked is not None:
                    return forked
            limit = [] if job.time_limit_s is None else ["--seconds", str(job.time_limit_s)]
            holds = [word for descriptor in held for word in ("--hold", str(descriptor))]
            keep = [sys.executable, "-I", "-S", keeper.__file__, "--told", str(folder / LIMIT), *limit, *holds, "--"]
            return subprocess.Popen(
                [*keep, sys.executable, "-m", module, *arguments],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=held,
            )

    def environment(self, folder: Path) -> dict[str, str]:
        """The program's environment: our allowed variables, its own HOME, no telemetry of the hub."""
        env = {k: os.environ[k] for k in ALLOWED_ENVIRONMENT if k in os.environ}
        home = folder / "home"
        home.mkdir(exist_ok=True)
        env |= {"HOME": str(home), "PYTHONUNBUFFERED": "1", "HF_HUB_DISABLE_TELEMETRY": "1", **PASSIVE_OPENMP}
        if self.threads:
            env["OMP_NUM_THREADS"] = str(self.threads)
        return env

    def _collect(self, job: Job, folder: Path, process: Program | None, adopted: bool, seconds: float) -> Finished:
        result, error = folder / "result.json", folder / "error.json"
        if result.exists():
            used = noted_hardware(folder)
            return Finished(
                result=written(result),
                hardware=used.hardware if used else "",
                gpu_memory_bytes=used.gpu_memory_bytes if used else None,
                folder=str(folder),
                seconds=seconds,
                adopted=adopted,
                metadata=reported_metadata(folder),
            )
        if error.exists():
            value = written(error)
            kind = KINDS.get(str(value.get("error")), BadInput)
            raise kind(str(value.get("message", "no reason given")), str(value.get("where", "")))
        if (folder / LIMIT).exists():
            stage = job.asset.rpartition("/")[2] or job.program
            setting = "compute.ci_timeout" if stage == "ci_report" else f"compute.time_limits.{stage}"
            within = json.loads((folder / LIMIT).read_text())["value"]
            raise TimeLimitReached(
                f"{job.program} did not end within {time_span(within)}, and was ended with everything that it "
                f"had started; its log is {folder / 'log.txt'}. Remedy: raise {setting} in the "
                "settings, then `llmops retry`; a training resumes from its last complete checkpoint"
            )
        code = process.returncode if process is not None else None
        tail = tail_of(folder / "log.txt")
        if code == DISK_FULL or (code is None and (has_no_room(folder) or says_full(tail))):
            raise DiskFull(full(f"what {job.program} writes", folder))
        if code is not None and code < 0:
            name = signal.Signals(-code).name
            hint = " (the kernel's out-of-memory killer uses it too)" if name == "SIGKILL" else ""
            how = f"was killed by {name}{hint}"
        elif code is None:
            how = "ended without a result"
        else:
            how = f"ended with exit code {code}"
        raise ProgramError(f"{job.program} {how}; its log is {folder / 'log.txt'}\n{tail}")

    def _slot(self, folder: Path, on_progress: OnProgress | None) -> AbstractContextManager[int | None]:
        def settled() -> bool:
            return is_locked(folder / "alive") or (folder / "result.json").exists()

        return heavy_slot(self.jobs / ".slot", settled, self.poll_s, on_progress)

    def cancel(self, name: str) -> bool:
        """Ends the job with everything that it has started; True if it was running."""
        folder = self.folder(name)
        if not is_locked(folder / "alive"):
            return False
        try:
            os.kill(int((folder / "pid").read_text()), signal.SIGTERM)
        except (FileNotFoundError, ValueError, ProcessLookupError):
            return False
        return True

    def cancel_all(self) -> list[str]:
        """Ends every job, and the preloaded processes; returns the jobs' names."""
        ended = self._end([f.name for f in sorted(self.jobs.glob("*")) if f.is_dir()])
        self._preloading.end()
        return ended

    def cancel_work(self, keys: Iterable[str]) -> list[str]:
        """Ends every job of these keys; returns their names."""
        ends = {short(key) for key in keys}
        return self._end([f.name for f in sorted(self.jobs.glob("*-*")) if f.name.rsplit("-", 1)[1] in ends])

    def _end(self, names: list[str]) -> list[str]:
        names = [name for name in names if self.cancel(name)]
        gone = [p for n in names if (p := process_of(self.folder(n)))]
        _, alive = psutil.wait_procs(gone, timeout=10)
        for process in alive:
            process.kill()
        return names

    def clean(self, name: str) -> None:
        """Deletes a job's folder, once its result is safe in store and ledger."""
        if not is_locked(self.folder(name) / "alive"):
            shutil.rmtree(self.folder(name), ignore_errors=True)

    def ended(self) -> list[str]:
        """The names of all jobs that have a folder and are not running."""
        return [f.name for f in sorted(self.jobs.glob("*-*")) if f.is_dir() and not is_locked(f / "alive")]
