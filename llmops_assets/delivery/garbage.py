"""Garbage collection: a thin shell over `llmops_assets.domain.garbage`, for `llmops gc` and the nightly job.

Each kind of state is collected by its own rule and lock, so that runs, sensors and endpoints keep working meanwhile:
artifacts through leases in the store, files of this machine as `local_garbage` says. Whatever cannot be judged stays,
and the report says why.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import dagster as dg

from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.config.yaml_validation import ConfigError
from llmops_assets.delivery.garbage_report import Item, Report
from llmops_assets.delivery.local_garbage import LocalGarbage
from llmops_assets.delivery.notifications import forget_told
from llmops_assets.delivery.references import find_baseline
from llmops_assets.delivery.tombstones import Tombstones
from llmops_assets.domain.garbage import Claim, Inventory, find_live, find_roots, find_unused, known_artifacts
from llmops_assets.domain.keys import short
from llmops_assets.machine.locks import alone_now
from resources.artifact_store.owners import Owner
from resources.artifact_store.store import StoreDenied
from resources.assembly import Clients
from resources.project_source.errors import SourceError


class Busy(Exception):
    """Another garbage collection is running."""


def _shared(url: str, others: Iterable[Owner], foreign: int) -> str:
    """Why nothing of a store is collected that another ledger uses, or has used."""
    signs = [str(owner) for owner in others]
    signs += [f"{foreign} artifacts are older than this ledger and unknown to it"] if foreign else []
    return (
        f"all artifacts in {url} stay, because another ledger may need them: {'; '.join(signs)}. Remedy: give each "
        "ledger its own `store`; if no other ledger uses it any more, `llmops gc --sole-ledger` says so, once"
    )


class Collector:
    """One garbage collection of one home.

    Args:
        instance: Dagster's, which knows the runs that have ended.
        dry_run: only report.
        sole_ledger: a person says that no other ledger uses the store any more: the markers of others are removed,
            and what this ledger does not know is collected too.
        clock: a later time shows what will be collected then.
        temporary: the folder of temporary folders; None: the operating system's.
    """

    def __init__(
        self,
        clients: Clients,
        instance: dg.DagsterInstance,
        dry_run: bool = False,
        clock: Callable[[], float] = time.time,
        temporary: Path | None = None,
        sole_ledger: bool = False,
    ):
        self.clients, self.instance, self.dry_run, self.sole_ledger = clients, instance, dry_run, sole_ledger
        self.home, self.rules, self.now = clients.settings.home, clients.settings.gc, clock()
        self.unused_since = self.now - self.rules.grace
        self.local = LocalGarbage(clients, self.now, dry_run, temporary)
        self.left = self.local.left

    def run(self) -> Report:
        """Collects everything that may go.

        Raises:
            Busy: another garbage collection of this home is running.
        """
        with alone_now(self.home / "gc.lock") as held:
            if not held:
                raise Busy(f"another garbage collection of {self.home} is running; try again when it has ended")
            # Read first: what is committed later is also used later, and a use protects it.
            inventory = self._inventory()
            needed = self._needed()
            items = list(self._artifacts(inventory, needed))
            items += self.local.collect(self._busy(inventory), needed)
            items += self._rows(inventory)
            if not self.dry_run:
                self._repack()
        roots = find_live(inventory, self.rules, self.now).reasons
        return Report(dry_run=self.dry_run, items=tuple(items), roots=roots, left=tuple(self.left))

    def _busy(self, inventory: Inventory) -> set[str]:
        """The revisions of requests that have not ended."""
        roots = find_roots(inventory, self.rules, self.now)
        return {root.revision for root in roots if root.revision and root.why.startswith("its request is")}

    # -- results and their artifacts --------------------------------------------------------------------------------

    def _inventory(self) -> Inventory:
        found, serving = self.clients.ledger.inventory(), self.clients.serving
        engines = [
            Claim(why=f"an engine of {environment} runs it", project=p.name, release=release)
            for p in self.clients.settings.projects
            for environment in ("staging", "production")
            for release in serving.deployed(p.name, environment)
        ]
        named = [claim for p in self.clients.settings.projects for claim in self._baselines(p)]
        return found.model_copy(update={"claims": (*found.claims, *engines, *named)})

    def _baselines(self, project: ProjectSource) -> Iterator[Claim]:
        """The releases that gates compare with: of the head, of what production serves, and of open requests."""
        source, ledger = self.clients.sources(project), self.clients.ledger
        revisions = {r.revision for r in ledger.requests(project.name) if r.active or r.status == "waiting"}
        if serving := ledger.serving(project.name, "production"):
            revisions.add(serving.revision)
        with suppress(SourceError):  # never fetched
            revisions |= {head} if (head := source.git.head()) else set()
        for revision in sorted(revisions):
            with suppress(ConfigError, SourceError):  # no gates can be read, so none will be judged
                names = dict.fromkeys(g.baseline for g in source.at(revision, served=True).policy.gates if g.baseline)
                for found in filter(None, (find_baseline(source, ledger, name) for name in names if name)):
                    release = found[1] if found[1] != found[0] else None
                    yield Claim(why="a gate's baseline", project=project.name, revision=found[0], release=release)

    def _needed(self) -> set[str] | None:
        """Keys of the results that open requests and branch heads resolve to; None if they cannot be known now."""
        keys: set[str] = set()
        for project in self.clients.settings.projects:
            source = self.clients.sources(project)
            open_ = [r for r in self.clients.ledger.requests(project.name) if r.active or r.status == "waiting"]
            head = None
            with suppress(SourceError):  # never fetched: then there is no head to protect
                head = source.git.head()
            for revision in {r.revision for r in open_} | ({head} if head else set()):
                try:
                    keys |= set(self.clients.ledger.resolve(source.at(revision).values).keys.values())
                except (ConfigError, SourceError) as error:
                    if revision == head and not open_:
                        continue  # an invalid llmops.yaml at the head: nothing can run there
                    self.left.append(f"all results stay, because an open request cannot be read: {error}")
                    return None
        return keys

    def _artifacts(self, inventory: Inventory, needed: set[str] | None) -> Iterator[Item]:
        store, began = self.clients.store, self.clients.ledger.began()
        if needed is None:
            return
        try:
            if store.require() and not self.dry_run:
                store.note_ledger(alone=self.sole_ledger)
            others = [] if self.sole_ledger else store.other_ledgers()
            stored = store.stored()
            touched = [s.identity for s in stored if store.last_use(s) >= self.unused_since]
        except (StoreDenied, OSError) as error:
            self.left.append(f"the store is left alone: {error}")
            return
        live = find_live(inventory, self.rules, self.now, needed, touched)
        known, unused = known_artifacts(inventory), find_unused(inventory, live)
        foreign = [s for s in stored if s.identity not in known and (began is None or s.uploaded < began)]
        if others or (foreign and not self.sole_ledger):
            # Neither knows what the other needs, not even of the artifacts that both know.
            self.left.append(_shared(store.url, others, len(foreign)))
            return
        tombstones = Tombstones(self.instance, self.clients)
        unused_for = f"not used for {self.rules.keep_unused / 86400:g} days, and not among the last releases served"
        for one in stored:
            if one.identity in live.artifacts:
                continue
            of_this = [r for r in unused if r.made == one.identity]
            freed = one.size if self.dry_run else store.collect(one.identity, self.unused_since)
            if freed is None:
                continue  # used a moment ago
            if not self.dry_run:
                self.clients.ledger.bury([(r, freed) for r in of_this], unused_for)
                for result in of_this:
                    tombstones.tell(result, self.now, unused_for)
            for result in of_this:
                name = f"{result.stage} of {result.project} {short(result.revision)}"
                yield Item(kind="result", name=name, bytes=freed, why=unused_for)
                freed = 0  # several results may share an artifact
            if not of_this:
                why = "no result needs it any more" if one.identity in known else "left by a run that was killed"
                yield Item(kind="artifact", name=short(one.identity), bytes=freed, why=why)
        self.left += [tombstones.fault] if tombstones.fault else []

    # -- ledger and mirrors -----------------------------------------------------------------------------------------

    def _rows(self, inventory: Inventory) -> Iterator[Item]:
        ledger = self.clients.ledger
        keep = {(r.project, r.revision) for r in find_roots(inventory, self.rules, self.now) if r.revision}
        ended = [run for run in ledger.pinned_runs() if self._has_ended(run)]
        counts = ledger.prune(self.now - self.rules.keep_lineage, frozenset(keep), ended, self.dry_run)
        told = {"edges": "lineage of revisions that nobody uses", "pins": "revisions of runs that have ended"}
        told["notifications"] = f"delivered over {self.rules.keep_logs / 86400:g} days ago"
        before = self.now - self.rules.keep_logs
        counts["notifications"] = sum(
            forget_told(p, self.clients, before, self.dry_run) for p in self.clients.settings.projects
        )
        for table, count in ((table, count) for table, count in counts.items() if count):
            yield Item(kind="ledger", name=f"{count} rows of {table}", bytes=0, why=told[table])

    def _has_ended(self, run_id: str) -> bool:
        run = self.instance.get_run_by_id(run_id)
        return run is not None and run.is_finished  # unknown: perhaps this is not the instance that runs it

    def _repack(self) -> None:
        for project in self.clients.settings.projects:
            try:
                self.clients.sources(project).git.repack()
            except SourceError as error:
                self.left.append(f"the mirror of {project.name} was not packed: {error}")
