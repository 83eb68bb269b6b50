"""The artifact store on a real S3 server: artifacts are complete, denied access is reported, no work is lost."""

import json
import multiprocessing
import os
import posixpath
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from resources.artifact_store.store import MANIFEST, ArtifactStore, StoreDenied, StoreError
from resources.artifact_store.transfer import write_manifest
from tests.resources.artifact_store.racing import race, started
from tests.support.extras import needs
from tests.support.seaweed import SECRET, Seaweed
from tests.support.waiting import CEILING_S

pytestmark = needs("s3fs", "aws")
BUCKET = "llmops-tests"
BIG = 20 * 2**20 + 17
"""Bytes: more than two upload parts, and not a multiple of the part size."""


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    server = Seaweed(tmp_path_factory.mktemp("seaweed"))
    try:
        server.wait()
        yield server
    finally:
        server.stop()


@pytest.fixture
def store(server: Seaweed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ArtifactStore:
    """A store under a prefix for one test."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    store = ArtifactStore(f"s3://{BUCKET}/{tmp_path.name}", tmp_path / "cache")
    fs, _ = store._open()
    if not fs.exists(BUCKET):
        fs.mkdir(BUCKET)
    return store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small checkpoint."""
    folder = tmp_path / "checkpoint"
    (folder / "adapter").mkdir(parents=True)
    (folder / "config.json").write_text('{"hidden_size": 16}')
    (folder / "adapter" / "adapter_model.safetensors").write_bytes(os.urandom(1000))
    (folder / "model.safetensors").write_bytes(os.urandom(100_000))
    (folder / "empty.txt").touch()
    return folder


@pytest.fixture
def big(folder: Path) -> Path:
    """A checkpoint with one file that is large enough for a multipart upload."""
    (folder / "model.safetensors").write_bytes(os.urandom(BIG))
    return folder


def there(store: ArtifactStore, digest: str, name: str) -> str:
    return f"{store.url.removeprefix('s3://')}/artifacts/{digest}/{name}"


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def elsewhere(store: ArtifactStore, tmp_path: Path) -> ArtifactStore:
    """The same store, as a machine with an empty cache sees it."""
    return ArtifactStore(store.url, tmp_path / f"cache-{time.monotonic_ns()}")


def test_what_was_put_comes_back_bit_for_bit_on_another_machine(
    store: ArtifactStore, big: Path, tmp_path: Path
) -> None:
    artifact = store.put(big)
    other = elsewhere(store, tmp_path)
    fetched = other.fetch(artifact.uri)
    assert content(fetched) == content(big)
    assert other.manifest(artifact.uri) == artifact == store.put(big), "equal content is one artifact"


def test_a_large_file_went_up_in_parts(store: ArtifactStore, big: Path) -> None:
    """The ETag of a multipart upload ends with the number of parts."""
    artifact = store.put(big)
    fs, _ = store._open()
    etag = fs.info(there(store, artifact.digest, "model.safetensors"))["ETag"].strip('"')
    assert etag.endswith("-3"), etag


def test_equal_content_has_the_same_digest_on_every_kind_of_store(
    store: ArtifactStore, big: Path, tmp_path: Path
) -> None:
    assert store.put(big).digest == ArtifactStore(str(tmp_path / "store"), tmp_path / "c").put(big).digest


def test_without_its_manifest_an_artifact_does_not_exist(store: ArtifactStore, folder: Path) -> None:
    artifact = store.put(folder)
    fs, _ = store._open()
    fs.rm_file(there(store, artifact.digest, MANIFEST))
    with pytest.raises(StoreError, match="is not in the store"):
        store.fetch(artifact.uri)


def _put(url: str, cache: str, folder: str, answers: Any) -> None:
    try:
        answers.put(ArtifactStore(url, Path(cache)).put(Path(folder)).digest)
    except BaseException as error:  # the parent waits for an answer in any case
        answers.put(repr(error))


KILLED = """
import os, signal, sys
from pathlib import Path
from resources.artifact_store.store import ArtifactStore

opened = []

def listen(event, args):
    if event == "open" and str(args[0]).endswith("shard-11.safetensors"):
        opened.append(event)
        if len(opened) == 2:  # the first time it is only hashed
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(listen)
ArtifactStore(sys.argv[1], Path(sys.argv[2])).put(Path(sys.argv[3]))
"""


def test_an_upload_that_was_cut_resumes_where_it_stopped(
    store: ArtifactStore,
    folder: Path,
    tmp_path: Path,
    python: Callable[..., Any],
) -> None:
    """SIGKILL just before the last file: without a manifest no reader takes the partial artifact for a complete one,
    and the next upload sends only the rest.
    """
    for number in range(12):
        (folder / f"shard-{number:02}.safetensors").write_bytes(os.urandom(BIG // 10))
    process = python(KILLED, store.url, str(tmp_path / "c"), str(folder))
    assert process.wait(CEILING_S) == -signal.SIGKILL
    fs, root = store._open()
    sent = {path: fs.info(path)["LastModified"] for path in fs.find(f"{root}/artifacts")}
    assert 0 < len(sent) < 16 and not any(path.endswith(MANIFEST) for path in sent)
    time.sleep(1.1)  # S3 states times in seconds
    artifact = store.put(folder)
    assert {path: fs.info(path)["LastModified"] for path in sent} == sent, "what was there was sent again"
    assert content(elsewhere(store, tmp_path).fetch(artifact.uri)) == content(folder)


def test_two_processes_that_store_the_same_at_once_both_have_it(
    store: ArtifactStore, big: Path, tmp_path: Path
) -> None:
    answers = multiprocessing.get_context("spawn").Queue()
    rivals = started([(_put, (store.url, str(tmp_path / f"c{n}"), str(big), answers)) for n in range(4)], "s3fs")
    digests = {answers.get(timeout=CEILING_S) for _ in range(4)}
    rivals.join()
    assert len(digests) == 1
    uri = f"{store.url}/artifacts/{digests.pop()}"
    assert content(elsewhere(store, tmp_path).fetch(uri)) == content(big)


def test_a_manifest_is_never_written_over(store: ArtifactStore, folder: Path) -> None:
    """The write itself is conditional: between a check and a write another process may write."""
    artifact = store.put(folder)
    fs, _ = store._open()
    manifest = there(store, artifact.digest, MANIFEST)
    before = fs.cat_file(manifest)
    write_manifest(fs, posixpath.dirname(manifest), b"of somebody else")
    assert fs.cat_file(manifest) == before


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_an_altered_object_is_named_and_never_used(
    store: ArtifactStore, folder: Path, tmp_path: Path, name: str
) -> None:
    artifact = store.put(folder)
    fs, _ = store._open()
    path = there(store, artifact.digest, name)
    value = bytearray(fs.cat_file(path))
    value[-1] ^= 1
    fs.pipe_file(path, bytes(value))
    with pytest.raises(StoreError, match=f"is damaged: {name} was altered"):
        elsewhere(store, tmp_path).fetch(artifact.uri)
    store.discard(artifact.uri)
    assert not any(fs.exists(there(store, artifact.digest, left)) for left in content(folder))
    again = store.put(folder)
    assert content(elsewhere(store, tmp_path).fetch(again.uri)) == content(folder)


def test_a_missing_and_a_truncated_object_are_both_named(store: ArtifactStore, folder: Path, tmp_path: Path) -> None:
    artifact = store.put(folder)
    fs, _ = store._open()
    fs.rm_file(there(store, artifact.digest, "config.json"))
    fs.pipe_file(there(store, artifact.digest, "model.safetensors"), b"short")
    with pytest.raises(StoreError) as error:
        elsewhere(store, tmp_path).fetch(artifact.uri)
    assert "config.json is missing" in str(error.value) and "model.safetensors" in str(error.value)


def test_an_altered_manifest_is_noticed(store: ArtifactStore, folder: Path) -> None:
    artifact = store.put(folder)
    fs, _ = store._open()
    path = there(store, artifact.digest, MANIFEST)
    value = json.loads(fs.cat_file(path))
    value["files"][0]["sha256"] = "0" * 64
    fs.pipe_file(path, json.dumps(value).encode())
    with pytest.raises(StoreError, match="its manifest was altered"):
        store.manifest(artifact.uri)


def test_a_damaged_copy_of_this_machine_is_fetched_again(store: ArtifactStore, folder: Path) -> None:
    artifact = store.put(folder)
    copy = store.fetch(artifact.uri) / "config.json"
    copy.write_text(copy.read_text().upper())
    assert content(store.fetch(artifact.uri)) == content(folder)


def test_a_wrong_secret_is_refused_by_name_and_nothing_is_taken_for_lost(
    store: ArtifactStore, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If denied access counted as damage, the record would be dropped, and a rotated key would retrain every model."""
    artifact = store.put(folder)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of-somebody-else")
    stranger = elsewhere(store, tmp_path)
    for act in (
        lambda: stranger.put(folder),
        lambda: stranger.fetch(artifact.uri),
        lambda: stranger.manifest(artifact.uri),
    ):
        with pytest.raises(StoreDenied, match="AWS_SECRET_ACCESS_KEY") as error:
            act()
        assert not isinstance(error.value, StoreError) and "of-somebody-else" not in str(error.value)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    assert content(elsewhere(store, tmp_path).fetch(artifact.uri)) == content(folder)


def test_a_store_that_cannot_be_reached_is_no_damage_either(
    store: ArtifactStore, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = store.put(folder)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    for act in (lambda s: s.manifest(artifact.uri), lambda s: s.require(), lambda s: s.put(folder)):
        with pytest.raises(StoreDenied, match="does not answer"):
            act(elsewhere(store, tmp_path))


def test_a_bucket_that_is_not_there_is_no_lost_artifact(store: ArtifactStore, folder: Path, tmp_path: Path) -> None:
    """Otherwise a typo in the settings would drop every record and retrain every model."""
    artifact = store.put(folder)
    misspelt = ArtifactStore(store.url.replace(BUCKET, "llmops-tsets"), tmp_path / "c")
    with pytest.raises(StoreDenied, match="no bucket 'llmops-tsets'"):
        misspelt.manifest(artifact.uri)
    with pytest.raises(StoreError, match="is not in the store"):
        store.manifest(f"{store.url}/artifacts/{'0' * 64}")


def test_garbage_collection_and_users_never_meet_on_object_storage(store: ArtifactStore, tmp_path: Path) -> None:
    """Nothing can be locked or touched there, so both leave notes, and each looks for the other's after its own."""
    folders = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights.txt").write_text(name * 100)
        folders.append(tmp_path / name)
    freed, wrong = race(store.url, tmp_path, folders)
    assert wrong == []
    assert freed >= len(folders)
    assert store.stored() == []
