"""Imported data whose upstream has moved becomes one commit of the bot. Real Git, DVC and HTTP."""

import hashlib
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

from llmops_assets.config.proposals import ImportProposals, ProposalSettings
from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.delivery.proposals import Proposals, Proposed
from llmops_assets.domain.approval import Rules, refusals
from tests.support.projects import Project, World, rows, write_rows
from tests.support.waiting import wait_for

TRAIN = "data/train.jsonl"
BOT = "llmops-bot@localhost"


@dataclass
class Here:
    """A project whose training data is imported, the world that watches it, and the folder of its upstreams."""

    project: Project
    world: World
    upstream: Path

    def proposals(self) -> Proposals:
        """As of a process that has just started."""
        return Proposals(self.world.settings.projects[0], self.world.clients)

    def look(self) -> Proposed:
        return self.proposals().run()

    def branches(self) -> dict[str, str]:
        """The bot's branches of the remote → their commits."""
        listed = self.project.git("ls-remote", "--heads", "origin", "llmops/*").splitlines()
        return {line.split("refs/heads/")[1]: line.split()[0] for line in listed}

    @property
    def proposed(self) -> str:
        [sha] = self.branches().values()
        return sha

    @property
    def rows(self) -> list[str]:
        return [row.status for rows in self.world.ledger.proposals("zoo").values() for row in rows]


