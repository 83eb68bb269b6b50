"""A run's console output: progress and outcomes as plain lines, for `llmops run --wait` and run logs.

Dagster's UI keeps every event; this omits Dagster's internal events, and tracebacks of errors that users can fix.
"""

import io
import logging
import os
import sys
from typing import Any, TextIO

import dagster as dg

CONSOLE: dict[str, Any] = {"loggers": {"console": {}}}
"""Run configuration: without it Dagster uses its own console logger, at level DEBUG."""


class _Line(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        meta: Any = getattr(record, "dagster_meta", {})
        stage = (meta.get("step_key") or "").split("__")[-1]
        text = _told(meta.get("dagster_event")) or meta.get("orig_message") or record.getMessage()
        mark = f"{record.levelname.lower()}: " if record.levelno > logging.INFO else ""
        return f"{self.formatTime(record, '%H:%M:%S')}  {stage + ': ' if stage else ''}{mark}{text}"


def _told(event: dg.DagsterEvent | None) -> str | None:
    """The message of a failed step: its reasons or remedy if it has them, otherwise the traceback."""
    if event is None or not event.is_step_failure:
        return None
    data = event.step_failure_data
    if data.user_failure_data and data.user_failure_data.description:
        return data.user_failure_data.description
    return data.error.to_string() if data.error else None


def _is_told(record: logging.LogRecord) -> bool:
    """Filters out the engine's own events, and steps skipped because of a failed one."""
    meta: Any = getattr(record, "dagster_meta", {})
    event: dg.DagsterEvent | None = meta.get("dagster_event")
    if event is not None:
        return event.is_step_failure
    return not (meta.get("orig_message") or "").startswith("Dependencies for step ")


def _terminal() -> TextIO:
    """The process's stderr, duplicated before steps run.

    During a step Dagster redirects stderr to a file, which a `tail` process copies to the terminal. It ends with the
    step, and on a busy machine before it has copied the last lines, which contain the error
    (github.com/dagster-io/dagster/issues/23336).
    """
    try:
        return os.fdopen(os.dup(sys.stderr.fileno()), "w", buffering=1)
    except (io.UnsupportedOperation, OSError):
        return sys.stderr  # stderr was replaced by an object without a file descriptor


@dg.logger(None, description="Progress, outcomes and errors, one line each.")
def console_logger(context: dg.InitLoggerContext) -> logging.Logger:
    handler = logging.StreamHandler(_terminal())
    handler.setFormatter(_Line())
    handler.addFilter(_is_told)
    logger = logging.Logger("llmops", logging.INFO)
    logger.addHandler(handler)
    return logger
