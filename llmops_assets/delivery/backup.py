"""Backups of one home, taken while it is in use, and their restoration into an empty one.

The ledger is copied first, and everything that it names afterwards: artifacts are immutable, and garbage collection
waits meanwhile, so whatever the copied ledger names is in the copy. `backup.json` is written last; without it a backup
is incomplete. Caches, programs and Dagster's history are not part of a backup: they are made again.
"""

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from llmops_assets.domain.formatting import at_time, size
from llmops_assets.machine.files import write_atomically
from llmops_assets.machine.locks import alone, alone_now
from llmops_assets.machine.sqlite_files import copy_database
from resources.artifact_store.artifact import MANIFEST, StoreError
from resources.artifact_store.transfer import upload_local, write_manifest_local
from resources.assembly import Clients
from resources.ledger import Ledger
from resources.ledger.backup import SQLITE, copy_ledger

MLFLOW, CONTENTS, FORMAT = "mlflow.sqlite", "backup.json", 1


class CannotBackUp(Exception):
    """The backup or restoration was refused, or is incomplete; the message names the remedy."""


class Backup(BaseModel):
    """backup.json."""

    format: int = FORMAT
    at: float = Field(description="When the ledger was copied: epoch seconds.")
    home: str
    ledger: str | None = Field(description="File name of the ledger's copy.")
    mlflow: str | None
    artifacts: int | None = Field(description="Number of artifacts; None: they are in object storage.")
    audit_head: str = Field(description="Last hash of the audit trail.")
    missing: tuple[str, ...] = Field(default=(), description="What is not in the backup, and where to back it up.")


def back_up(clients: Clients, folder: Path, say: Callable[[str], None], with_ledger: bool = True) -> Backup:
    """Copies ledger, MLflow, store and mirrors into a folder, or brings an earlier backup there up to date.

    Raises:
        CannotBackUp: the folder holds something else, or garbage collection is running.
        LedgerError: the ledger cannot be copied.
    """
    home = clients.settings.home
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if any(folder.iterdir()) and not (folder / CONTENTS).exists() and not (folder / f"{CONTENTS}.begun").exists():
        raise CannotBackUp(f"{folder} is not empty and no backup; name a new folder, or one with an earlier backup")
    (folder / f"{CONTENTS}.begun").touch()
    (folder / CONTENTS).unlink(missing_ok=True)
    with alone_now(home / "gc.lock") as held:
        if not held:
            raise CannotBackUp("garbage collection is running; try again when it has ended")
        missing: list[str] = []
        at, head = clients.ledger.clock(), _head(clients.ledger)
        ledger = copy_ledger(clients.settings.ledger_url, folder) if with_ledger else None
        if ledger is None:
            missing.append("the ledger: left out, as you asked; copy it before everything else")
        say(f"ledger: {ledger or 'left out'}")
        mlflow = _copy_mlflow(clients, folder, missing)
        say(f"MLflow: {mlflow or 'not copied'}")
        artifacts = _copy_artifacts(clients, folder, missing, say)
        _copy_mirrors(home, folder)
    for name in ("serving/state.json", "serving/keys.json", "settings.yaml"):
        if (home / name).is_file():
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(home / name, folder / name)
    found = Backup(
        at=at,
        home=str(home),
        ledger=ledger,
        mlflow=mlflow,
        artifacts=artifacts,
        audit_head=head,
        missing=tuple(missing),
    )
    write_atomically(folder / CONTENTS, found.model_dump_json(indent=1))
    (folder / f"{CONTENTS}.begun").unlink()
    return found


def _head(ledger: Ledger) -> str:
    events = ledger.events()
    return str(events[-1]["hash"]) if events else ""


def _copy_mlflow(clients: Clients, folder: Path, missing: list[str]) -> str | None:
    uri = clients.settings.mlflow_uri
    if not uri.startswith("sqlite:///"):
        missing.append("MLflow: it is a server; back it up there")
        return None
    database = Path(uri.removeprefix("sqlite:///"))
    if not database.exists():
        return None
    try:
        copy_database(database, folder / MLFLOW)
    except (sqlite3.Error, OSError) as error:
        raise CannotBackUp(f"MLflow's database {database} cannot be copied: {error}") from error
    return MLFLOW


