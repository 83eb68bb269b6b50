"""Real servings in temporary homes: supervisord, Envoy and llama.cpp with a tiny random model."""

from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from llmops_assets.config.serving import ServingSettings
from llmops_assets.domain.records import Release
from resources.serving.local.serving import LocalServing
from tests.support.ports import free_port
from tests.support.waiting import CEILING_S

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "<|im_start|>assistant\n"
)


def make_release(name: str) -> Release:
    """A release with its own digest; all releases serve the same weights."""
    return Release(
        project="demo",
        artifact_digest=name,
        artifact_uri="file:///nowhere",
        file="model.gguf",
        chat_template=TEMPLATE,
        engine="llama.cpp",
        serving={"parallel": 4, "threads": 1},
    )


def processes_of(home: Path) -> list[psutil.Process]:
    """All living processes whose command line names the home; found without the code under test."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and any(str(home) in part for part in process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def engines_of(home: Path) -> list[psutil.Process]:
    return [p for p in processes_of(home) if "--spec" in p.cmdline()]


@pytest.fixture(scope="session")
def release() -> Callable[[str], Release]:
    return make_release


@pytest.fixture(scope="session")
def engines() -> Callable[[Path], list[psutil.Process]]:
    return engines_of


@pytest.fixture(scope="session")
def processes() -> Callable[[Path], list[psutil.Process]]:
    return processes_of


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home whose processes are all ended after the test, whatever its result."""
    folder = tmp_path / "home"
    yield folder
    LocalServing(folder, ServingSettings()).down()
    assert not processes_of(folder)


@pytest.fixture
def serving(home: Path) -> LocalServing:
    return LocalServing(home, ServingSettings(port=free_port()), start_timeout_s=CEILING_S)
