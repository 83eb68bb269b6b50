"""How a program says that its input, and not the program, is at fault; and the exit codes for it."""

BAD_INPUT = 2
"""Exit code: error.json says what is wrong."""
DISK_FULL = 3
"""Exit code: where the disk is full, no file could say so."""


class BadInput(Exception):
    """The input is at fault, not the program: what is wrong and how to mend it, and where."""

    def __init__(self, message: str, where: str = ""):
        super().__init__(f"{where}: {message}" if where else message)
        self.message = message
        self.where = where
