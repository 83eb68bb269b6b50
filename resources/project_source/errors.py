"""Errors of reading a project's repository."""


class SourceError(Exception):
    """The repository cannot be read; the message names the remedy."""
