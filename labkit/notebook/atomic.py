"""Files that are there with their whole content, or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from labkit.errors import UnknownNotebookError

__all__ = ["replacing"]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a name to write under; at the end, that file replaces the other in one step.

    When the block raises, or is killed, the other file stays as it is. A link is followed,
    and the permissions of a file that is replaced are kept.

    Parameters
    ----------
    path : Path
        The file that is to have the new content.

    Raises
    ------
    UnknownNotebookError
        When its folder does not exist.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "numbers.txt")
    ...     with replacing(file) as unfinished:
    ...         _ = unfinished.write_text("1 2 3")
    ...     file.read_text()
    '1 2 3'
    """
    if not path.parent.is_dir():
        raise UnknownNotebookError(f"{path}: there is no folder {path.parent}")
    target = path.resolve()
    unfinished = target.with_name(f"{target.name}.{os.getpid()}.unfinished")
    try:
        yield unfinished
        _flush(unfinished, os.O_RDWR)
        if target.exists():
            shutil.copymode(target, unfinished)
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
    _flush(target.parent, os.O_RDONLY)


def _flush(path: Path, flags: int) -> None:
    fd = os.open(path, flags)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
