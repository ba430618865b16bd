"""The database of a notebook: who may write it, and how a transaction runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import sqlalchemy as sa

from labkit.errors import LabkitError, NotebookFormatError
from labkit.notebook import dialects, schema
from labkit.notebook.arrays import ArrayStore
from labkit.notebook.dialects import Dialect

__all__ = ["UNDECODABLE", "Begin", "Database", "look_up", "put"]

#: What comes of values that are not those which were written.
UNDECODABLE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError)

#: Completes a new notebook, in the transaction that makes it.
Begin = Callable[["Database", sa.Connection], None]


class Database(ABC):
    """The rows of a notebook, the right to write them, and its arrays.

    Reading needs no lock. The first write takes one, which is kept until :meth:`close`.
    Threads may share a database: those that write wait for each other.
    """

    name: str
    """For messages."""
    dialect: Dialect
    """What is peculiar to it."""
    arrays: ArrayStore
    """Where its arrays are."""

    @abstractmethod
    def read(self, table: str | None = None) -> AbstractContextManager[sa.Connection]:
        """Run statements that read.

        Parameters
        ----------
        table : str, optional
            A result set's table: all statements see one state of it.

        Raises
        ------
        NotebookFormatError
            When the database is damaged.
        """

    @abstractmethod
    def write(self, *result_sets: int) -> AbstractContextManager[sa.Connection]:
        """Run statements that take effect together or not at all.

        Parameters
        ----------
        result_sets : int
            The ids of those whose outcomes or pending results change.

        Raises
        ------
        NotebookInUseError
            When another process writes them.
        NotebookError
            When the database cannot write: a full disk, say.
        """

    @contextmanager
    def decoding(self) -> Iterator[None]:
        """Turn what goes wrong with values that were read into an error of ours.

        Raises
        ------
        NotebookFormatError
            When a value is not what labkit writes.
        """
        try:
            yield
        except LabkitError:
            raise
        except UNDECODABLE as e:
            reason = f"a value cannot be read ({e!r:.200})"
            raise NotebookFormatError(f"{self.name} is damaged: {reason}") from e

    @abstractmethod
    def begin_writing(self, *result_sets: int) -> bool:
        """Become the writer of these; return whether this object was not yet.

        Raises
        ------
        NotebookInUseError
            When another process is.
        """

    @property
    @abstractmethod
    def is_writing(self) -> bool:
        """Whether this object has the right to write."""

    @abstractmethod
    def next_slab(self, c: sa.Connection) -> int:
        """Take the number of the next file of arrays, in a transaction that writes."""

    @abstractmethod
    def first_slab(self, c: sa.Connection) -> int:
        """Return a number that no file of arrays before has, and none later is below."""

    @abstractmethod
    def spool_folder(self, result_set: int) -> Path:
        """Return where engines may leave outcomes for a result set."""

    @abstractmethod
    def concerns(self, current: int) -> set[int] | None:
        """Return the result sets whose pending results are waited for here; None for all.

        Parameters
        ----------
        current : int
            The current one.
        """

    @abstractmethod
    def close(self) -> None:
        """Fold the arrays if nobody else writes any more, and release everything."""

    def get(self, name: str) -> str | None:
        """Return an entry of the notebook's own table."""
        with self.read() as c:
            return look_up(c, name)

    def set(self, name: str, value: str) -> None:
        """Write an entry of the notebook's own table."""
        with self.write() as c:
            put(c, name, value)


def look_up(c: sa.Connection, name: str) -> str | None:
    """Return an entry of the notebook's own table, in a transaction."""
    value: str | None = c.execute(_ENTRY, {"name": name}).scalar()
    return value


_ENTRY = sa.select(schema.notebook.c.value).where(schema.notebook.c.name == sa.bindparam("name"))


def put(c: sa.Connection, name: str, value: str) -> None:
    """Write an entry of the notebook's own table, in a transaction."""
    statement = dialects.insert(c, schema.notebook).values(name=name, value=value)
    c.execute(statement.on_conflict_do_update(index_elements=["name"], set_={"value": value}))
