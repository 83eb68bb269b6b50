"""MLflow's prompt registry: what an alias names, and the alias that follows production.

Whether a template may be served is decided in `llmops_assets.domain.prompt`.
"""

from llmops_assets.domain.formatting import excerpt
from llmops_assets.domain.models import Frozen
from resources.tracking.mlflow_server import MlflowServer

COMMIT_TAG = "llmops.commit"
"""Of a version that a release registered: the commit that it is from."""
MOST = 10_000
"""Versions of one prompt that are compared with a release's text."""
_PAGE = 100
_ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "NOT_FOUND")


class PromptUnavailable(Exception):
    """The registry does not answer, or has no such prompt or alias; the message says which."""


class RegistryPrompt(Frozen):
    """What an alias names."""

    version: int
    template: str | None
    """None: it is no text but a list of messages."""
    author: str
    """The author that the registry names; empty: none, as without MLflow's login."""


def same_text(one: str, other: str) -> bool:
    """Whether two templates are served alike: line ends and the white space around them do not count."""
    return _plain(one) == _plain(other)


def _plain(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n").strip()


class MlflowPrompts:
    """The prompts of one MLflow server. The constructor does no I/O."""

    def __init__(self, server: MlflowServer):
        self._server = server

    def at(self, name: str, alias: str) -> RegistryPrompt:
        """The version that an alias names.

        Raises:
            PromptUnavailable: there is none, or the registry does not answer.
        """
        from mlflow.exceptions import MlflowException

        try:
            found = self._server.client.get_prompt_version_by_alias(name, alias)
        except MlflowException as error:
            if error.error_code in _ABSENT:
                raise PromptUnavailable(f"MLflow has no prompt {name} with the alias {alias}") from None
            raise PromptUnavailable(f"MLflow: {excerpt(str(error), 300)}") from None
        if found is None:
            raise PromptUnavailable(f"MLflow has no prompt {name} with the alias {alias}")
        text = found.template if isinstance(found.template, str) else None
        return RegistryPrompt(version=int(found.version), template=text, author=str(found.user_id or ""))

    def release(self, name: str, alias: str, template: str, commit: str) -> int:
        """Moves an alias to the newest version with this text, and registers one if there is none; returns it.

        Raises:
            MlflowException: the registry does not answer, or refuses it.
        """
        client = self._server.client
        version = self._version_of(name, template)
        if version is None:
            made = client.register_prompt(
                name, template, commit_message=f"Released from commit {commit}", tags={COMMIT_TAG: commit}
            )
            version = int(made.version)
        client.set_prompt_alias(name, alias, version)
        return version

    def _version_of(self, name: str, template: str) -> int | None:
        from mlflow.exceptions import MlflowException

        token, seen = None, 0
        while seen < MOST:
            try:
                page = self._server.client.search_prompt_versions(name, max_results=_PAGE, page_token=token)
            except MlflowException as error:
                if error.error_code in _ABSENT:
                    return None  # the prompt does not exist yet
                raise
            versions = list(getattr(page, "prompt_versions", page))
            for one in versions:
                if isinstance(one.template, str) and same_text(one.template, template):
                    return int(one.version)
            token, seen = getattr(page, "token", None), seen + len(versions)
            if not token:
                return None
        return None
