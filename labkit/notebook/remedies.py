"""What to do when a notebook is damaged, or its disk takes no more."""

from __future__ import annotations

import errno
import os
import shlex
from pathlib import Path

__all__ = [
    "assert_space",
    "is_full",
    "remedy_for_damage",
    "remedy_for_space",
    "remedy_if_damaged",
]

_SOUND = "what is sound is said by: labkit notebook check"

#: SQLite and HDF5 want some space beside what they are given: logs, headers, whole pages.
_MARGIN_BYTES = 64 * 1024

_FULL = (errno.ENOSPC, errno.EDQUOT)


def remedy_for_damage(notebook: Path) -> str:
    """Return the end of a message about damage: what to type.

    Examples
    --------
    >>> remedy_for_damage(Path("my walks.db"))
    "; what is sound is said by: labkit notebook check 'my walks.db'"
    """
    return f"; {_SOUND} {shlex.quote(str(notebook))}"


def remedy_if_damaged(notebook: Path) -> str:
    """Return the end of a message about a file that may be a damaged notebook.

    Examples
    --------
    >>> remedy_if_damaged(Path("walks.db"))
    '. If it is damaged, what is sound is said by: labkit notebook check walks.db'
    """
    return f". If it is damaged, {_SOUND} {shlex.quote(str(notebook))}"


def remedy_for_space(folder: Path) -> str:
    """Return the end of a message about a failed write: empty unless the disk is full."""
    free = free_bytes(folder)
    if free is None or free >= _MARGIN_BYTES:
        return ""
    return (
        f". The disk of {folder.resolve()} is full: free space there, then go on. "
        "What was recorded is kept, and nothing of this write is"
    )


def free_bytes(folder: Path) -> int | None:
    """Return how much a file system takes yet; None where it does not say."""
    try:
        stat = os.statvfs(folder)
    except OSError:
        return None
    return stat.f_bavail * stat.f_frsize if stat.f_blocks else None


def is_full(e: BaseException) -> bool:
    """Test whether an error says that a disk or a quota is full.

    Examples
    --------
    >>> is_full(OSError(errno.ENOSPC, "No space left on device"))
    True
    """
    return isinstance(e, OSError) and e.errno in _FULL


def assert_space(folder: Path, size_bytes: int) -> None:
    """Raise the error of a full disk before it is full.

    HDF5 keeps a file open that it could not complete, and with it the space.

    Raises
    ------
    OSError
        With the number ``ENOSPC``.
    """
    free = free_bytes(folder)
    if free is not None and free < size_bytes + _MARGIN_BYTES:
        raise OSError(
            errno.ENOSPC,
            f"{os.strerror(errno.ENOSPC)}: {size_bytes:,} bytes are to be written, and "
            f"{free:,} are free in {folder.resolve()}: free space there, then go on. "
            "What was recorded is kept, and nothing of this write is",
        )
