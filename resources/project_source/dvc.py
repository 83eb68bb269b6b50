"""DVC data of a watched repository: its versions, whether the remote has them, and their bytes.

DVC in a user's working copy belongs in `resources.project_source.working_copy`.
"""

import configparser
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlparse

from llmops_assets.config.documents import DVC_BYTES, DocumentError, read_text
from llmops_assets.config.yaml_validation import ConfigError
from llmops_assets.domain.formatting import excerpt, time_span
from llmops_assets.domain.keys import digest, short
from llmops_assets.machine.files import write_atomically
from llmops_assets.machine.locks import sharing
from llmops_assets.machine.redaction import redacted
from resources.project_source import dvc_pull
from resources.project_source.dvc_config import committed_credentials
from resources.project_source.dvc_files import Output, tracked_by
from resources.project_source.dvc_folders import problem_of_listing
from resources.project_source.dvc_remote import TimeLimit, listings, missing_in_remote
from resources.project_source.errors import RemoteUnreachable, SourceError
from resources.project_source.git_mirror import GitMirror
from resources.project_source.links import links_out_of, remedy

ANSWER_S = 25.0
"""How long a remote may take to say what it holds. Dagster ends a sensor's tick after 60 s."""


def cache_lock(cache: Path) -> Path:
    """Shared by pulls, exclusive for garbage collection: a pull links files that it has just found."""
    return cache.with_name(f"{cache.name}.lock")


class DataNotPushed(Exception):
    """Git knows a data version that the DVC remote does not hold yet."""


