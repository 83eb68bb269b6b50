"""The demo's users: they ask production through the openai client all the while, and count what was not answered."""

import threading
from types import TracebackType

CODE = "def mean(values):\n    return sum(values) / len(values)"
PAUSE_S = 2.0  # often enough to meet every switch of traffic, seldom enough to leave the cores to the training


class Users:
    """Ask for as long as the block lasts, and at least once."""

    def __init__(self, base_url: str, model: str):
        from openai import OpenAI

        # Without retries: a request that failed once is a user who saw an error.
        self._client = OpenAI(base_url=base_url, api_key="none", max_retries=0, timeout=60.0)
        self._model = model
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="users", daemon=True)
        self.asked = 0
        self.unanswered: list[str] = []

    def ask(self, max_tokens: int = 32) -> str:
        """One answer.

        Raises:
            openai.OpenAIError: there was none.
        """
        answer = self._client.chat.completions.create(
            model=self._model, messages=[{"role": "user", "content": CODE}], temperature=0, max_tokens=max_tokens
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
