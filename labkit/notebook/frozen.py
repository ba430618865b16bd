"""Reading a notebook where nothing can be written, not even beside it."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

__all__ = ["read_only"]


def read_only(path: Path, **options: Any) -> sqlite3.Connection:
    """Return a connection for reading.

    A file whose writer kept a log, and has ended without closing it, wants to have a log
    again when it is read. On a disk that cannot be written it is read without.

    Parameters
    ----------
    path : Path
        The file.
    options
        As ``sqlite3.connect`` takes them.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     c = read_only(Path(file.name))
    ...     c.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
    ...     c.close()
    (0,)
    """
    uri = path.resolve().as_uri()
    c: sqlite3.Connection = sqlite3.connect(f"{uri}?mode=ro", uri=True, **options)
    if os.access(path.parent, os.W_OK):
        return c
    try:
        c.execute("PRAGMA schema_version").fetchall()
    except sqlite3.OperationalError:
        c.close()
        # nothing can change here, and a log with rows would have been read
        c = sqlite3.connect(f"{uri}?mode=ro&immutable=1", uri=True, **options)
    return c
