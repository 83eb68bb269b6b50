"""The home folder belongs to one user: it holds databases, logs and settings that name the project's secrets."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmops_assets.machine.private import keep_private


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_what_is_written_from_now_on_is_ours_alone(tmp_path: Path) -> None:
    home = tmp_path / "home"
    keep_private(home)
    home.mkdir()
    (home / "log").write_text("x")
    assert (mode(home), mode(home / "log")) == (0o700, 0o600)


def test_a_home_that_was_open_is_closed_with_all_that_is_in_it(tmp_path: Path) -> None:
    """Homes of earlier versions are 0755 with files of 0644."""
    home, outside = tmp_path / "home", tmp_path / "outside"
    (home / "store" / "a").mkdir(parents=True)
    outside.write_text("x")
    for file, bits in (("ledger.sqlite", 0o644), ("store/a/run", 0o755), ("store/a/cached", 0o444)):
        (home / file).write_text("x")
        (home / file).chmod(bits)
    (home / "link").symlink_to(outside)
    keep_private(home)
    assert [mode(home / p) for p in (".", "store", "store/a")] == [0o700] * 3
    assert [mode(home / p) for p in ("ledger.sqlite", "store/a/run")] == [0o600, 0o700]
    assert mode(home / "store/a/cached") == 0o444, "DVC knows its unchanged files by this mode; the folder is closed"
    assert mode(outside) == 0o644, "what a link points to is not ours to change"
