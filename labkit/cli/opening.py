"""Notebooks by their file names, as commands take them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from labkit.errors import NotebookError, NotebookFormatError, UnknownNotebookError, suggestion
from labkit.notebook import SQLiteLabNotebook

__all__ = ["notebooks", "reading"]


@contextmanager
def reading(path: Path, tag: str | None = None) -> Iterator[SQLiteLabNotebook]:
    """Open a notebook that is there, to read it: without a lock, also while it is written.

    Parameters
    ----------
    path : Path
        The file.
    tag : str, optional
        The result set to select; by default the one that was current when it was closed.

    Raises
    ------
    UnknownNotebookError
        When there is no such file; it names those that there are.
    NotebookFormatError, NotebookVersionException, UnknownResultSetError
        When it cannot be read, or has no such result set.
    """
    if not path.exists():
        known = suggestion(path.name, (p.name for p in path.parent.glob("*.db")))
        raise UnknownNotebookError(f"there is no notebook {path}{known}")
    if path.is_file() and path.stat().st_size == 0:
        # the notebook's constructor would make one of it
        raise NotebookFormatError(f"{path} is an empty file, not a notebook")
    notebook = SQLiteLabNotebook(path)
    with notebook.open():
        if tag is not None:
            notebook.select(tag)
        yield notebook


def notebooks(folder: Path) -> list[Path]:
    """Return the notebooks in a folder, by name; other files are passed over."""
    found = []
    for path in sorted(folder.glob("*.db")):
        try:
            with reading(path):
                found.append(path)
        except NotebookError:
            continue
    return found
