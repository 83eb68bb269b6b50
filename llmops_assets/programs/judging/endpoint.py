"""The OpenAI-compatible endpoint of an LLM that judges: bounded requests, and one clear error if it cannot be asked."""

import os
import ssl
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, NoReturn

from llmops_assets.config.judges import Judge
from llmops_assets.domain.formatting import excerpt
from llmops_assets.domain.judging import VERDICT_SCHEMA
from llmops_assets.programs.runtime.errors import BadInput

PARAMETERS = {"temperature": 0, "seed": 0, "max_tokens": 1024}
PASSING = (408, 425, 429, 500, 502, 503, 504, 529)
"""Answers that may be another one in a while."""
OF_THE_REQUEST = (400, 413, 422)
"""Answers that refuse one request, such as one that is longer than the judge's context."""
LONGEST_WAIT = 30.0
"""Seconds between two attempts, whatever the endpoint's Retry-After says."""
EXCERPT = 200


class Unreadable(Exception):
    """The endpoint refuses this one request; the message is its own."""


class JudgeEndpoint:
    """Asks one judge. Answers are kept as long as the process lives: nothing is asked, or paid, twice.

    Args:
        judge: its settings.
    """

    def __init__(self, judge: Judge):
        import httpx

        self.judge = judge
        self.models: set[str] = set()
        """What the endpoint says that its model is."""
        self._known: dict[str, str | Unreadable] = {}
        self._stopped = threading.Event()
        key = os.environ.get(judge.api_key.env) if judge.api_key else None
        if judge.api_key and not key:
            self._fail(f"its API key is missing; set the environment variable {judge.api_key.env}", "api_key")
        # llama.cpp's server closes connections that it has said to keep.
        self._client = httpx.Client(
            timeout=judge.timeout,
            limits=httpx.Limits(max_keepalive_connections=0),
            headers={"Authorization": f"Bearer {key}"} if key else {},
            trust_env=False,
            verify=ssl.create_default_context(cafile=path) if (path := os.environ.get("SSL_CERT_FILE")) else True,
        )

    def check(self) -> None:
        """Asks for a word, so that an endpoint that cannot be used is found before any inference.

        Raises:
            BadInput: it cannot be used.
        """
        try:
            self._ask("Reply with one word: ready")
        except Unreadable as error:
            self._fail(
                f"it refuses a request: {error}; correct its parameters, or set constrained: false", "parameters"
            )

    def ask_all(self, prompts: Sequence[str]) -> list[str | Unreadable]:
        """The answer to each prompt, or why the endpoint refuses it.

        Raises:
            BadInput: it cannot be used.
        """
        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._known]
        with ThreadPoolExecutor(self.judge.parallel) as pool:
            try:
                for prompt, answer in zip(new, pool.map(self._answer, new), strict=True):
                    self._known[prompt] = answer
            except BaseException:
                self._stopped.set()  # those that wait for their next attempt
                pool.shutdown(cancel_futures=True)
                raise
        return [self._known[prompt] for prompt in prompts]

    def _answer(self, prompt: str) -> str | Unreadable:
        try:
            return self._ask(prompt)
        except Unreadable as error:
            return error

    def _ask(self, prompt: str) -> str:
        import httpx

        judge, problem = self.judge, ""
        for attempt in range(judge.retries + 1):
            wait = min(2.0**attempt / 2, LONGEST_WAIT)
            try:
                answer = self._client.post(f"{judge.base_url}/chat/completions", json=self._body(prompt))
            except httpx.TimeoutException:
                problem = f"no answer within {judge.timeout:g} s"
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                problem = excerpt(str(error) or type(error).__name__, EXCERPT)
            else:
                if answer.status_code == 200:
                    return self._text(answer)
                problem = f"HTTP {answer.status_code}: {_said(answer)}"
                if answer.status_code in OF_THE_REQUEST:
                    raise Unreadable(problem)
                if answer.status_code not in PASSING:
                    self._refused(answer.status_code, problem)
                wait = _retry_after(answer, wait)
            if attempt < judge.retries and self._stopped.wait(wait):
                break
        tries = f"{judge.retries + 1} attempts" if judge.retries else "1 attempt"
        self._fail(
            f"it does not answer at {judge.base_url} ({tries}): {problem}; start it or correct", "base_url", True
        )

    def _refused(self, status: int, problem: str) -> NoReturn:
        judge = self.judge
        if status in (401, 403):
            variable = f"the environment variable {judge.api_key.env}" if judge.api_key else "api_key: {env: NAME}"
            self._fail(f"it refuses the API key ({problem}); set {variable} to a valid key", "api_key", True)
        told = f"it does not answer for the model {judge.model!r} at {judge.base_url} ({problem}); correct"
        self._fail(told, "base_url or model", True)

    def _fail(self, problem: str, key: str, again: bool = False) -> NoReturn:
        told = f"{problem} {key} in the settings" if problem.endswith("correct") else problem
        raise BadInput(f"{told}; then `llmops retry`" if again else told, f"judge {self.judge.name} ({key})")

    def _body(self, prompt: str) -> dict[str, Any]:
        parameters = {**PARAMETERS, **self.judge.parameters}
        body: dict[str, Any] = {"model": self.judge.model, "messages": [{"role": "user", "content": prompt}]}
        if self.judge.constrained:
            schema = {"name": "verdict", "strict": True, "schema": VERDICT_SCHEMA}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return body | {name: value for name, value in parameters.items() if value is not None}

    def _text(self, answer: Any) -> str:
        try:
            said = answer.json()
            text = said["choices"][0]["message"]["content"]
            self.models.add(str(said.get("model") or self.judge.model))
        except (ValueError, LookupError, TypeError, AttributeError):
            self._fail(f"{self.judge.base_url} gives no OpenAI chat completion: {_said(answer)}; correct", "base_url")
        return text if isinstance(text, str) else ""


@lru_cache(maxsize=8)
def endpoint_of(judge: str) -> JudgeEndpoint:
    """The process's only client of a judge, from its settings as JSON.

    Raises:
        BadInput: its API key is not in the environment.
    """
    return JudgeEndpoint(Judge.model_validate_json(judge))


def _said(answer: Any) -> str:
    """The endpoint's own message."""
    try:
        body = answer.json()
        error = body["error"]
        return excerpt(str(error["message"] if isinstance(error, dict) else error), EXCERPT)
    except (ValueError, LookupError, TypeError):
        return excerpt(answer.text or answer.reason_phrase or "no text", EXCERPT)


def _retry_after(answer: Any, otherwise: float) -> float:
    try:
        return min(max(float(answer.headers["retry-after"]), 0.0), LONGEST_WAIT)
    except (KeyError, ValueError):
        return otherwise
