"""Artifacts are complete or do not exist, and equal content is stored once: in a folder and in object storage."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resources.artifact_store.store import MANIFEST, Artifact, ArtifactStore, StoreError
from tests.support.waiting import CEILING_S

FILES = {"model.safetensors": b"weights" * 100, "tokenizer/vocab.json": b"{}", "empty.txt": b""}


def written(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def read(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in folder.rglob("*")
        if p.is_file() and p.name != MANIFEST
    }


@pytest.fixture
def files(tmp_path: Path) -> Path:
    return written(tmp_path / "made", FILES)


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ArtifactStore]:
    """A store in a folder, and one in remote (in-memory) storage."""
    url = str(tmp_path / "store") if request.param == "folder" else f"memory://{tmp_path.name}"
    yield ArtifactStore(url, tmp_path / "cache")
    fsspec.filesystem("memory").store.clear()


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[ArtifactStore]:
    yield ArtifactStore("memory://bucket", tmp_path / "cache")
    fsspec.filesystem("memory").store.clear()


def stored(store: ArtifactStore, artifact: Artifact, name: str) -> tuple[Any, str]:
    """The file system and path of an artifact's file."""
    fs, root = fsspec.core.url_to_fs(store.url)
    return fs, f"{root}/artifacts/{artifact.digest}/{name}"


def test_a_fetched_artifact_equals_the_stored_one_byte_for_byte(store: ArtifactStore, files: Path) -> None:
    artifact = store.put(files)
    assert read(store.fetch(artifact.uri)) == FILES
    assert store.manifest(artifact.uri) == artifact
    assert artifact.size == 702 and artifact.uri == f"{store.url}/artifacts/{artifact.digest}"


def test_equal_content_is_stored_once_whatever_folder_it_came_from(
    store: ArtifactStore, files: Path, tmp_path: Path
) -> None:
    assert store.put(files) == store.put(written(tmp_path / "again", FILES))
    fs, root = fsspec.core.url_to_fs(store.url)
    assert len(fs.ls(f"{root}/artifacts")) == 1


@given(st.dictionaries(st.sampled_from(["a", "b", "c/d"]), st.binary(max_size=3), min_size=1))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_names_and_bytes_make_the_digest(tmp_path_factory: pytest.TempPathFactory, content: dict[str, bytes]) -> None:
    folder = tmp_path_factory.mktemp("content")
    store = ArtifactStore(str(folder / "store"), folder / "cache")
    digest = store.put(written(folder / "made", content)).digest
    name = next(iter(content))
    other = written(folder / "other", {**content, name: content[name] + b"!"})
    moved = written(folder / "moved", {(f"{k}2" if k == name else k): v for k, v in content.items()})
    assert len({digest, store.put(other).digest, store.put(moved).digest}) == 3
    assert read(store.fetch(store.put(folder / "made").uri)) == content


def test_constructing_one_does_no_io(tmp_path: Path) -> None:
    ArtifactStore(str(tmp_path / "store"), tmp_path / "cache")
    assert list(tmp_path.iterdir()) == []


# -- rejected input -------------------------------------------------------------------------------------------------


def test_an_empty_folder_is_no_artifact(store: ArtifactStore, tmp_path: Path) -> None:
    (tmp_path / "made" / "inner").mkdir(parents=True)
    with pytest.raises(StoreError, match="is empty: there is nothing to store"):
        store.put(tmp_path / "made")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "inner/state.pt", "MODEL.CKPT", "x.pkl"])
def test_pickles_are_never_stored(store: ArtifactStore, files: Path, name: str) -> None:
    """Loading a pickle executes any code that it contains."""
    written(files, {name: b"\x80\x04"})
    with pytest.raises(StoreError, match="pickles are never stored; write safetensors or GGUF"):
        store.put(files)
    fs, root = fsspec.core.url_to_fs(store.url)
    assert not fs.exists(f"{root}/artifacts")


# -- damaged content ------------------------------------------------------------------------------------------------


