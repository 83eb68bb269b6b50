"""Proposals of prompts: what MLflow's prompt registry has that the watched branch has not.

Which prompts are written to which template is in the settings (`config.proposals`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llmops_assets.config.proposals import PromptProposal
from llmops_assets.config.watched_project import ProjectSource
from llmops_assets.delivery.moved_subjects import Looked, Moved, Refused, Unchanged, text_of
from llmops_assets.domain.keys import digest, short
from llmops_assets.domain.prompt import PromptError, check_prompt
from resources.assembly import Clients
from resources.project_source.errors import SourceError
from resources.project_source.revisions import ProjectRepository
from resources.prompt_registry.mlflow import MlflowPrompts, PromptUnavailable, same_text


def look_at_prompts(clients: Clients, project: ProjectSource, prompts: Sequence[PromptProposal], head: str) -> Looked:
    """What MLflow's prompt registry has that the templates of a commit have not."""
    source = clients.sources(project)
    registry = MlflowPrompts(clients.tracking.server)
    moved, held, faults = list[Moved](), dict[str, str](), list[str]()
    for prompt in prompts:
        subject = f"prompt {prompt.name}@{prompt.alias}"
        try:
            found = registry.at(prompt.name, prompt.alias)
            path, now = template_at(source, head, prompt.key)
        except (PromptUnavailable, SourceError) as error:
            faults.append(f"{subject}: {text_of(error)}")
            continue
        state = digest([prompt.name, found.version, found.template])
        if found.template is not None and same_text(found.template, now):
            held[subject] = state
            continue
        author = _co_author(found.author)
        moved.append(
            Moved(
                subject=subject,
                state=state,
                path=path,
                title=f"{prompt.key}: version {found.version} of {prompt.name} in MLflow",
                body=f"The alias {prompt.alias} of the prompt registry names it now.{author}",
                make=_WrittenPrompt(source, prompt.key, found.template),
            )
        )
    return Looked(moved=moved, held=held, faults=faults)


def template_at(source: ProjectRepository, revision: str, key: str) -> tuple[str, str]:
    """The file and the text of a template that llmops.yaml names.

    Raises:
        SourceError: it names none.
        ConfigError: it is invalid.
    """
    at = source.at(revision)
    path = at.config.training.prompt if key == "training.prompt" else at.config.prompt
    if path is None:
        raise SourceError(f"{key} in llmops.yaml of {short(revision)} names no file to write the template to")
    text: str = at.values[key]
    return path, text


@dataclass(frozen=True)
class _WrittenPrompt:
    """The file that a proposal of a prompt changes."""

    source: ProjectRepository
    key: str
    template: str | None

    def __call__(self, base: str) -> Mapping[str, bytes]:
        if self.template is None:
            raise Refused("it is a list of messages, and a prompt template is one text: the user turn")
        try:
            check_prompt(self.template)
        except PromptError as error:
            raise Refused(str(error)) from None
        path, now = template_at(self.source, base, self.key)
        if same_text(self.template, now):
            raise Unchanged
        return {path: f"{self.template.rstrip()}\n".encode()}


def _co_author(name: str) -> str:
    """A line for the commit that makes a prompt's author an author of the change, who then cannot approve it."""
    if not name or not name.isprintable() or any(sign in name for sign in "<>"):
        return ""
    return f"\n\nCo-authored-by: {name} <{name}>"
