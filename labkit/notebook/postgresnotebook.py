"""A notebook in PostgreSQL, with its arrays in HDF5 in a folder."""

from __future__ import annotations

import os

from labkit.notebook.postgresdatabase import PostgresDatabase
from labkit.notebook.postgresserver import Server
from labkit.notebook.sqlnotebook import DatabaseLabNotebook

__all__ = ["SQLLabNotebook"]


class SQLLabNotebook(DatabaseLabNotebook):
    """A durable notebook for many: rows in PostgreSQL, arrays in HDF5 in a folder.

    What a method has added is on disk when it returns. Any number of processes read it
    meanwhile. A result set has one writer, from its first write until :meth:`close` or its
    end; others write other result sets at the same time.

    What is asked of all result sets together (what is pending, whether all is ready) means
    those that this object writes, and its current one: others wait for theirs themselves.

    Parameters
    ----------
    url : str
        ``postgresql+psycopg://user:password@host/database``. A password may also be in
        ``PGPASSWORD`` or ``~/.pgpass``; no message shows it.
    create : bool
        Begin with an empty notebook, erasing the one that is there.
    description : str, optional
        Free text.
    schema : str, optional
        The schema that holds the notebook, made when there is none: a schema has one
        notebook. By default that of the connection, which mostly is ``public``.
    arrays : path, optional
        The folder for arrays and spools, which all writers and readers share. By default
        the one that the notebook was begun with, and then ``DATABASE.SCHEMA.arrays`` in the
        current directory.

    Raises
    ------
    NotebookConnectionError
        When the server cannot be reached, or does not let us in.
    NotebookFormatError, NotebookVersionException
        When the schema holds something else, or a notebook of a newer labkit.
    NotebookInUseError
        On the first write, when another process writes that result set: host, pid and
        since when.

    Examples
    --------
    >>> SQLLabNotebook("postgresql+psycopg://alice:secret@localhost:1/lab")
    Traceback (most recent call last):
        ...
    labkit.errors.NotebookConnectionError: postgresql+psycopg://alice:***@localhost:1/lab ...
    """

    def __init__(
        self,
        url: str,
        create: bool = False,
        description: str | None = None,
        *,
        schema: str | None = None,
        arrays: str | os.PathLike[str] | None = None,
    ) -> None:
        server = Server(url)
        name = server.name if schema is None else f"{server.name} schema {schema}"
        super().__init__(
            name,
            description,
            lambda begin: PostgresDatabase(server, schema, arrays, create, begin),
        )
