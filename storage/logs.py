"""Logs kept in OUT: a file that grows, or an object written anew now and then."""

import logging
import time
from pathlib import Path

from storage.errors import CorruptFile
from storage.filesystem import AnyPath, read_bytes, write_atomic
from storage.object_path import ObjectPath

_REWRITE_EVERY_S = 30.0


def log_handler(path: AnyPath) -> logging.Handler:
    """A handler that adds to the log at `path`, made if need be."""
    if isinstance(path, Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        return logging.FileHandler(path)
    return _ObjectLog(path)


class _ObjectLog(logging.Handler):
    """Keeps the whole log and writes it when half a minute has passed, at errors and at the end."""

    def __init__(self, path: ObjectPath) -> None:
        super().__init__()
        self._path = path
        self._written_at = time.monotonic()
        try:
            self._text = read_bytes(path).decode(errors="replace")
        except (FileNotFoundError, CorruptFile):
            self._text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self._text += self.format(record) + "\n"
        late = time.monotonic() - self._written_at > _REWRITE_EVERY_S
        if late or record.levelno >= logging.WARNING:
            self._write()

    def close(self) -> None:
        self._write()
        super().close()

    def _write(self) -> None:
        try:
            write_atomic(self._path, self._text.encode())
        except OSError:
            return  # a log is not worth a trial; the next write has it all
        self._written_at = time.monotonic()
