"""Secrets of the environment do not leave the process in log records, exceptions or tracebacks."""

import io
import logging
import os
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
import yaml

from llmops_assets.machine.redaction import Redacted, RedactedStream, clean, hide_secrets, without_secrets
from resources.local_services.services import WEBSERVER
from tests.support.waiting import CEILING_S

SECRET = "pa$$-of-the-ledger"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEDGER", f"postgresql://ada:{SECRET}@example.com/llmops")


def said(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def test_an_exception_loses_the_secret_in_its_message_causes_and_attributes() -> None:
    try:
        try:
            raise ValueError(f"cannot parse postgresql://ada:{SECRET}@example.com/llmops")
        except ValueError as cause:
            raise RuntimeError(f"no ledger: {SECRET}", ["a", SECRET]) from cause
    except RuntimeError as error:
        error.add_note(f"see {SECRET}")
        cleaned = clean(error)
    assert isinstance(cleaned, RuntimeError)
    assert SECRET not in said(cleaned) and "no ledger: ***" in said(cleaned) and "ValueError" in said(cleaned)


def test_an_exception_that_keeps_the_secret_elsewhere_than_in_its_message_loses_it_too() -> None:
    with pytest.raises(subprocess.CalledProcessError, match=r"\*\*\*@example.com") as caught, without_secrets():
        raise subprocess.CalledProcessError(1, ["git", "fetch", f"https://x:{SECRET}@example.com"], stderr=SECRET)
    assert SECRET not in said(caught.value) + caught.value.stderr


class Computed(Exception):
    def __str__(self) -> str:
        return f"denied: {SECRET}"


def test_an_exception_that_computes_its_message_is_replaced() -> None:
    with pytest.raises(Redacted, match=r"Computed: denied: \*\*\*$") as caught, without_secrets():
        raise Computed
    assert SECRET not in said(caught.value)


def test_an_exception_without_secrets_stays_the_one_that_it_is() -> None:
    error = OSError(28, "No space left on device", "/srv/llmops")
    with pytest.raises(OSError, match="No space left") as caught, without_secrets():
        raise error
    assert caught.value is error


def test_log_records_and_their_tracebacks_lose_the_secret() -> None:
    before = logging.getLogRecordFactory(), sys.excepthook
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    logger = logging.getLogger("tests.redaction")
    logger.addHandler(handler)
    logger.propagate = False
    try:
        hide_secrets()
        hide_secrets()
        logger.warning("the ledger %s is not available", f"postgresql://ada:{SECRET}@example.com/llmops")
        try:
            raise ValueError(SECRET)
        except ValueError:
            logger.exception("failed")
    finally:
        logging.setLogRecordFactory(before[0])
        sys.excepthook = before[1]
        logger.removeHandler(handler)
    assert SECRET not in text.getvalue()
    assert "postgresql://***@example.com/llmops is not" in text.getvalue() and "ValueError: ***" in text.getvalue()


def test_the_terminal_shows_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    print(f"connected to {SECRET}", file=RedactedStream("stdout"))  # type: ignore[arg-type]
    assert capsys.readouterr().out == "connected to ***\n"


def test_a_webserver_that_does_not_start_logs_no_secret(tmp_path: Path) -> None:
    """The webserver logged addresses with their passwords, with stack traces; the other services hid them."""
    wrong = {"run_storage": {"module": f"no_{SECRET}", "class": "None", "config": {}}}
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(wrong))
    command = [sys.executable, "-m", WEBSERVER, "-m", "json"]
    env = {**os.environ, "DAGSTER_HOME": str(tmp_path)}
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=CEILING_S)
    assert done.returncode != 0 and "***" in done.stderr, done.stderr
    assert SECRET not in done.stdout + done.stderr
