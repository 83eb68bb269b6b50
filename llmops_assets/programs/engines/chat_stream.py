"""Parses a streamed chat answer in OpenAI's format (server-sent events). HTTP clients send the requests."""

import json
import math
import time
from collections.abc import Callable, Iterable
from typing import Any


class ChatStream:
    """One streamed answer. It keeps what it has parsed if reading fails.

    Attributes:
        text: the text so far.
        pieces: number of events with text.
        tokens: number of tokens as the engine reports it; None if it does not.
        first_piece_s: seconds from `began` to the first text.
        finish_reason: the engine's reason for the end: stop or length.
        error: why the answer is not complete; empty if it ended with a finish_reason and [DONE].
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
        """Reads the lines until the response ends, or `timeout_s` seconds after `began`.

        The response ends after [DONE]: a client that closes the connection at [DONE] may do so before the gateway has
        the end of the response, which then counts it as a user who left.

        Raises:
            ValueError: an event is not JSON, or not in OpenAI's format.
        """
        done = False
        for line in lines:
            if self._clock() - self._began > timeout_s:
                self.error = f"the answer took longer than {timeout_s:g} s"
                return
            if done:
                continue
            if line.startswith("error:"):  # llama.cpp reports errors so
                self.error = line[:1000]
                return
            if not line.startswith("data:"):
                continue
            data = line.removeprefix("data:").strip()
            if data == "[DONE]":
                self.error = "" if self.finish_reason else "the stream has no finish_reason"
                done = True
                continue
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
