"""Reads BuildKit's plain progress: the current step, and the step that failed with its last output."""

import re
from dataclasses import dataclass
from pathlib import Path

from llmops_assets.domain.formatting import excerpt

TAIL = 64 * 2**10
"""Bytes of the end of a log that are read."""
OUTPUT_LINES = 5
_STEP = re.compile(r"^#(\d+) (\[[^\]]*\d+/\d+\] .*)$")
_NAMED = re.compile(r"^\[[^\]]*\] (.*)$")
_FAILED = re.compile(r"^ > \[([^\]]*)\] (.*?):?$")
_OUTPUT = re.compile(r"^#(\d+) \d+(?:\.\d+)? (.*)$")
_ENDED = re.compile(r"^#(\d+) ERROR\b")
_LINE = re.compile(r"parse error (?:on )?line (\d+)")
_PLACE = re.compile(r"^[^\s:]*:(\d+)$")
_LEADING = re.compile(
    r"^(?:ERROR: )?(?:failed to solve(?: with frontend dockerfile\.v0)?: )?(?:failed to create LLB definition: )?"
    r"(?:failed to build LLB: )?(?:dockerfile parse error (?:on )?line \d+: )?"
)


@dataclass(frozen=True)
class Failed:
    message: str
    """The builder's own last line."""
    step: str = ""
    """The instruction, as the builder shows it."""
    line: int | None = None
    output: str = ""
    """What the instruction printed last."""
    base: str = ""
    """The step that looked for a base image."""


def _tail(log: Path) -> list[str]:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL))
            return file.read().decode(errors="replace").splitlines()
    except OSError:
        return []


def progress_of(log: Path) -> str:
    """The current step of the build; empty before the first."""
    steps = [match[2] for line in _tail(log) if (match := _STEP.match(line))]
    return excerpt(steps[-1], 200) if steps else ""


def failed_step(log: Path) -> Failed:
    lines = _tail(log)
    said = [line.strip() for line in lines if line.strip() and not set(line.strip()) <= {"-"}]
    last = said[-1] if said else ""
    failed = next((match for line in reversed(lines) if (match := _FAILED.match(line.rstrip()))), None)
    step, base = "", ""
    if failed is not None:
        base = failed[2] if "load metadata" in failed[2] else ""
        step = "" if failed[1].startswith("internal") else failed[2]
    parsed = _LINE.search(last)
    place = next((match for line in reversed(lines[-40:]) if (match := _PLACE.match(line.strip()))), None)
    number = int(parsed[1]) if parsed else int(place[1]) if place else None
    number_of_step = next((match[1] for line in reversed(lines) if (match := _ENDED.match(line))), "")
    output = [m[2] for line in lines if (m := _OUTPUT.match(line)) and m[1] == number_of_step and m[2].strip()]
    shown = " | ".join(excerpt(line, 200) for line in output[-OUTPUT_LINES:]) if step.startswith("RUN") else ""
    return Failed(message=_message(last), step=step, line=number, output=shown, base=base)


def _message(last: str) -> str:
    text = _LEADING.sub("", last)
    if match := re.search(
        r"(?:executor failed running .*|process .* did not complete successfully): (exit code: \d+)", text
    ):
        text = match[1]
    return excerpt(text, 500)
