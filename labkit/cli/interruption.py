"""What Ctrl-C does to a lab that is running."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from labkit.labs.lab import Lab

__all__ = ["Interruption"]

_FIRST = (
    "\nInterrupted: what is running will finish and be recorded. "
    "Press Ctrl-C again to stop at once.\n"
)
_SECOND = "\nStopping at once; what is recorded stays.\n"


class Interruption:
    """Turns the first Ctrl-C into a drain, and the second into an end; use it in ``with``.

    Before a lab is guarded, the first ends the block at once. Whatever happens, the block
    ends without an exception: :attr:`happened` tells.
    """

    def __init__(self) -> None:
        self._count = 0
        self._lab: Lab | None = None
        self._before: Any = None

    @property
    def happened(self) -> bool:
        """Whether Ctrl-C was pressed."""
        return self._count > 0

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> bool:
        signal.signal(signal.SIGINT, self._before)
        if kind is KeyboardInterrupt:
            self._count = max(self._count, 1)
        return kind is KeyboardInterrupt

    def guard(self, lab: Lab) -> None:
        """Drain this lab at the first Ctrl-C."""
        self._lab = lab

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._count += 1
        if self._count == 1 and self._lab is not None:
            _tell(_FIRST)
            self._lab.drain()
            return
        if self._lab is not None:
            _tell(_SECOND)
        raise KeyboardInterrupt


def _tell(text: str) -> None:
    # not sys.stderr: it may be the very stream whose write was interrupted, or a capture
    os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, text.encode())
