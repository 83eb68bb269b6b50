"""The upstreams of a project's imports: which version they have, and how their data gets into the project's DVC remote.

Everything that is read or written is checked against the settings first: a `.dvc` file and `.dvc/config` are written by
anyone who can push to the repository.
"""

import json
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from llmops_assets.config.proposals import ImportProposals
from llmops_assets.domain.formatting import excerpt, time_span
from llmops_assets.domain.keys import digest, short
from llmops_assets.domain.upstreams import why_not_allowed
from llmops_assets.machine.locks import sharing
from llmops_assets.machine.redaction import redacted
from resources.project_source.dvc import DvcData, cache_lock
from resources.project_source.dvc_import import Seen, Task
from resources.project_source.errors import SourceError
from resources.project_source.git import GitError, git
from resources.project_source.git_mirror import GitMirror
from resources.project_source.imports import Import, written
from resources.project_source.links import links_out_of

LOOK_S = 120.0
"""How long the upstreams of one project may take to name their versions."""
ANSWER_S, DAY_S = 30.0, 86_400.0
KEY = "proposals.imports.upstreams"


class _UpstreamMirror(GitMirror):
    """A mirror of a repository that a `.dvc` file names. Redirects could lead to an address that is not allowed."""

    def _initialize(self) -> None:
        super()._initialize()
        self._git("config", "http.followRedirects", "false")


