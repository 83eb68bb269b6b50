"""A store that is not there is not a store that lost everything: nothing is written, and nothing counts as lost."""

import shutil
from pathlib import Path

import pytest

from resources.artifact_store.marker import MARKER
from resources.artifact_store.store import ArtifactStore, StoreDenied, StoreError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "made").mkdir()
    (tmp_path / "made/report.html").write_text("<p>good</p>")
    return tmp_path / "made"


class Place:
    """A store at a mount point, with the ledger's list of its artifacts."""

    def __init__(self, root: Path):
        self.root, self.digests = root, list[str]()
        self.store = ArtifactStore(str(root), root.parent / "cache", lambda: self.digests)

    def put(self, folder: Path) -> str:
        artifact = self.store.put(folder)
        self.digests.append(artifact.digest)
        return artifact.uri

    def unmount(self) -> None:
        self.root.rename(self.root.with_name("disk"))
        self.root.mkdir()

    def mount(self) -> None:
        self.root.rmdir()
        self.root.with_name("disk").rename(self.root)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "store")


def test_a_new_store_is_marked_with_its_first_artifact(place: Place, folder: Path) -> None:
    place.store.require()
    assert not place.root.exists(), "a plan creates nothing"
    place.put(folder)
    assert (place.root / MARKER).is_file()


def test_an_unmounted_store_refuses_and_stays_empty(place: Place, folder: Path) -> None:
    uri = place.put(folder)
    place.unmount()
    acts = [
        place.store.require,
        lambda: place.store.put(folder),
        lambda: place.store.manifest(uri),
        lambda: place.store.fetch(uri),
        lambda: place.store.quick_check(uri),
        lambda: place.store.discard(uri),
    ]
    for act in acts:
        with pytest.raises(StoreDenied, match=rf"the store {place.root} has no file {MARKER}.*is it not mounted"):
            act()
    assert list(place.root.iterdir()) == []
    place.mount()
    assert place.store.quick_check(uri) is None


def test_a_mount_point_that_is_gone_refuses_too(place: Place, folder: Path) -> None:
    place.put(folder)
    shutil.rmtree(place.root)
    with pytest.raises(StoreDenied, match="is it not mounted"):
        place.store.put(folder)
    assert not place.root.exists()


def test_a_store_of_an_earlier_version_is_marked_if_its_artifacts_are_there(place: Place, folder: Path) -> None:
    uri = place.put(folder)
    (place.root / MARKER).unlink()
    place.digests.insert(0, "0" * 64)  # lost since then, which is a matter of that record
    place.store.require()
    assert (place.root / MARKER).is_file() and place.store.quick_check(uri) is None


def test_artifacts_that_are_really_lost_are_reported_once_a_person_has_said_so(place: Place, folder: Path) -> None:
    uri = place.put(folder)
    shutil.rmtree(place.root)
    place.root.mkdir()
    (place.root / MARKER).touch()
    assert "is not in the store" in str(place.store.quick_check(uri))
    with pytest.raises(StoreError, match="is not in the store"):
        place.store.fetch(uri)
    assert place.store.fetch(place.put(folder)).is_dir()
