"""Errors that cost the user one line, never a traceback."""


class InputError(Exception):
    """Something given to the program is wrong. The message names it and says what is allowed.

    It is one line whatever was given: what cannot be printed in one is escaped.
    """

    def __init__(self, message: str) -> None:
        super().__init__("".join(c if c.isprintable() else repr(c)[1:-1] for c in message))


class CorruptFile(InputError):
    """A file of a run is not what was written.

    Attributes:
        path: the file.
        why: what is wrong with it.
    """

    def __init__(self, path: object, why: str) -> None:
        self.path = str(path)
        self.why = why
        super().__init__(f"{self.path}: {why}")

    def __reduce__(self) -> tuple[type["CorruptFile"], tuple[str, str]]:
        # Exceptions travel between processes by their message alone; this one has two arguments.
        return (CorruptFile, (self.path, self.why))
