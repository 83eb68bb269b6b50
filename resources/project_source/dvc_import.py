"""Reads the upstream of an import and brings its data into DVC's cache and remote: a process of its own.

    python -m resources.project_source.dvc_import < TASK.json

A process can be ended when an upstream hangs, and DVC keeps state. The caller has checked which `.dvc` files and
addresses are allowed; only those are loaded here. The result is one line of JSON on stdout.
"""

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urljoin

from pydantic import Field

from llmops_assets.domain.formatting import excerpt
from llmops_assets.domain.models import Frozen
from llmops_assets.domain.upstreams import why_not_allowed

REMOTE_KEY = "proposals.imports.remote"


class Task(Frozen):
    do: Literal["look", "fetch", "remotes"]
    """look: which version the upstreams of `files` have. fetch: download, and push to the DVC remote. remotes: whether
    `upstreams` allow all remotes that the checkout's own configuration names."""
    tree: str
    """A checkout of the project's folder, with DVC's cache and remotes configured."""
    files: tuple[str, ...] = ()
    upstreams: tuple[str, ...]
    """What may be read, for redirects."""
    key: str
    """Where the settings allow it, for messages."""
    remote: str = ""
    """fetch: the only remote that may be pushed to."""
    document: dict[str, Any] = Field(default_factory=dict)
    """fetch: the new `.dvc` file but for `outs`, if the data is in the tree already, as of an import of a Git
    repository; empty: it is downloaded."""


class Seen(Frozen):
    """What is known of one upstream."""

    version: dict[str, Any] = Field(default_factory=dict)
    """As DVC notes it in `deps`, without the path."""
    error: str = ""
    document: dict[str, Any] = Field(default_factory=dict)
    """fetch: the new `.dvc` file."""


class _Refused(Exception):
    pass


def run(task: Task) -> dict[str, Seen]:
    """File → what was seen or done."""
    from dvc.repo import Repo

    found = {}
    with Repo(task.tree) as repo:
        if task.do == "remotes":
            return {name: Seen(error=why) for name, why in _remotes_not_allowed(repo, task).items()}
        for file in task.files:
            try:
                found[file] = _look(repo, task, file) if task.do == "look" else _fetch(repo, task, file)
            except Exception as error:  # each kind of storage has its own errors
                text = excerpt(str(error).strip() or type(error).__name__, 300)
                found[file] = Seen(error=text if isinstance(error, _Refused) else f"{type(error).__name__}: {text}")
    return found


def _remotes_not_allowed(repo: Any, task: Task) -> dict[str, str]:
    """Remote → why it may not be read. DVC's own reading of its configuration: another parser could see another URL."""
    own = repo.config.read("repo").get("remote", {})
    urls = {name: str(repo.config["remote"][name].get("url", "")) for name in own}
    return {name: why for name, url in urls.items() if (why := why_not_allowed(url, task.upstreams, task.key))}


def _refuse_other_remote(repo: Any, task: Task) -> None:
    name = repo.config["core"].get("remote")
    if name not in repo.config["remote"]:
        raise _Refused(".dvc/config names no default remote: `dvc remote default NAME`")
    if why := why_not_allowed(str(repo.config["remote"][name].get("url", "")), [task.remote], REMOTE_KEY):
        raise _Refused(f"no data is pushed to the DVC remote {name} of .dvc/config: {why}")


def _look(repo: Any, task: Task, file: str) -> Seen:
    with _imported(repo, task, file) as stage:
        dependency = stage.deps[0]
        dependency.save()
    return Seen(version=_version(dependency))


def _fetch(repo: Any, task: Task, file: str) -> Seen:
    _refuse_other_remote(repo, task)
    if task.document:
        return _push(repo, task, _load(repo, task, file), {})
    with _imported(repo, task, file) as stage:
        dependency, out = stage.deps[0], stage.outs[0]
        dependency.save()
        version = _version(dependency)
        Path(out.fs_path).parent.mkdir(parents=True, exist_ok=True)
        dependency.download(out)
        dependency.save()
        if _version(dependency) != version:
            raise _Refused("the upstream changed while it was read; it is read again")
    return _push(repo, task, stage, version)


