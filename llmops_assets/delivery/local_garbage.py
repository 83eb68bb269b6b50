"""What garbage collection may delete on this machine: caches, old programs, logs and temporary folders.

Each is collected under its own lock, or by the time of its last use, so that runs keep working meanwhile.
"""

import os
import tempfile
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from llmops_assets.delivery.garbage_report import Item
from llmops_assets.domain.keys import short
from llmops_assets.machine.locks import alone_now
from llmops_assets.machine.old_files import delete, freed_by, last_change, take_away, unlinked
from resources.artifact_store.store import cache_lock
from resources.assembly import Clients
from resources.project_environments.environments import ENVIRONMENTS, ProjectEnvironments
from resources.project_source import dvc
from resources.project_source.exports import drop_export

TEMPORARY = ("llmops-metrics-*", "llmops-model-*")
"""Temporary folders of evaluation and registration, which a killed process leaves behind."""


class LocalGarbage:
    """The files of one home and its machine.

    Args:
        now: in epoch seconds.
        dry_run: only report.
        temporary: the folder of temporary folders; None: the operating system's.
    """

    def __init__(self, clients: Clients, now: float, dry_run: bool, temporary: Path | None = None):
        self.clients, self.now, self.dry_run = clients, now, dry_run
        self.home, self.rules = clients.settings.home, clients.settings.gc
        self.unused_since = now - self.rules.grace
        self.temporary = temporary or Path(tempfile.gettempdir())
        self.left: list[str] = []
        """What could not be judged."""

    def collect(self, busy: Collection[str], needed: Collection[str] | None) -> Iterator[Item]:
        """Collects everything that may go.

        Args:
            busy: revisions whose work trees stay.
            needed: keys of results that open requests resume; None: unknown, so every program's output stays.
        """
        yield from self._store_cache()
        yield from self._work_trees(busy)
        yield from self._dvc_cache()
        yield from self._environments()
        if needed is not None:
            yield from self._jobs(needed)
        yield from self._logs()
        yield from self._temporary()

    def _store_cache(self) -> Iterator[Item]:
        cache = self.clients.store.cache
        for folder in [] if self.dry_run else cache.glob(".*.collected"):
            delete(folder)  # of a collection that was killed
        for folder in sorted(cache.glob("[0-9a-f]*")):
            if folder.stat().st_mtime < self.unused_since:
                size = freed_by(folder)
                if self.dry_run or take_away(folder, self.unused_since, cache_lock(cache)):
                    yield Item(kind="local copy", name=short(folder.name), bytes=size, why=self._idle)

    @property
    def _idle(self) -> str:
        return f"a cache, not used for {self.rules.grace / 3600:g} h"

    def _work_trees(self, busy: Collection[str]) -> Iterator[Item]:
        for tree in sorted((self.home / "work").glob("*/*")):
            if not tree.is_dir() or tree.name in busy:
                continue
            complete = tree.with_name(f"{tree.name}.complete")
            used = complete.stat().st_mtime if complete.exists() else tree.stat().st_mtime
            if used < self.unused_since:
                size = freed_by(tree)
                if self.dry_run or drop_export(tree, self.unused_since):
                    name = f"{tree.parent.name} {short(tree.name)}"
                    yield Item(kind="work tree", name=name, bytes=size, why=self._idle)

    def _dvc_cache(self) -> Iterator[Item]:
        cache, work = self.home / "dvc-cache", self.home / "work"
        if not cache.is_dir():
            return
        if work.is_dir() and cache.stat().st_dev != work.stat().st_dev:
            self.left.append(f"{cache} is on another disk than {work}, so it is unknown which files are in use")
            return
        with alone_now(dvc.cache_lock(cache)) as held:
            if not held:
                self.left.append(f"{cache} is in use by a pull")
                return
            found = unlinked(cache, self.unused_since)
            size = sum(freed_by(path) for path in found)
            if not self.dry_run:
                for path in found:
                    delete(path)
        if found:
            yield Item(kind="DVC cache", name=f"{len(found)} files", bytes=size, why="in no work tree")

    def _environments(self) -> Iterator[Item]:
        environments = ProjectEnvironments(self.home / ENVIRONMENTS)
        for folder in environments.unused(self.unused_since):
            size = freed_by(folder)
            if self.dry_run or environments.drop(folder, self.unused_since):
                yield Item(kind="environment", name=folder.name[:12], bytes=size, why=self._idle)
        cache = environments.cache
        if cache.is_dir() and cache.stat().st_mtime < self.unused_since:
            size = freed_by(cache)
            if self.dry_run or take_away(cache, self.unused_since, environments.cache_lock):
                yield Item(kind="packages", name=str(cache.relative_to(self.home)), bytes=size, why=self._idle)

    def _jobs(self, needed: Collection[str]) -> Iterator[Item]:
        resumed, compute = {short(key) for key in needed}, self.clients.compute
        for name in compute.ended():
            folder = self.home / "jobs" / name
            if name.rsplit("-", 1)[-1] in resumed or last_change(folder) >= self.now - self.rules.keep_logs:
                continue
            size = freed_by(folder)
            if not self.dry_run:
                compute.clean(name)
            why = f"it ended over {self.rules.keep_logs / 86400:g} days ago"
            yield Item(kind="program", name=name, bytes=size, why=why)

    def _logs(self) -> Iterator[Item]:
        dagster = Path(os.environ.get("DAGSTER_HOME") or self.home / "dagster")
        logs = [*(self.home / "services").glob("run-*.log"), *(dagster / "storage").glob("*/compute_logs")]
        yield from self._old(sorted(logs), "log", self.now - self.rules.keep_logs, "an old log")

    def _temporary(self) -> Iterator[Item]:
        found = (p for pattern in TEMPORARY for p in sorted(self.temporary.glob(pattern)) if _is_ours(p))
        yield from self._old(found, "temporary folder", self.unused_since, "left by a killed process")

    def _old(self, paths: Iterable[Path], kind: str, before: float, why: str) -> Iterator[Item]:
        for path in paths:
            if 0 < last_change(path) < before:
                name = str(path.relative_to(self.home)) if path.is_relative_to(self.home) else str(path)
                item = Item(kind=kind, name=name, bytes=freed_by(path), why=why)
                if not self.dry_run:
                    delete(path)
                yield item


def _is_ours(path: Path) -> bool:
    try:
        return path.lstat().st_uid == os.getuid()
    except FileNotFoundError:  # its process has just ended
        return False
