"""How many threads there may be: of numerical libraries in an engine, of a process in all."""

from __future__ import annotations

import os
from collections.abc import Mapping

__all__ = ["THREADS", "limited", "processors"]

#: The environment variable that says how many threads an engine's points may use.
THREADS = "LABKIT_THREADS"

_LIBRARIES = ("OMP_NUM", "MKL_NUM", "OPENBLAS_NUM", "NUMEXPR_NUM", "NUMBA_NUM", "VECLIB_MAXIMUM")


def limited(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which numerical libraries use as many threads as an engine has.

    That is one, since there is an engine a core, or what ``LABKIT_THREADS`` says. What is
    set for a library itself stays.

    Examples
    --------
    >>> limited({"LABKIT_THREADS": "2", "OMP_NUM_THREADS": "8"})["NUMBA_NUM_THREADS"]
    '2'
    """
    threads = environment.get(THREADS, "1")
    return {f"{library}_THREADS": threads for library in _LIBRARIES} | dict(environment)


def processors() -> int:
    """Return how many processors this process may use."""
    # macOS has no affinity
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
