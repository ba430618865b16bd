"""The progress bar of a lab: done, failed, points a second, time to go."""

from __future__ import annotations

import os
import sys
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any, Self

__all__ = ["Progress", "Tally", "shell"]


class Progress:
    """Shows how far a lab is, in a terminal or in Jupyter; use it in ``with``.

    Parameters
    ----------
    total : int
        How many points there are.
    wanted : bool or None
        None shows it where somebody looks: a terminal, or Jupyter.
    """

    def __init__(self, total: int, wanted: bool | None = None) -> None:
        from tqdm.auto import tqdm

        # a terminal that does not tell its width is taken for one of 80 columns
        knows_width = _columns() != 0
        shown = (_somebody_looks() if wanted is None else wanted) and total > 0
        self._failed = 0
        self._bar: Any = tqdm(
            total=total,
            unit="point",
            disable=not shown,
            ncols=None if knows_width else 80,
            nrows=None if knows_width else 24,
            dynamic_ncols=knows_width,
            smoothing=0.1,
            mininterval=0.2,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._bar.close()

    def aside(self) -> AbstractContextManager[Any]:
        """Keep the bar out of the way of what is printed in a ``with`` block."""
        return nullcontext() if self._bar.disable else self._bar.external_write_mode()

    def add(self, done: int, failed: int = 0) -> None:
        """Count points that are done, failed ones included."""
        self._failed += failed
        self._bar.set_postfix({"failed": self._failed}, refresh=False)
        self._bar.update(done)


class Tally:
    """Counts what is recorded behind the back of whoever shows a bar, for that bar.

    Examples
    --------
    >>> tally = Tally()
    >>> tally.add(3, failed=1)
    >>> tally.take(), tally.take()
    ((3, 1), (0, 0))
    """

    def __init__(self) -> None:
        self._done, self._failed = 0, 0

    def __bool__(self) -> bool:
        return self._done > 0

    def add(self, done: int, failed: int = 0) -> None:
        """Count points that are done, failed ones included."""
        self._done, self._failed = self._done + done, self._failed + failed

    def take(self) -> tuple[int, int]:
        """Return how many are done, and how many of them failed, since the last time."""
        counts = self._done, self._failed
        self._done, self._failed = 0, 0
        return counts


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns
    except (OSError, ValueError, AttributeError):  # no terminal: Jupyter, or a capture
        return -1


def shell() -> Any:
    """Return the IPython shell in which this runs, or None."""
    return sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None


def _somebody_looks() -> bool:
    # a shell with a kernel is Jupyter's
    return hasattr(shell(), "kernel") or (sys.stderr is not None and sys.stderr.isatty())