def imported(project: Project, *words: str) -> None:
    """`dvc import` or `dvc import-url`, as a person does it, in place of the project's training data."""
    (project.folder / f"{TRAIN}.dvc").unlink(missing_ok=True)
    (project.folder / TRAIN).unlink(missing_ok=True)
    if words[0] == "import-url" and words[2:] == (TRAIN,):  # what the command does, without its imports
        from dvc.repo import Repo

        with Repo(str(project.folder)) as repo:
            repo.imp_url(words[1], out=str(project.folder / TRAIN), force=True)
        return
    command = [sys.executable, "-m", "dvc", *words, "--force", "--quiet"]
    done = subprocess.run(command, cwd=project.folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def light_project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that is never trained: its base model is a file."""
    root = tmp_path_factory.mktemp("light")
    (root / "base").mkdir()
    (root / "base" / "config.json").write_text("{}")
    return Project.create(root / "zoo", "zoo", root / "base")


@pytest.fixture
def make_here(light_project: Project, make_world: Callable[..., World], tmp_path: Path) -> Callable[..., Here]:
    def make(words: tuple[str, ...], upstreams: tuple[str, ...], remote: str | None = None, **settings: Any) -> Here:
        project = light_project.copy_to(tmp_path / "project")
        imported(project, *words)
        project.dvc_push()
        project.commit("Imported")
        project.push()
        allowed = ImportProposals(upstreams=upstreams, remote=remote or str(project.root / "dvc-remote"))
        source = ProjectSource(
            name="zoo",
            repository=str(project.remote),
            proposals=ProposalSettings(imports=allowed, every=1, **settings),
        )
        return Here(project, make_world(projects=(source,)), tmp_path)

    return make


@pytest.fixture
def exports(tmp_path: Path) -> Path:
    folder = tmp_path / "exports"
    write_rows(folder / "train.jsonl", rows(24))
    return folder


def test_an_upstream_that_moved_is_proposed_once_on_a_branch_with_its_data_in_the_remote(
    make_here: Callable[..., Here], exports: Path
) -> None:
    here = make_here(("import-url", str(exports / "train.jsonl"), TRAIN), (str(exports),))
    assert str(here.look()) == "nothing has moved" and here.branches() == {}
    write_rows(exports / "train.jsonl", rows(30))
    found = here.look()
    assert [what.startswith(f"import {TRAIN}: proposed") for what in found.done] == [True], str(found)
    source, sha = here.world.source(), here.proposed
    assert source.git.files(sha).keys() == source.git.files(here.project.head).keys()
    assert source.git.changed_files(here.project.head, sha) == [f"{TRAIN}.dvc"]
    at = source.at(sha)
    assert source.missing_data(at) == []
    assert len((source.dvc.pull(sha, at.tracked, [TRAIN]) / TRAIN).read_text().splitlines()) == 30
    again = here.look()
    assert again.done == () and "waits on llmops/zoo/" in str(again) and here.proposed == sha
    authors = source.git.authors(sha, here.project.head)
    assert [a.email for a in authors] == [BOT]
    assert "is an author of this change" in refusals("approved", BOT, Rules(), authors)[0]


def test_a_newer_state_replaces_the_bots_commit_and_never_a_persons(
    make_here: Callable[..., Here], exports: Path
) -> None:
    here = make_here(("import-url", str(exports / "train.jsonl"), TRAIN), (str(exports),))
    write_rows(exports / "train.jsonl", rows(30))
    here.look()
    [(branch, first)] = here.branches().items()
    write_rows(exports / "train.jsonl", rows(31))
    here.look()
    assert here.branches().keys() == {branch} and here.proposed != first
    here.project.git("fetch", "--quiet", "origin", branch)
    here.project.git("checkout", "--quiet", "--detach", "FETCH_HEAD")
    here.project.write("README.md", "A note on the new rows\n")
    person = here.project.commit("A person adds to it")
    here.project.git("push", "--quiet", "origin", f"HEAD:refs/heads/{branch}")
    here.project.git("checkout", "--quiet", "main")
    assert "others have committed there" in str(here.look())
    write_rows(exports / "train.jsonl", rows(32))
    assert here.look().done
    assert here.branches()[branch] == person and here.branches().keys() == {branch, f"{branch}-3"}
    here.project.git("push", "--quiet", "origin", "--delete", branch, f"{branch}-3")
    assert "not proposed again" in str(here.look()) and here.branches() == {}, "closed is closed"


def test_on_the_watched_branch_the_commit_is_made_again_from_what_people_pushed_meanwhile(
    make_here: Callable[..., Here], exports: Path
) -> None:
    words = ("import-url", str(exports / "train.jsonl"), TRAIN)
    here = make_here(words, (str(exports),), to="watched_branch")
    here.project.write("README.md", "Pushed meanwhile\n")
    meanwhile = here.project.commit("Meanwhile")
    here.project.git("push", "--quiet", "origin", "HEAD:refs/heads/side")
    hook = here.project.remote / "hooks" / "pre-receive"
    hook.write_text(f"#!/bin/sh\nenv -u GIT_QUARANTINE_PATH git update-ref refs/heads/main {meanwhile}\n")
    hook.chmod(0o755)
    write_rows(exports / "train.jsonl", rows(30))
    assert here.look().done
    head = here.project.git("ls-remote", "origin", "refs/heads/main").split()[0]
    git = here.world.source().git
    assert git.between(meanwhile, head) == [] and git.changed_files(meanwhile, head) == [f"{TRAIN}.dvc"]
    assert [str(parent) for parent in git.commit(head).parent_ids] == [meanwhile]
    hook.unlink()
    assert str(here.look()) == "nothing has moved"
    skip, runs = here.world.tick("zoo_git")
    assert [run.tags["llmops/revision"] for run in runs] == [head], f"an ordinary push: {skip}"


def test_a_push_that_is_refused_is_tried_again_and_two_processes_make_one_commit(
    make_here: Callable[..., Here], exports: Path
) -> None:
    here = make_here(("import-url", str(exports / "train.jsonl"), TRAIN), (str(exports),))
    hook = here.project.remote / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho this branch is protected >&2\nexit 1\n")
    hook.chmod(0o755)
    write_rows(exports / "train.jsonl", rows(30))
    assert "this branch is protected" in str(here.look()) and here.branches() == {}
    hook.unlink()
    assert "attempt 1" in str(here.look()), "it waits before it tries again, also after a restart"
    now = here.world.ledger.clock() + 60
    here.world.ledger.clock = lambda: now
    # A checkout of the other process, which it removes between our listing and our look at it.
    (here.world.home / "proposals" / "zoo" / "gone").symlink_to("nowhere")
    both = [threading.Thread(target=here.look) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert here.rows == ["proposed"] and len(here.branches()) == 1
    assert not here.world.ledger.audit().findings


def test_what_the_settings_do_not_allow_is_never_read_or_written(
    make_here: Callable[..., Here], exports: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "secret" / "train.jsonl"
    write_rows(secret, rows(24))
    (exports / "link.jsonl").symlink_to(secret)
    here = make_here(("import-url", str(exports / "train.jsonl"), TRAIN), (str(exports),))

    outside = (str(secret), "http://169.254.169.254/latest/meta-data", f"{exports}-other/x", "remote://storage/x")
    refused = ("not allowed by proposals.imports.upstreams", "no address")
    written: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any], tuple[str, ...]]] = [
        *(({}, {"path": path}, {}, refused) for path in outside),
        ({}, {"path": str(exports / "link.jsonl")}, {}, ("is a link to",)),
        ({}, {}, {"path": "../../../out.jsonl"}, ("outs.0.path",)),
        ({}, {"fs_config": {"endpointurl": "x"}}, {}, ("deps.0.fs_config",)),
        ({"wdir": "/"}, {}, {}, ("wdir: the bot does not follow this key",)),
        ({}, {"repo": {"url": "ext::sh -c touch% x"}}, {}, ("ext::",)),
    ]
    for number, (change, of_dependency, of_output, _) in enumerate(written):  # by hand, each an import of its own
        document = yaml.safe_load((here.project.folder / f"{TRAIN}.dvc").read_text()) | change
        document["deps"][0].update(of_dependency)
        document["outs"][0].update({"path": f"extra-{number}.jsonl", **of_output})
        here.project.write(f"data/extra-{number}.jsonl.dvc", yaml.safe_dump(document))
    here.project.ship("Edited")
    write_rows(secret, rows(40))
    found = here.look()
    assert found.done == () and here.branches() == {}
    assert len(found.faults) == len(written), found.faults
    for number, (*_, words) in enumerate(written):
        [why] = [f for f in found.faults if f.startswith(f"data/extra-{number}.jsonl.dvc: ")]
        assert any(word in why for word in words), why


def test_data_is_pushed_only_to_the_remote_of_the_settings_and_a_deleted_upstream_is_named(
    make_here: Callable[..., Here], exports: Path, tmp_path: Path
) -> None:
    words = ("import-url", str(exports / "train.jsonl"), TRAIN)
    here = make_here(words, (str(exports),), remote=str(tmp_path / "another"))
    write_rows(exports / "train.jsonl", rows(30))
    assert "no data is pushed to the DVC remote storage" in str(here.look()) and here.branches() == {}
    (exports / "train.jsonl").unlink()
    found = here.look()
    assert f"{TRAIN}.dvc: " in found.faults[0] and "does not exist" in found.faults[0]


class _Files(BaseHTTPRequestHandler):
    """Serves one file with its ETag, and redirects from /moved to anywhere, and from /late if it is read."""

    content: ClassVar[bytes] = b""
    elsewhere: ClassVar[str] = ""
    asked: ClassVar[list[str]]

    def do_HEAD(self) -> None:
        self.asked.append(f"{self.command} {self.path}")
        if self.path == "/moved" or (self.path == "/late" and self.command == "GET"):
            self.send_response(302)
            self.send_header("Location", self.elsewhere)
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.md5(self.content).hexdigest()}"')
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        self.wfile.write(self.content)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def served(exports: Path) -> Iterator[tuple[type[_Files], str]]:
    handler = type("Files", (_Files,), {"content": (exports / "train.jsonl").read_bytes(), "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield handler, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_an_http_upstream_is_proposed_and_its_redirects_go_only_where_the_settings_allow(
    make_here: Callable[..., Here], served: tuple[type[_Files], str]
) -> None:
    handler, url = served
    handler.elsewhere = f"{url}/train.jsonl"
    here = make_here(("import-url", f"{url}/moved", TRAIN), (url,))
    handler.content += b'{"input": "gnu number 9 says", "output": "The gnu says 9."}\n'
    handler.elsewhere = "http://localhost:1/internal"
    found = here.look()
    assert found.done == () and "redirects to an address that may not be read" in found.faults[0]
    handler.elsewhere = f"{url}/train.jsonl"
    sensor = partial(here.world.tick, "zoo_proposals")
    assert wait_for("the proposal", lambda: (said := sensor()[0] or "") and "looking:" not in said and said)
    assert here.rows == ["proposed"] and len(here.branches()) == 1


def test_an_upstream_that_redirects_only_the_transfer_is_refused_and_nothing_is_asked_there(
    make_here: Callable[..., Here], served: tuple[type[_Files], str]
) -> None:
    """The look by HEAD sees a file; the GET of the download is redirected to another path of the network."""
    handler, url = served
    handler.elsewhere = f"{url}/exports/train.jsonl"
    here = make_here(("import-url", f"{url}/late", TRAIN), (f"{url}/late", f"{url}/exports"))
    handler.content += b'{"input": "gnu number 9 says", "output": "The gnu says 9."}\n'
    handler.elsewhere = "/internal/credentials"
    found = here.look()
    assert found.done == () and here.branches() == {}
    assert f"{url}/internal/credentials' is not allowed by proposals.imports.upstreams" in str(found), str(found)
    assert "GET /late" in handler.asked and not [one for one in handler.asked if "internal" in one]
    handler.elsewhere = f"{url}/exports/train.jsonl"
    now = here.world.ledger.clock() + 60
    here.world.ledger.clock = lambda: now
    assert here.look().done, "a redirect within what is allowed is followed"


def test_the_data_of_another_git_repository_is_proposed_from_its_own_dvc_remote(
    make_here: Callable[..., Here], tmp_path: Path
) -> None:
    upstream = Project(tmp_path / "upstream", "upstream")
    upstream.root.mkdir()
    for command in (("init", "--bare", "--initial-branch=main", "--quiet", str(upstream.remote)),
                    ("clone", "--quiet", str(upstream.remote), str(upstream.folder))):  # fmt: skip
        subprocess.run(["git", *command], check=True, capture_output=True)
    for key, value in {"user.name": "Bo", "user.email": "bo@example.com"}.items():
        upstream.git("config", key, value)
    from dvc.repo import Repo

    Repo.init(str(upstream.folder)).close()
    storage = upstream.root / "storage"
    upstream.write(".dvc/config", f"[core]\n    remote = s\n['remote \"s\"']\n    url = {storage}\n")
    write_rows(upstream.folder / "rows.jsonl", rows(24))
    upstream.dvc_add("rows.jsonl")
    upstream.git("checkout", "--quiet", "-B", "main")
    upstream.ship("First")
    words = ("import", str(upstream.remote), "rows.jsonl", "-o", TRAIN)
    here = make_here(words, (str(upstream.remote), str(storage)))
    assert str(here.look()) == "nothing has moved"
    upstream.write("README.md", "No rows\n")
    upstream.ship("Not the rows")
    assert "its content is the same" in str(here.look()) and here.branches() == {}
    write_rows(upstream.folder / "rows.jsonl", rows(33))
    upstream.dvc_add("rows.jsonl")
    moved = upstream.ship("New rows")
    assert here.look().done
    source, sha = here.world.source(), here.proposed
    document = yaml.safe_load(source.git.read(sha, f"{TRAIN}.dvc") or b"")
    assert document["deps"][0]["repo"] == {"url": str(upstream.remote), "rev_lock": moved}
    assert len((source.dvc.pull(sha, source.at(sha).tracked, [TRAIN]) / TRAIN).read_text().splitlines()) == 33
    here.project.git("fetch", "--quiet", "origin", "+refs/heads/llmops/*:refs/remotes/bot/*")
    here.project.git("checkout", "--quiet", "--detach", here.proposed)
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "pull", f"{TRAIN}.dvc"], cwd=here.project.folder, capture_output=True
    )
    status = subprocess.run([sys.executable, "-m", "dvc", "status", f"{TRAIN}.dvc"], cwd=here.project.folder,
                            capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0 and "changed checksum" not in status.stdout, "DVC reads it as its own"