class ImportedData:
    """The imported data of one project.

    Args:
        git: the project's mirror.
        home: the location's folder; no upstream may lie in it.
        limit_s: how long the download of one import may take.
    """

    def __init__(self, git: GitMirror, home: Path, project: str, allowed: ImportProposals, limit_s: float):
        self._git, self._home, self._allowed, self._limit_s = git, home, allowed, limit_s
        self._scratch = home / "proposals" / project
        self._cache = home / "dvc-cache"

    def why_not(self, one: Import) -> str | None:
        """Why an upstream may not be read; None if it may."""
        if why := why_not_allowed(one.address, self._allowed.upstreams, KEY):
            return f"{one.file}: {why}"
        path, home = Path(one.address).resolve(), self._home.resolve()
        if one.address.startswith("/") and (path.is_relative_to(home) or home.is_relative_to(path)):
            return f"{one.file}: {one.address} has this location's own folder, which holds data of other projects"
        return None

    # -- which version ------------------------------------------------------------------------------------------------

    def look(self, base: str, imports: Sequence[Import]) -> dict[str, Seen]:
        """`.dvc` file → the version that its upstream has now, or why it is not known. Allowed imports only."""
        found = {one.file: self._commit_of(one) for one in imports if one.repo}
        if by_url := [one.file for one in imports if not one.repo]:
            with self._checkout(base) as data:
                found |= self._run("look", data.work_tree(base), by_url, LOOK_S)
        return found

    def _commit_of(self, one: Import) -> Seen:
        try:
            return Seen(version={"rev_lock": self._resolve(one)})
        except SourceError as error:
            return Seen(error=str(error))

    def _mirror(self, one: Import) -> _UpstreamMirror:
        assert one.repo is not None
        folder = self._home / "upstreams" / f"{digest(one.repo)[:24]}.git"
        return _UpstreamMirror(one.repo, one.rev or "", folder, self._limit_s)

    def _resolve(self, one: Import) -> str:
        mirror = self._mirror(one)
        if one.address.startswith("/"):
            self._refuse_link(Path(one.address))
        mirror.fetch(LOOK_S)
        if one.rev is not None:
            return mirror.resolve(one.rev)
        try:
            told = git("ls-remote", "--", mirror.url, "HEAD", where=mirror.folder, timeout=ANSWER_S)
        except GitError as error:
            raise SourceError(f"{mirror.shown}: {excerpt(error.stderr or str(error), 300)}") from None
        if not told:
            raise SourceError(f"{mirror.shown} has no default branch; name one: `dvc update --rev BRANCH {one.file}`")
        return told.split()[0]

    def _refuse_link(self, path: Path) -> None:
        allowed = [Path(a).resolve() for a in self._allowed.upstreams if a.startswith("/")]
        if not any(path.resolve().is_relative_to(folder) for folder in allowed):
            raise SourceError(f"{path} is a link to {path.resolve()}, which is not allowed by {KEY} in the settings")

    # -- its data -----------------------------------------------------------------------------------------------------

    def fetch(self, base: str, one: Import, version: Mapping[str, Any]) -> tuple[bytes, bool]:
        """Brings the data of a version into the project's DVC remote.

        Returns:
            (the new `.dvc` file, whether the data differs from what the project has).

        Raises:
            SourceError: an address is not allowed; the upstream or the remote cannot be read or written.
        """
        with self._checkout(base) as data, sharing(cache_lock(self._cache)):
            tree = data.work_tree(base)
            document: dict[str, Any] = {}
            if one.repo is not None:
                document = self._from_repository(one, str(version["rev_lock"]), tree)
            seen = self._run("fetch", tree, [one.file], self._limit_s, document)[one.file]
        if seen.error:
            raise SourceError(f"{one.file}: {seen.error}")
        before, after = one.document["outs"][0], seen.document["outs"][0]
        return written(seen.document), before.get("md5") != after.get("md5")

    def _from_repository(self, one: Import, commit: str, tree: Path) -> dict[str, Any]:
        """Puts the data of an import of a Git repository into the tree; returns the new `.dvc` file but for `outs`."""
        mirror = self._mirror(one)
        upstream = DvcData(mirror, tree.parent / f"upstream-{uuid.uuid4().hex}", self._cache, self._limit_s)
        try:
            tracked = upstream.tracked(commit, one.source)
            if tracked is not None:
                self._refuse_remotes(upstream.configured_tree(commit), mirror)
                there = upstream.pull(commit, {one.source: tracked[1]}, [one.source]) / one.source
            else:
                there = upstream.work_tree(commit) / one.source
                self._refuse_partial(one, mirror, commit, upstream.work_tree(commit))
            target = tree / one.out
            target.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if there.is_dir() else shutil.copyfile)(there, target)
        finally:
            shutil.rmtree(upstream.work, ignore_errors=True)
        # Without its `deps`: DVC opens an upstream as soon as it loads the stage.
        (tree / one.file).write_text(
            yaml.safe_dump({"outs": [{"path": one.document["outs"][0]["path"], "hash": "md5"}]})
        )
        [dependency] = one.document["deps"]
        moved = {**dependency, "repo": {**dependency["repo"], "rev_lock": commit}}
        return {**one.document, "deps": [moved]}

    @staticmethod
    def _refuse_partial(one: Import, mirror: GitMirror, commit: str, tree: Path) -> None:
        what = f"{short(commit)} of {mirror.shown}"
        if mirror.object_id(commit, one.source) is None:
            raise SourceError(f"{one.file}: {what} has no {one.source}; it was deleted or renamed there")
        if why := mirror.kept_elsewhere(commit, one.source):
            raise SourceError(f"{one.file}: {what}: {why}")
        if links := links_out_of(tree, one.source):
            raise SourceError(f"{one.file}: {what}: {links[0]} is a link that leads out of it")
        if (tree / one.source).is_dir() and any((tree / one.source).rglob("*.dvc")):
            raise SourceError(f"{one.file}: {what}: {one.source} is partly in DVC; import its parts one by one")

    def _refuse_remotes(self, tree: Path, mirror: GitMirror) -> None:
        """Refuses a repository whose DVC configuration would have other addresses read."""
        for name, seen in self._run("remotes", tree, [], LOOK_S).items():
            raise SourceError(f"{mirror.shown}: its DVC remote {name}: {seen.error}")

    # -- the process --------------------------------------------------------------------------------------------------

    @contextmanager
    def _checkout(self, base: str) -> Iterator[DvcData]:
        """A checkout of the project for one use."""
        work = self._scratch / uuid.uuid4().hex
        work.mkdir(parents=True)
        for left in self._scratch.iterdir():  # by a process that was killed
            with suppress(FileNotFoundError):  # one that has just ended
                if time.time() - left.stat().st_mtime > self._limit_s + DAY_S:
                    shutil.rmtree(left, ignore_errors=True)
        data = DvcData(self._git, work, self._cache, self._limit_s)
        try:
            data.configured_tree(base)
            yield data
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def _run(
        self, do: Any, tree: Path, files: Sequence[str], limit_s: float, document: dict[str, Any] | None = None
    ) -> dict[str, Seen]:
        task = Task(
            do=do, tree=str(tree), files=tuple(files), upstreams=self._allowed.upstreams, key=KEY,
            document=document or {}, remote=self._allowed.remote,
        )  # fmt: skip
        command = [sys.executable, "-P", "-m", "resources.project_source.dvc_import"]
        try:
            done = subprocess.run(
                command, input=task.model_dump_json(), capture_output=True, text=True, timeout=limit_s, env=os.environ
            )
        except subprocess.TimeoutExpired:
            error = Seen(error=f"the upstream did not answer within {time_span(limit_s)}")
            return dict.fromkeys(files or ["?"], error)
        if done.returncode:
            said = (done.stderr.strip().splitlines() or ["no message"])[-1]
            return dict.fromkeys(files or ["?"], Seen(error=redacted(excerpt(said, 300))))
        found = json.loads(done.stdout)
        return {file: Seen.model_validate({**seen, "error": redacted(seen["error"])}) for file, seen in found.items()}
