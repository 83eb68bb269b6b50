"""The files of one commit, as `llmops.yaml` names them: versions, texts and prompts. Problems are collected.

What the files mean belongs in `resolved_revision`.
"""

from llmops_assets.config.documents import PROMPT_BYTES, DocumentError
from llmops_assets.config.documents import text_of as decoded
from llmops_assets.config.project import CONFIG_FILE
from llmops_assets.domain.keys import short
from llmops_assets.domain.prompt import PromptError, check_prompt
from resources.project_source.dvc import DvcData
from resources.project_source.dvc_files import Output
from resources.project_source.git_mirror import GitMirror

BARE_PROMPT = "{{ input }}"
"""The prompt of a project that names none."""


class RevisionFiles:
    """Reads the files of a commit, from Git and DVC.

    A file that is missing or unreadable adds to `problems` and gets a placeholder, so that all problems of a commit
    are reported together.
    """

    def __init__(self, git: GitMirror, dvc: DvcData, revision: str):
        self.git, self.revision = git, revision
        self._dvc = dvc
        self.ids = git.files(revision)
        """Path → id of the content, of every file in Git."""
        self.tracked: dict[str, Output] = {}
        """DVC-tracked paths that `version` was asked for → their pointer's entry."""
        self.pointers: set[str] = set()
        """The DVC files of these paths."""
        self.problems: list[str] = []

    def version(self, path: str, key: str) -> str:
        """The version of a file or folder that a key of llmops.yaml names: that of DVC, or else of Git."""
        if found := self._dvc.tracked(self.revision, path):
            pointer, self.tracked[path] = found
            self.pointers.add(pointer)
            return f"dvc:{self.tracked[path].md5}"
        if why := self.git.kept_elsewhere(self.revision, path):
            self.problem(key, why)
        elif blob := self.git.object_id(self.revision, path):
            return f"git:{blob}"
        else:
            self.problem(key, f"{path} is neither in Git nor tracked by DVC; `dvc add {path}`, then commit {path}.dvc")
        return "missing"

    def text(self, path: str, key: str, limit: int) -> str:
        """The text of a file in Git that a key of llmops.yaml names.

        Args:
            limit: bytes.
        """
        try:
            content = self.git.read(self.revision, path, limit)
            if why := self.git.kept_elsewhere(self.revision, path):
                self.problem(key, why)
            elif content is not None:
                return decoded(content)
            else:
                self.problem(key, f"there is no {path} in Git at {short(self.revision)}")
        except DocumentError as error:
            self.problems.append(f"{path}: {error}")
        return BARE_PROMPT

    def prompt(self, path: str | None, key: str) -> str:
        """A prompt template, checked; None: the input alone."""
        if path is None:
            return BARE_PROMPT
        text = self.text(path, key, PROMPT_BYTES)
        try:
            check_prompt(text)
        except PromptError as error:
            self.problems.append(f"{path}: {error} (named by {key} in {CONFIG_FILE})")
        return text

    def problem(self, key: str, what: str) -> None:
        """Adds a problem with what a key of llmops.yaml names."""
        self.problems.append(f"{CONFIG_FILE}: {key}: {what}")