def test_without_its_manifest_an_artifact_does_not_exist(store: ArtifactStore, files: Path) -> None:
    artifact = store.put(files)
    fs, path = stored(store, artifact, MANIFEST)
    fs.rm_file(path)
    for ask in (store.manifest, store.fetch):
        with pytest.raises(StoreError, match=f"artifact {artifact.digest[:12]} is not in the store"):
            ask(artifact.uri)
    assert store.put(files) == artifact and read(store.fetch(artifact.uri)) == FILES


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"weights", r"model\.safetensors has 7 bytes, 700 were stored"),
        (b"WEIGHTS" * 100, r"model\.safetensors was altered \(sha256 a820\w{60} was stored, \w{64} is there\)"),
        (None, r"model\.safetensors is missing"),
    ],
)
def test_a_damaged_file_is_named(store: ArtifactStore, files: Path, data: bytes | None, text: str) -> None:
    artifact = store.put(files)
    fs, path = stored(store, artifact, "model.safetensors")
    fs.rm_file(path) if data is None else fs.pipe_file(path, data)
    with pytest.raises(StoreError, match=f"artifact {artifact.digest[:12]} is damaged: {text}$"):
        store.fetch(artifact.uri)


def test_all_damaged_files_are_named_at_once(store: ArtifactStore, files: Path) -> None:
    artifact = store.put(files)
    for name in ("model.safetensors", "tokenizer/vocab.json"):
        fs, path = stored(store, artifact, name)
        fs.pipe_file(path, b"?")
    with pytest.raises(StoreError, match=r"model\.safetensors .*; tokenizer/vocab\.json"):
        store.fetch(artifact.uri)


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"3", b'{"files": [{"path": "x"}]}', b"\xff"])
def test_an_unreadable_manifest_is_reported(store: ArtifactStore, files: Path, body: bytes) -> None:
    artifact = store.put(files)
    fs, path = stored(store, artifact, MANIFEST)
    fs.pipe_file(path, body)
    with pytest.raises(StoreError, match="its manifest is unreadable"):
        store.fetch(artifact.uri)


def test_a_manifest_that_was_altered_to_fit_altered_files_is_reported(store: ArtifactStore, files: Path) -> None:
    """The artifact's name is the digest of its file list, so an altered list does not match the name."""
    artifact = store.put(files)
    fs, path = stored(store, artifact, MANIFEST)
    value = json.loads(fs.cat_file(path))
    value["files"] = [f for f in value["files"] if f["path"] != "empty.txt"]
    fs.pipe_file(path, json.dumps(value).encode())
    with pytest.raises(StoreError, match="its manifest was altered"):
        store.fetch(artifact.uri)


def test_a_discarded_artifact_is_gone_and_can_be_put_again(store: ArtifactStore, files: Path) -> None:
    artifact = store.put(files)
    store.discard(artifact.uri)
    store.discard(artifact.uri)
    with pytest.raises(StoreError, match="is not in the store"):
        store.manifest(artifact.uri)
    assert read(store.fetch(store.put(files).uri)) == FILES


# -- object storage -------------------------------------------------------------------------------------------------


def test_an_upload_that_was_cut_resumes_where_it_stopped(memory: ArtifactStore, files: Path) -> None:
    """A partial upload has no manifest; complete files are not sent twice, and truncated files are sent again."""
    artifact = memory.put(files)
    fs, manifest = stored(memory, artifact, MANIFEST)
    _, whole = stored(memory, artifact, "tokenizer/vocab.json")
    _, cut = stored(memory, artifact, "model.safetensors")
    fs.rm_file(manifest)
    fs.pipe_file(cut, b"wei")
    before = fs.modified(whole)
    assert memory.put(files) == artifact
    assert fs.modified(whole) == before and fs.cat_file(cut) == FILES["model.safetensors"]


def test_a_download_that_was_cut_resumes_where_it_stopped(memory: ArtifactStore, files: Path) -> None:
    artifact = memory.put(files)
    folder = memory.fetch(artifact.uri)
    kept = (folder / "tokenizer/vocab.json").stat().st_mtime_ns
    (folder / "model.safetensors").write_bytes(b"wei")
    assert read(memory.fetch(artifact.uri)) == FILES
    assert (folder / "tokenizer/vocab.json").stat().st_mtime_ns == kept


