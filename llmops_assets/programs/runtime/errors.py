"""The error for invalid input of a program, and the exit codes of programs."""

BAD_INPUT = 2
"""Exit code: error.json describes what is wrong."""
DISK_FULL = 3
"""Exit code: on a full disk no error.json can be written."""


class BadInput(Exception):
    """The input is at fault, not the program. Names what is wrong, where, and how to fix it."""

    def __init__(self, message: str, where: str = ""):
        super().__init__(f"{where}: {message}" if where else message)
        self.message = message
        self.where = where


class Unavailable(Exception):
    """Something outside of program and input failed, such as a registry: a retry may succeed."""


class TrainingDiverged(BadInput):
    """The loss of a training is not finite, or far above its best. A retry would diverge again."""


KINDS: dict[str, type[BadInput]] = {kind.__name__: kind for kind in (BadInput, TrainingDiverged)}
"""Name in error.json → the error that is raised for it where the program was started."""
