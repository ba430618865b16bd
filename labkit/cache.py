"""Where labkit keeps what can be made again: compiled kernels, and what engines were sent."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["CACHE", "cache_root"]

#: The environment variable that names the folder.
CACHE = "LABKIT_CACHE"


def cache_root() -> Path:
    """Return the folder, which need not exist.

    Returns
    -------
    Path
        ``$LABKIT_CACHE``; by default ``labkit`` in ``$XDG_CACHE_HOME``.

    Raises
    ------
    RuntimeError
        When there is no home directory either.
    """
    given = os.environ.get(CACHE)
    if given:
        return Path(given).expanduser().absolute()
    caches = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # the specification of XDG wants relative ones ignored
    return (caches if caches.is_absolute() else Path.home() / ".cache") / "labkit"