def test_a_damaged_copy_here_is_brought_again_and_not_held_against_the_store(
    memory: ArtifactStore, files: Path
) -> None:
    """A damaged copy of equal size was always taken for the artifact: each run dropped the good one and retrained."""
    artifact = memory.put(files)
    folder = memory.fetch(artifact.uri)
    (folder / "model.safetensors").write_bytes(b"WEIGHTS" * 100)
    assert read(memory.fetch(artifact.uri)) == FILES


def test_a_copy_of_what_the_store_has_damaged_does_not_outlive_it(memory: ArtifactStore, files: Path) -> None:
    artifact = memory.put(files)
    fs, path = stored(memory, artifact, "model.safetensors")
    fs.pipe_file(path, b"WEIGHTS" * 100)
    with pytest.raises(StoreError):
        memory.fetch(artifact.uri)
    memory.discard(artifact.uri)
    assert read(memory.fetch(memory.put(files).uri)) == FILES


# -- concurrency ----------------------------------------------------------------------------------------------------

PUT = (
    "import sys, pathlib\nfrom resources.artifact_store.store import ArtifactStore\n"
    "store = ArtifactStore(sys.argv[1], pathlib.Path(sys.argv[2]))\n"
    "sys.stdin.readline()\n"
    "print(store.put(pathlib.Path(sys.argv[3])).digest)\n"
)

KILLED = """
import itertools, os, signal, sys
renames = itertools.count()
sys.addaudithook(lambda event, _: event == "os.rename" and next(renames) == 10 and os.kill(os.getpid(), signal.SIGKILL))
"""
"""Kills the process in the middle, when some files are in place."""


def test_processes_that_put_the_same_artifact_at_once_leave_one_complete_copy(files: Path, tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path / "store"), tmp_path / "cache")
    command = [sys.executable, "-c", PUT, store.url, str(tmp_path / "cache"), str(files)]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(5)]
    digests = set()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        digests.add(process.communicate(timeout=CEILING_S)[0].strip())
    (digest,) = digests
    assert read(store.fetch(f"{store.url}/artifacts/{digest}")) == FILES
    assert not list(tmp_path.rglob("*.part"))


def test_a_process_killed_in_the_middle_leaves_nothing_that_anyone_would_read(
    tmp_path: Path, python: Callable[..., Any]
) -> None:
    source = tmp_path / "made"
    source.mkdir()
    for number in range(60):
        (source / f"{number}.safetensors").write_bytes(bytes([number]) * 2_000_000)
    target = tmp_path / "store" / "artifacts"
    code = KILLED + PUT.replace("sys.stdin.readline()\n", "")
    process = python(code, str(tmp_path / "store"), str(tmp_path), str(source))
    assert process.wait(CEILING_S) == -signal.SIGKILL
    store = ArtifactStore(str(tmp_path / "store"), tmp_path / "cache")
    (identity,) = (p.name for p in target.iterdir())
    assert list(target.glob("*/*.safetensors"))
    with pytest.raises(StoreError, match="is not in the store"):
        store.fetch(f"{store.url}/artifacts/{identity}")
    artifact = store.put(source)
    assert artifact.digest == identity and len(store.manifest(artifact.uri).files) == 60
    store.fetch(artifact.uri)


def test_what_killed_uploads_left_does_not_pile_up(tmp_path: Path, files: Path) -> None:
    """The next upload deletes the leftovers, except those of an upload that may still be running."""
    store = ArtifactStore(str(tmp_path / "store"), tmp_path / "cache")
    artifacts = tmp_path / "store" / "artifacts"
    own = artifacts / store.put(files).digest
    day = 24 * 3600
    for name, age in (("abandoned", 2 * day), ("at-work", 60)):
        written(artifacts / name, {"model.safetensors.0.part": b"wei", "inner/config.json": b"{}"})
        for path in (artifacts / name, *(artifacts / name).rglob("*")):
            os.utime(path, (time.time() - age,) * 2)
    written(own, {"tokenizer/vocab.json.1.part": b"{"})
    store.put(files)
    assert sorted(p.name for p in artifacts.iterdir()) == sorted([own.name, "at-work"])
    assert read(own) == FILES
