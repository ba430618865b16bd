"""How many threads numerical libraries use in an engine."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["THREADS", "limited"]

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
