"""Errors of reading a project's repository."""

from llmops_assets.machine.redaction import redacted


class SourceError(Exception):
    """The repository cannot be read; the message names the remedy, and contains no credentials."""

    def __init__(self, message: str):
        super().__init__(redacted(message))


class RemoteUnreachable(SourceError):
    """The DVC remote does not answer, or refuses access: what it holds is unknown. Waiting may help; `dvc push` not."""
