"""The progress bar of a lab: done, failed, points a second, time to go."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any, Self

__all__ = ["Progress", "shell"]


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

        shown = (_somebody_looks() if wanted is None else wanted) and total > 0
        self._failed = 0
        self._bar: Any = tqdm(
            total=total,
            unit="point",
            disable=not shown,
            dynamic_ncols=True,
            smoothing=0.1,
            mininterval=0.2,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._bar.close()

    def add(self, done: int, failed: int = 0) -> None:
        """Count points that are done, failed ones included."""
        self._failed += failed
        self._bar.set_postfix({"failed": self._failed}, refresh=False)
        self._bar.update(done)


def shell() -> Any:
    """Return the IPython shell in which this runs, or None."""
    return sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None


def _somebody_looks() -> bool:
    # a shell with a kernel is Jupyter's
    return hasattr(shell(), "kernel") or (sys.stderr is not None and sys.stderr.isatty())
