"""A streamed chat answer in OpenAI's format (server-sent events), as far as it came. Who asks for it is elsewhere."""

import json
import math
import time
from collections.abc import Callable, Iterable
from typing import Any


class ChatStream:
    """One answer. What a line adds is kept, also if reading the next one fails.

    Attributes:
        text: what was said.
        pieces: how many events said something.
        tokens: how many tokens that was as the engine counts, None if it did not say.
        first_piece_s: seconds from `began` to the first of them.
        finish_reason: why the answer ended, in the engine's word: stop or length.
        error: why it is no whole answer; "" if it is: it ended with a finish_reason and [DONE].
    """

    def __init__(self, began: float, clock: Callable[[], float] = time.monotonic):
        self._began, self._clock = began, clock
        self.text = ""
        self.pieces = 0
        self.tokens: int | None = None
        self.first_piece_s: float | None = None
        self.finish_reason: str | None = None
        self.error = "the stream ended without [DONE]"

    @property
    def whole(self) -> bool:
        return not self.error

    def read(self, lines: Iterable[str], timeout_s: float = math.inf) -> None:
        """Reads to the end of the answer, or until it has taken too long since it began.

        Raises:
            ValueError: an event is not JSON, or not what OpenAI's format says.
        """
        for line in lines:
            if self._clock() - self._began > timeout_s:
                self.error = f"the answer took longer than {timeout_s:g} s"
                return
            if line.startswith("error:"):  # llama.cpp's own way to say so
                self.error = line[:1000]
                return
            if not line.startswith("data:"):
                continue
            data = line.removeprefix("data:").strip()
            if data == "[DONE]":
                self.error = "" if self.finish_reason else "the stream has no finish_reason"
                return
            event = json.loads(data)
            try:
                if "error" in event:
                    self.error = json.dumps(event["error"])[:1000]
                    return
                self._add(event)
            except (AttributeError, TypeError) as error:
                raise ValueError(f"not an event of a chat stream: {data[:200]}") from error

    def _add(self, event: dict[str, Any]) -> None:
        for choice in event.get("choices") or ():
            self.finish_reason = choice.get("finish_reason") or self.finish_reason
            if piece := (choice.get("delta") or {}).get("content"):
                if self.first_piece_s is None:
                    self.first_piece_s = self._clock() - self._began
                self.text += piece
                self.pieces += 1
        self.tokens = (event.get("usage") or {}).get("completion_tokens") or self.tokens
