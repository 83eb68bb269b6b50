"""What cannot be read of a project's repository."""


class SourceError(Exception):
    """The repository cannot be read as asked; the message says what to do."""