def _copy_artifacts(clients: Clients, folder: Path, missing: list[str], say: Callable[[str], None]) -> int | None:
    store = clients.store
    if not store.is_local:
        missing.append(f"artifacts: they are in {store.url}; use the replication or versioning of that storage")
        return None
    needed = {r.made for r in clients.ledger.inventory().results if r.made and not r.collected}
    there, copied = set(), 0
    for stored in store.stored():
        try:
            artifact = store.manifest(f"{store.url}/artifacts/{stored.identity}")
            source = store.fetch(artifact.uri, verify=False)
            target = folder / "store" / "artifacts" / artifact.digest
            if not (target / MANIFEST).exists():
                for file in artifact.files:
                    upload_local(source / file.path, file, target)
                write_manifest_local(target, (source / MANIFEST).read_bytes())
                copied += stored.size
        except (StoreError, FileNotFoundError):
            continue  # an upload in progress, which no result names yet; or damaged, which is reported below
        there.add(stored.identity)
    for marker in (path for path in store.folder.iterdir() if path.is_file()):
        shutil.copyfile(marker, folder / "store" / marker.name)
    for old in (folder / "store" / "artifacts").glob("*"):
        if old.name not in there:
            shutil.rmtree(old, ignore_errors=True)  # collected since the last backup into this folder
    if lost := needed - there:
        missing.append(f"{len(lost)} artifacts that the ledger names: they are damaged or missing in the store itself")
    say(f"store: {len(there)} artifacts, {size(copied)} of them new")
    return len(there)


def _copy_mirrors(home: Path, folder: Path) -> None:
    """Commits that a force-push took away exist only in the mirrors, and old releases refer to them."""
    for mirror in sorted((home / "mirrors").glob("*.git")):
        with alone(mirror.with_name(f"{mirror.name}.lock")):
            target = folder / "mirrors" / mirror.name
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(mirror, target)


def read_backup(folder: Path) -> Backup:
    """What a backup contains.

    Raises:
        CannotBackUp: it is none, or incomplete.
    """
    try:
        found = Backup.model_validate_json((folder / CONTENTS).read_bytes())
    except FileNotFoundError as error:
        cut = (folder / f"{CONTENTS}.begun").exists()
        why = "its backup was interrupted; run `llmops backup` again" if cut else f"it has no {CONTENTS}"
        raise CannotBackUp(f"{folder} is no complete backup: {why}") from error
    except ValidationError as error:
        raise CannotBackUp(f"{folder / CONTENTS} is not valid: {error.errors()[0]['msg']}") from error
    if found.format != FORMAT:
        raise CannotBackUp(f"{folder} has backup format {found.format}; this version reads {FORMAT}")
    return found


def restore(clients: Clients, folder: Path, say: Callable[[str], None]) -> Backup:
    """Restores a backup into an empty home.

    Raises:
        CannotBackUp: the home is not empty, the backup is incomplete, or a part of it cannot be restored from here.
    """
    backup, home = read_backup(folder), clients.settings.home
    taken = [n for n in (SQLITE, MLFLOW, "store", "mirrors", "serving/state.json") if (home / n).exists()]
    if clients.store.is_local and (clients.store.folder / "artifacts").exists() and "store" not in taken:
        taken.append(str(clients.store.folder))
    if taken:
        raise CannotBackUp(
            f"{home} is not empty ({', '.join(taken)}). Remedy: `llmops down`, move it away, or set LLMOPS_HOME to "
            "a new folder"
        )
    if backup.ledger != SQLITE or not clients.settings.ledger_url.startswith("sqlite:"):
        raise CannotBackUp(
            "a ledger on PostgreSQL is restored by `pg_restore --clean --if-exists --dbname DATABASE ledger.pgdump`; "
            "then put the other parts of the backup into the home folder"
        )
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name, target in (
        ("store", clients.store.folder if clients.store.is_local else None),
        ("mirrors", home / "mirrors"),
    ):
        if target is not None and (folder / name).is_dir():
            shutil.copytree(folder / name, target, dirs_exist_ok=True)
    for name in filter(None, (backup.mlflow, "serving/state.json", "serving/keys.json")):
        if (folder / name).is_file():
            (home / name).parent.mkdir(exist_ok=True, mode=0o700)
            shutil.copyfile(folder / name, home / name)
    _move_engines(home, backup.home)
    shutil.copyfile(folder / SQLITE, home / SQLITE)  # last: a home without a ledger counts as new
    count = clients.ledger.verify_audit()
    head = _head(clients.ledger)
    if head != backup.audit_head and not any(e["hash"] == backup.audit_head for e in clients.ledger.events()):
        raise CannotBackUp(f"the ledger in {folder} does not contain the audit trail that {CONTENTS} names")
    say(f"ledger: {count} audited events, as of {at_time(backup.at)}")
    say(f"store: {backup.artifacts if backup.artifacts is not None else 'in object storage, not part of the backup'}")
    return backup


def _move_engines(home: Path, before: str) -> None:
    """Engines load weights from the store by their full path, which begins with the home folder."""
    file = home / "serving" / "state.json"
    with suppress(FileNotFoundError):
        state: dict[str, Any] = json.loads(file.read_text())
        for replica in state.get("replicas", ()):
            model = Path(replica["spec"]["model"])
            if model.is_relative_to(before):
                replica["spec"]["model"] = str(home / model.relative_to(before))
        write_atomically(file, json.dumps({**state, "stopped": True}, indent=1))
