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