def _push(repo: Any, task: Task, stage: Any, version: dict[str, Any]) -> Seen:
    """Pushes data that is in the tree.

    Args:
        version: of the upstream that it was downloaded from; empty: `task.document` names it.
    """
    out = stage.outs[0]
    out.save()
    out.commit()
    result = repo.cloud.push(next(iter(out.get_used_objs().values())))
    if result.failed:
        raise _Refused(f"`dvc push` could not push {len(result.failed)} files to the DVC remote")
    if not task.document:
        stage.md5 = stage.compute_md5()
        return Seen(version=version, document=_plain(stage.dumpd()))
    document = {**task.document, "outs": _plain(stage.dumpd())["outs"]}
    return Seen(document={**({"md5": _md5(document)} if "md5" in document else {}), **_without(document, "md5")})


def _md5(document: dict[str, Any]) -> str:
    """DVC's checksum of a `.dvc` file, as `dvc.stage.utils.compute_md5` of its stage, which cannot be loaded."""
    from dvc.annotations import ANNOTATION_FIELDS
    from dvc.utils import dict_md5

    unimportant = [*ANNOTATION_FIELDS, "locked", "frozen", "metric", "persist", "isexec", "size", "nfiles"]
    return str(dict_md5(_without(document, "md5", "meta", "desc"), exclude=unimportant))


def _without(document: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key not in keys}


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _load(repo: Any, task: Task, file: str) -> Any:
    return repo.stage.load_one(path=str(Path(task.tree) / file))


@contextmanager
def _imported(repo: Any, task: Task, file: str) -> Iterator[Any]:
    """The stage of an import of a URL or path, for a block that reads its upstream.

    Raises:
        _Refused: a link or redirect of the upstream leads to what is not allowed.
    """
    stage = _load(repo, task, file)
    address, redirects = stage.deps[0].def_path, _Redirects(task)
    if address.startswith("/"):
        _refuse_links(Path(address), task)
    elif address.startswith(("http://", "https://")):
        redirects.watch(stage.deps[0].fs)
    try:
        yield stage
    except Exception:
        if not redirects.refused:
            raise
    if redirects.refused:
        raise _Refused(redirects.refused)


def _refuse_links(path: Path, task: Task) -> None:
    """Refuses a path that leads out of the allowed folders by a symbolic link."""
    allowed = [Path(one).resolve() for one in task.upstreams if one.startswith("/")]
    below = [Path(folder) / name for folder, folders, files in os.walk(path) for name in (*folders, *files)]
    for one in (path, *below):
        if one is not path and one.is_symlink() and one.is_dir():
            raise _Refused(f"{one} is a link to a folder, whose files are not looked at; replace it with the folder")
        if not any(one.resolve().is_relative_to(folder) for folder in allowed):
            raise _Refused(f"{one} is a link to {one.resolve()}, which is not allowed by {task.key} in the settings")


class _Redirects:
    """Has DVC's own HTTP client follow redirects only as far as they are allowed, whatever the kind of request.

    A check before the transfer is not enough: a server can answer HEAD with a file and GET with a redirect.
    """

    def __init__(self, task: Task):
        self._task = task
        self.refused = ""
        """Why one was not followed. fsspec turns the error into others, or into an absent file."""

    def watch(self, filesystem: Any) -> None:
        """Call it before the first request: the client is made then."""
        import aiohttp

        trace = aiohttp.TraceConfig()
        trace.on_request_redirect.append(self._follow)
        filesystem.fs_args["client_kwargs"]["trace_configs"] = [trace]

    async def _follow(self, _session: Any, _context: Any, redirect: Any) -> None:
        headers = redirect.response.headers
        address = urljoin(str(redirect.url), headers.get("Location") or headers.get("URI") or "")
        if why := why_not_allowed(address, self._task.upstreams, self._task.key):
            self.refused = f"it redirects to an address that may not be read: {why}"
            raise _Refused(self.refused)


def _version(dependency: Any) -> dict[str, Any]:
    found = dict(dependency.dumpd())
    found.pop("path", None)
    if not found:
        raise _Refused("its server names no version (ETag or Content-MD5), so a change cannot be noticed")
    return found


def main(read: Callable[[], str] = sys.stdin.read, arguments: Sequence[str] = ()) -> int:
    os.environ["DVC_NO_ANALYTICS"] = "1"
    logging.disable(logging.CRITICAL)
    task = Task.model_validate_json(read())
    stdout, sys.stdout = sys.stdout, sys.stderr  # whatever a library prints is no result
    found = run(task)
    print(json.dumps({file: seen.model_dump() for file, seen in found.items()}), file=stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
