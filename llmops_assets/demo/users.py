"""The demo's users: send requests to production through the openai client and count unanswered ones."""

import threading
from types import TracebackType

CODE = "def mean(values):\n    return sum(values) / len(values)"
PAUSE_S = 2.0  # often enough to hit every traffic switch, rarely enough to leave the cores to the training


class Users:
    """Context manager that sends requests while the block runs, at least one."""

    def __init__(self, base_url: str, model: str):
        from openai import OpenAI

        # Without retries: a request that fails once is a user who saw an error.
        self._client = OpenAI(base_url=base_url, api_key="none", max_retries=0, timeout=60.0)
        self._model = model
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="users", daemon=True)
        self.asked = 0
        self.unanswered: list[str] = []

    def ask(self, max_tokens: int = 32) -> str:
        """Sends one request and returns the answer.

        Raises:
            openai.OpenAIError: the request failed.
        """
        answer = self._client.chat.completions.create(
            model=self._model, messages=[{"role": "user", "content": CODE}], max_tokens=max_tokens
        )
        return answer.choices[0].message.content or ""

    def _run(self) -> None:
        from openai import OpenAIError

        while True:
            self.asked += 1
            try:
                if not self.ask(max_tokens=8).strip():
                    self.unanswered.append("an empty answer")
            except OpenAIError as error:
                self.unanswered.append(f"{type(error).__name__}: {error}")
            if self._over.wait(PAUSE_S):
                return

    def __enter__(self) -> "Users":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()
