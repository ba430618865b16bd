"""Python's garbage collector, kept from looking where there is no garbage."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["overlooked", "uncollected"]


@contextmanager
def uncollected() -> Iterator[None]:
    """Do not look for cycles while many objects are made, none of which is in one.

    The collector goes through all objects again and again as their number grows: with
    100,000 points that takes a third of a lab's time.

    Examples
    --------
    >>> with uncollected():
    ...     gc.isenabled()
    False
    >>> gc.isenabled()
    True
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextmanager
def overlooked() -> Iterator[None]:
    """Do not look through what is there already: only through what is made meanwhile.

    Examples
    --------
    >>> with overlooked():
    ...     gc.get_freeze_count() > 0
    True
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
