"""Files are replaced atomically: no reader sees a partial file, with concurrent writers or after failures."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from llmops_assets.machine.files import files_below, replacing, write_atomically


def test_threads_that_write_the_same_file_at_once_leave_one_of_their_texts_complete(tmp_path: Path) -> None:
    """Threads share a pid: with temporary names by pid, one wrote into another's finished file, or found none."""
    file = tmp_path / "state.json"
    texts = [str(n) * 50_000 for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda text: write_atomically(file, text), texts * 5))
    assert file.read_text() in texts
    assert files_below(tmp_path) == ["state.json"]


def test_a_write_that_fails_leaves_the_file_as_it_was_and_nothing_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    write_atomically(file, "old")
    with pytest.raises(OSError, match="no room"), replacing(file) as part:
        part.write_text("ne")
        raise OSError("no room")
    assert file.read_text() == "old" and files_below(tmp_path) == ["state.json"]


def test_a_files_mode_stays_and_any_text_arrives_as_utf_8(tmp_path: Path) -> None:
    """The settings may contain addresses that only their owner may read."""
    file = tmp_path / "settings.yaml"
    write_atomically(file, "a: 1")
    file.chmod(0o600)
    write_atomically(file, "name: Größe")
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.read_bytes() == "name: Größe".encode()


def test_the_file_is_written_elsewhere_first_if_its_own_folder_is_watched(tmp_path: Path) -> None:
    watched = tmp_path / "watched"
    watched.mkdir()
    with replacing(watched / "routes.json", via=tmp_path) as part:
        part.write_text("{}")
        assert files_below(watched) == []
    assert files_below(watched) == ["routes.json"]