class DvcData:
    """The data of one watched repository: its versions, and its bytes in our own cache. Does no I/O until asked.

    Args:
        git: the repository's mirror.
        work: folder of the exported revisions.
        cache: DVC's cache, shared by all projects of this home.
        pull_limit_s: how long a pull may take; None: no limit.
    """

    def __init__(self, git: GitMirror, work: Path, cache: Path, pull_limit_s: float | None = None):
        self.git, self.work, self.cache, self.pull_limit_s = git, work, cache, pull_limit_s
        self._ask = TimeLimit[list[str]]("the DVC remote", ANSWER_S)

    def tracked(self, revision: str, path: str) -> tuple[str, Output] | None:
        """The DVC file that tracks a path at the revision, and its entry; None if DVC does not track it.

        Raises:
            ConfigError: as `tracked_by`.
        """
        found = tracked_by(path, lambda name: self.git.read(revision, name, DVC_BYTES))
        return next(((file, out) for file, out in found if out.md5), None)

    def work_tree(self, revision: str) -> Path:
        """A clean export of the project at the revision, for programs."""
        return self.git.export(revision, self.work / revision) / self.git.root

    def missing(self, revision: str, tracked: Mapping[str, Output], patience_s: float | None = None) -> list[str]:
        """Paths whose version the remote does not hold. Looks at the remote, never at the user's own cache.

        Args:
            patience_s: how long to wait for the remote; None: as long as one may take.

        Raises:
            RemoteUnreachable: the remote does not answer, or refuses access.
            ConfigError, SourceError: the project's DVC configuration is invalid, or names no remote.
        """
        if not tracked:
            return []
        tree = self.configured_tree(revision)
        return self._ask(lambda: missing_in_remote(tree, tracked), (revision, *sorted(tracked)), patience_s)

    def pull(self, revision: str, tracked: Mapping[str, Output], paths: list[str]) -> Path:
        """Pulls those of the paths that DVC tracks into the revision's work tree; returns the tree.

        Raises:
            DataNotPushed: the remote does not hold a version.
            RemoteUnreachable: the remote does not answer, or refuses access.
            ConfigError, SourceError: DVC failed for another reason.
        """
        wanted = [p for p in paths if p in tracked and not self._is_here(revision, p)]
        if not wanted:
            return self._closed(self.work_tree(revision), paths)
        tree = self.configured_tree(revision)
        self._refuse_folders(tree, {path: tracked[path] for path in wanted})
        with sharing(cache_lock(self.cache)):
            try:
                done = subprocess.run(
                    [sys.executable, "-P", dvc_pull.__file__, *wanted],  # no module of the project is imported
                    cwd=tree,
                    capture_output=True,
                    text=True,
                    stdin=subprocess.DEVNULL,
                    timeout=self.pull_limit_s,
                    env={**os.environ, "DVC_NO_ANALYTICS": "1"},
                )
            except subprocess.TimeoutExpired as error:
                limit = f"{time_span(error.timeout)} (pull_timeout in the settings)"
                raise RemoteUnreachable(
                    f"dvc pull of {', '.join(wanted)} did not end within {limit}. Remedy: what it has pulled "
                    "stays, so the next run continues"
                ) from None
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if line.strip()]
            if missing := self.missing(revision, tracked):
                raise DataNotPushed(f"{', '.join(missing)}: not in the DVC remote; run `dvc push`")
            raise SourceError(
                f"dvc pull of {', '.join(wanted)} failed: {excerpt(redacted(said[-1]), 500) if said else 'no message'}"
            )
        for path in wanted:
            self._marker(revision, path).touch()
        return self._closed(tree, paths)

    @staticmethod
    def _refuse_folders(tree: Path, wanted: Mapping[str, Output]) -> None:
        """Refuses a folder whose list of files leads out of it, before DVC writes them.

        Raises:
            SourceError: it does.
            RemoteUnreachable: the remote does not say. Its silence must not pass for a folder without a list.
        """
        folders = {path: out for path, out in wanted.items() if out.md5 and out.md5.endswith(".dir")}
        for path, listing in listings(tree, folders).items() if folders else ():
            if problem := problem_of_listing(listing):
                raise SourceError(f"{path}: {problem}; `dvc add {path}` writes it again")

    @staticmethod
    def _closed(tree: Path, paths: list[str]) -> Path:
        """The tree, if none of the paths leads out of it.

        Raises:
            SourceError: a symbolic link leads elsewhere: its target is in no key, and may be another project's.
        """
        out = [link for path in paths for link in links_out_of(tree, path)]
        if out:
            raise SourceError("; ".join(remedy(link, str((tree / link).resolve())) for link in dict.fromkeys(out)))
        return tree

    def _marker(self, revision: str, path: str) -> Path:
        return self.work / f"{revision}.{digest(path)[:12]}.pulled"

    def _is_here(self, revision: str, path: str) -> bool:
        return self._marker(revision, path).exists() and (self.work_tree(revision) / path).exists()

    def configured_tree(self, revision: str) -> Path:
        """The work tree with DVC pointed at our own cache, so that the user's is never touched.

        Raises:
            ConfigError, SourceError: its DVC configuration is invalid, or has credentials.
        """
        tree = self.work_tree(revision)
        root = self._dvc_root(revision)
        local = root / ".dvc" / "config.local"
        if problem := committed_credentials(self._committed_config(root)):
            raise SourceError(f"{short(revision)}: {problem}")
        lines = [
            "[core]\n    analytics = false\n    check_update = false\n",
            f"[cache]\n    dir = {self.cache}\n    type = hardlink,copy\n",
        ]
        text = "".join(lines + self._remotes_made_absolute(root, self.work / revision))
        # One that was committed, though DVC ignores it, would direct DVC to its own cache and remotes, and so would a
        # partial file.
        if local.is_symlink() or not local.is_file() or local.read_bytes() != text.encode():
            write_atomically(local, text)
        return tree

    def _dvc_root(self, revision: str) -> Path:
        """The folder with `.dvc`: the project's own, or the nearest one above it in the repository.

        Raises:
            SourceError: there is none.
        """
        tree, top = self.work_tree(revision), self.work / revision
        for folder in (tree, *tree.parents):
            if (folder / ".dvc").is_dir() and not (folder / ".dvc").is_symlink():
                return folder
            if folder == top:
                break
        where = f", in {self.git.root}/ or above it" if self.git.root else ""
        raise SourceError(f"{short(revision)} has no .dvc folder{where}; run `dvc init` in the project and commit it")

    @staticmethod
    def _committed_config(root: Path) -> str:
        file = root / ".dvc" / "config"
        if file.is_symlink():
            raise SourceError(".dvc/config: a symbolic link; replace it with the file itself")
        try:
            return read_text(file, DVC_BYTES) if file.exists() else ""
        except DocumentError as error:
            raise ConfigError([f".dvc/config: {error}"]) from error

    def _remotes_made_absolute(self, root: Path, tree: Path) -> list[str]:
        """A relative remote is relative to the user's .dvc folder, so it is resolved against the repository's path."""
        config = configparser.ConfigParser(interpolation=None, strict=False)  # a URL may contain a %
        try:
            config.read_string(self._committed_config(root))
        except configparser.Error as error:
            line = getattr(error, "lineno", None) or next(iter(getattr(error, "errors", ())), (None,))[0]
            where = f".dvc/config{f':{line}' if line else ''}"
            raise ConfigError(
                [f"{where}: not valid ({type(error).__name__}); was a merge left unfinished? Correct it by hand"]
            ) from error
        found = []
        for section in config.sections():
            url = config[section].get("url", "")
            if (
                section.strip("'").startswith("remote")
                and url
                and not urlparse(url).scheme
                and not Path(url).is_absolute()
            ):
                there = Path(self.git.url) / root.relative_to(tree) / ".dvc" / url
                found.append(f"[{section}]\n    url = {there.resolve()}\n")
        return found
