"""Hides this process's secrets in everything that leaves it: log records, exceptions, the terminal.

The one place through which text is redacted. What counts as a secret is decided in `llmops_assets.domain.redaction`.
"""

import logging
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from types import TracebackType
from typing import Any, TextIO

from llmops_assets.domain.redaction import redact, secrets_in


def redacted(text: str) -> str:
    """The text without the secrets of this process's environment, and without credentials in URLs."""
    return redact(text, _known(frozenset(os.environ.items())))


@lru_cache(maxsize=8)
def _known(environment: frozenset[tuple[str, str]]) -> frozenset[str]:
    return secrets_in(dict(environment))


class Redacted(Exception):
    """Stands for an exception whose own message contains a secret and cannot be changed."""


def clean(error: BaseException) -> BaseException:
    """The exception without secrets in its message, attributes and causes: itself, or what stands for it."""
    return _clean(error, set())


@contextmanager
def without_secrets() -> Iterator[None]:
    """Lets an exception of the block pass only without secrets."""
    try:
        yield
    except Exception as error:
        if (cleaned := clean(error)) is error:
            raise
        raise cleaned from cleaned.__cause__


def _clean(error: BaseException, seen: set[int]) -> BaseException:
    if id(error) in seen:
        return error
    seen.add(id(error))
    error.args = tuple(_hidden(value) for value in error.args)
    for name, value in list(vars(error).items()):
        if (hidden := _hidden(value)) != value:
            setattr(error, name, hidden)
    for link in ("__cause__", "__context__"):
        linked = getattr(error, link)
        if isinstance(linked, BaseException) and (cleaned := _clean(linked, seen)) is not linked:
            suppressed = error.__suppress_context__  # assigning a cause sets it
            setattr(error, link, cleaned)
            error.__suppress_context__ = suppressed
    said = "".join(traceback.format_exception_only(error))
    if redacted(said) == said:
        return error
    instead = Redacted(redacted(said).strip()).with_traceback(error.__traceback__)
    instead.__cause__, instead.__context__ = error.__cause__, error.__context__
    instead.__suppress_context__ = error.__suppress_context__
    return instead


def _hidden(value: Any) -> Any:
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return type(value)(redacted(item) for item in value) if type(value) in (list, tuple) else value
    return value


def hide_secrets() -> None:
    """Redacts all log records, and the tracebacks of uncaught exceptions, from now on in this process."""
    make: Any = logging.getLogRecordFactory()
    if getattr(make, "redacts", False):
        return

    def factory(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record: logging.LogRecord = make(*args, **kwargs)
        try:
            said = record.getMessage()
        except (TypeError, ValueError):
            return record  # arguments that do not fit the message: logging reports that itself
        if (hidden := redacted(said)) != said:
            record.msg, record.args = hidden, ()
        if record.exc_info and record.exc_info[1] is not None:
            cleaned = clean(record.exc_info[1])
            record.exc_info = (type(cleaned), cleaned, record.exc_info[2])
        return record

    factory.redacts = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(factory)
    excepthook = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, at: TracebackType | None) -> None:
        cleaned = clean(error)
        excepthook(type(cleaned), cleaned, at)

    sys.excepthook = hook


class RedactedStream:
    """A text stream that redacts what is written to it, line by line of each call."""

    def __init__(self, name: str):
        self._name = name

    @property
    def _stream(self) -> TextIO:
        stream: TextIO = getattr(sys, self._name)  # looked up each time: tests and Dagster replace it
        return stream

    def write(self, text: str) -> int:
        self._stream.write(redacted(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
