"""Figures as people read them. Pure; whatever shows one to a person uses this, so that all pages agree."""


def figure(value: float | None) -> str:
    """Four significant digits, never in scientific notation for what people read daily."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def duration(seconds: float) -> str:
    """With the unit in which it is no row of zeros."""
    return f"{figure(seconds * 1000)} ms" if seconds < 1 else f"{figure(seconds)} s"
