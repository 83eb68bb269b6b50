"""Formats figures for people. All output uses these functions, so that every page shows the same text. Pure."""


def figure(value: float | None) -> str:
    """Formats a number with four significant digits, without scientific notation for common values."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def duration(seconds: float) -> str:
    """Formats seconds as ms below one second, otherwise as s."""
    return f"{figure(seconds * 1000)} ms" if seconds < 1 else f"{figure(seconds)} s"
