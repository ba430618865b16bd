"""What an experiment prints and logs, kept with its run."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any, Self, TextIO

__all__ = ["LIMIT_BYTES", "Capture"]

#: Of each run the last part of this length is kept.
LIMIT_BYTES = 2**20


class Capture:
    r"""Gathers ``sys.stdout``, ``sys.stderr`` and logging of this process; use it in ``with``.

    Log records of level INFO and above are gathered; the handlers that were there
    before see no more than they did.

    Parameters
    ----------
    echo : bool
        Also print where it would have been printed.
    aside : callable, optional
        Gives a context manager in which that is printed: a progress bar steps aside.

    Examples
    --------
    >>> with Capture(echo=False) as capture:
    ...     print("seen")
    ...     text = capture.take()
    >>> text
    'seen\n'
    """

    def __init__(
        self, echo: bool, aside: Callable[[], AbstractContextManager[Any]] = nullcontext
    ) -> None:
        self._echo = echo
        self.aside = aside
        self._parts: list[str] = []
        self._size = 0
        self._handler = _Handler(self)

    def __enter__(self) -> Self:
        self._streams = sys.stdout, sys.stderr
        sys.stdout = _Tee(self, sys.stdout if self._echo else None)
        sys.stderr = _Tee(self, sys.stderr if self._echo else None)
        root = logging.getLogger()
        self._nobody_else = not root.handlers
        self._level = root.level
        self._quiet = _AtLeast(root.level)
        for handler in root.handlers:
            handler.addFilter(self._quiet)
        root.addHandler(self._handler)
        root.setLevel(min(root.level, logging.INFO) if root.level else logging.INFO)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        root = logging.getLogger()
        root.setLevel(self._level)
        root.removeHandler(self._handler)
        for handler in root.handlers:
            handler.removeFilter(self._quiet)
        sys.stdout, sys.stderr = self._streams

    def warn(self, text: str) -> None:
        """Show a warning that has no other handler; without this one, Python would print it."""
        if self._echo and self._nobody_else:
            self._streams[1].write(text)

    def add(self, text: str) -> None:
        """Gather a piece of text, and forget the oldest beyond the limit."""
        self._parts.append(text)
        self._size += len(text)
        if self._size > 2 * LIMIT_BYTES:
            self._parts = [self._joined()]
            self._size = len(self._parts[0])

    def _joined(self) -> str:
        data = "".join(self._parts).encode("utf-8", "backslashreplace")
        return data[-LIMIT_BYTES:].decode("utf-8", "ignore")

    def take(self) -> str:
        """Return what was gathered since the last call."""
        if not self._parts:
            return ""
        text = self._joined()
        self._parts, self._size = [], 0
        return text


class _Tee(io.TextIOBase):
    """A text stream that a capture gathers."""

    def __init__(self, capture: Capture, original: TextIO | None) -> None:
        self._capture = capture
        self._original = original

    def write(self, text: str) -> int:
        self._capture.add(text)
        if self._original is not None:
            with self._capture.aside():
                self._original.write(text)
        return len(text)

    def flush(self) -> None:
        if self._original is not None:
            self._original.flush()

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self._original is not None and self._original.isatty()


class _Handler(logging.Handler):
    """Gathers log records, and shows the warnings among them if nobody else does."""

    def __init__(self, capture: Capture) -> None:
        super().__init__(logging.INFO)
        self.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
        self._capture = capture

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record) + "\n"
        self._capture.add(text)
        if record.levelno >= logging.WARNING:
            self._capture.warn(text)


class _AtLeast(logging.Filter):
    """Passes what passed before the capture lowered the root logger's level."""

    def __init__(self, level: int) -> None:
        super().__init__()
        self._level = level

    def filter(self, record: logging.LogRecord) -> bool:
        own = logging.getLogger(record.name)
        while own.parent is not None and not own.level:
            own = own.parent
        return record.levelno >= self._level or own is not logging.getLogger()
