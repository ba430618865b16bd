"""A notebook in one SQLite file, with its arrays in HDF5 beside it."""

from __future__ import annotations

import os
from pathlib import Path

from labkit.notebook.sqlitedatabase import SQLiteDatabase
from labkit.notebook.sqlnotebook import DatabaseLabNotebook

__all__ = ["SQLiteLabNotebook"]


class SQLiteLabNotebook(DatabaseLabNotebook):
    """A durable notebook: rows in SQLite, arrays in HDF5.

    What a method has added is on disk when it returns. Any number of processes read
    it meanwhile; one writes, from its first write until :meth:`close` or its end.

    Parameters
    ----------
    name : str or path
        The file, by convention ``*.db``. It is made when there is none.
    create : bool
        Begin with an empty notebook, erasing the one that is there.
    description : str, optional
        Free text.

    Raises
    ------
    NotebookFormatError, NotebookVersionException
        When the file is something else, or of a newer labkit.
    NotebookInUseError
        On the first write, when another process writes it: host, pid and since when.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> nb = SQLiteLabNotebook(f"{folder.name}/walks.db", description="walks")
    >>> nb.addResult({"parameters": {"a": 1}, "metadata": {}, "results": {}})
    >>> SQLiteLabNotebook(nb.name()).numberOfResults()
    1
    >>> nb.close(); folder.cleanup()
    """

    def __init__(
        self, name: str | os.PathLike[str], create: bool = False, description: str | None = None
    ) -> None:
        path = Path(name)
        super().__init__(
            os.fspath(name), description, lambda begin: SQLiteDatabase(path, create, begin)
        )
