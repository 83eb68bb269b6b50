"""Formats figures and quoted input for people. All output uses these functions, so that every page shows the same text,
and no message repeats a whole input. Pure."""

import reprlib
from datetime import UTC, datetime


def figure(value: float | None) -> str:
    """Formats a number with four significant digits, without scientific notation for common values."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def signed(value: float) -> str:
    """Formats a difference with its sign, a typographic minus."""
    return f"{'−' if value < 0 else '+'}{figure(abs(value))}"


def duration(seconds: float) -> str:
    """Formats seconds as ms below one second, otherwise as s; to the microsecond, which no clock here exceeds."""
    return f"{figure(round(seconds * 1000, 3))} ms" if seconds < 1 else f"{figure(seconds)} s"


def size(count: float) -> str:
    """Formats a number of bytes."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def on_date(at: float) -> str:
    """Formats epoch seconds as a date, in UTC."""
    return datetime.fromtimestamp(at, UTC).date().isoformat()


def iso(at: float) -> str:
    """Formats epoch seconds for programs: ISO 8601, UTC, to the second."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")


def at_time(at: float | str) -> str:
    """Formats a time for people, to the second: epoch seconds, or ISO 8601 in UTC."""
    text = at if isinstance(at, str) else iso(at)
    return text.replace("T", " ").replace("+00:00", " UTC")


def ago(seconds: float) -> str:
    """Formats a time span for people, in its largest unit."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def time_span(seconds: float) -> str:
    """Formats a long time in its largest unit: 90 s, 45 min, 12 h."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{figure(seconds / size)} {unit}"
    return duration(seconds)


def excerpt(text: str, limit: int = 400) -> str:
    """Text of someone else for a message: on one line, without control characters, cut in the middle at the limit."""
    if len(text) > limit:
        tail = limit // 4
        text = f"{text[: limit - tail]} … ({len(text):,} characters) … {text[-tail:]}"
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return " " if character in "\n\t" else repr(character)[1:-1]


class _Quoted(reprlib.Repr):
    """A value's `repr` with limits on its length, items and depth; a number too long to print is named."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 100
        self.maxdict = self.maxlist = self.maxtuple = self.maxset = 4
        self.maxlevel = 3

    def repr_int(self, x: int, level: int) -> str:
        return super().repr_int(x, level) if x.bit_length() < 1000 else "a number of many digits"


def quoted(value: object) -> str:
    """A value as Python writes it, for a message; a long or deep one is shortened."""
    return excerpt(_Quoted().repr(value))
