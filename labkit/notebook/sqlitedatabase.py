"""The SQLite file of a notebook: who may write it, and how a transaction runs."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
import sqlalchemy as sa

from labkit.errors import (
    LabkitError,
    NotebookError,
    NotebookFormatError,
    NotebookVersionException,
)
from labkit.notebook import dialects, schema
from labkit.notebook.arrays import ArrayStore
from labkit.notebook.connections import Connections
from labkit.notebook.database import UNDECODABLE, Begin, Database, look_up, put
from labkit.notebook.frozen import read_only
from labkit.notebook.lock import WriterLock
from labkit.notebook.migration import migrate
from labkit.notebook.remedies import remedy_for_damage, remedy_for_space, remedy_if_damaged

__all__ = ["SQLiteDatabase"]

logger = logging.getLogger(__name__)

_SQLITE_MAGIC = b"SQLite format 3\0"

#: What SQLite says of a file that is not, or not wholly, what it wrote.
_SIGNS_OF_DAMAGE = ("malformed", "not a database", "no such table", "no such column", "UTF-8")

#: What it says when the disk takes no more.
_SIGN_OF_FULL_DISK = "disk is full"
_SIGN_OF_FAILED_DISK = "disk I/O error"

#: How long a transaction waits for another one of this process or for a reader.
_BUSY_TIMEOUT_S = 60.0

#: File systems that machines share: there a write-ahead log would need shared memory.
_SHARED = (
    "nfs",
    "cifs",
    "smb",
    "lustre",
    "gpfs",
    "beegfs",
    "ceph",
    "afs",
    "sshfs",
    "9p",
    "glusterfs",
)


class SQLiteDatabase(Database):
    """A notebook's file, its lock, and its arrays: one process writes.

    Parameters
    ----------
    path : Path
        The SQLite file.
    create : bool
        Begin with an empty notebook, whatever there is.
    begin : callable
        Completes a new notebook, in the transaction that makes it.

    Raises
    ------
    NotebookFormatError
        When there is another kind of file, also with ``create``: it is not erased. Or no folder.
    NotebookVersionException
        When a newer labkit wrote it.
    NotebookInUseError
        With ``create``, when another process writes it.
    """

    dialect = dialects.SQLITE

    def __init__(self, path: Path, create: bool, begin: Begin) -> None:
        self.name = str(path)
        self.path = path
        self.lock = WriterLock(path)
        self._connections = Connections(lambda: _engine(path))
        self._is_old = False
        if self._is_new():
            self._create(create, begin)
        else:
            self._check()
            if create:
                self._erase(begin)
        self.arrays = self._store()

    def _is_new(self) -> bool:
        """Test whether there is no file yet, or one in which nothing was completed."""
        if not self.path.parent.is_dir():
            raise NotebookFormatError(f"{self.path}: there is no folder {self.path.parent}")
        try:
            if self.path.stat().st_size == 0:
                return True
            with self.path.open("rb") as file:
                magic = file.read(len(_SQLITE_MAGIC))
        except FileNotFoundError:
            return True
        except OSError as e:
            raise NotebookFormatError(f"{self.path} cannot be read: {e.strerror}") from e
        if magic != _SQLITE_MAGIC:
            raise NotebookFormatError(
                f"{self.path} is not an SQLite notebook. One that epyc wrote is taken over by: "
                f"labkit notebook import {self.path} NEW.db{remedy_if_damaged(self.path)}"
            )
        return not self._tables() and self._pages() <= 1

    def _pages(self) -> int:
        """Return the size in pages: a file of several was written, though its tables be gone."""
        with self.read() as c:
            return int(c.exec_driver_sql("PRAGMA page_count").scalar_one())

    def _tables(self) -> list[str]:
        with self.read() as c:
            return sa.inspect(c).get_table_names()

    def _create(self, create: bool, begin: Begin) -> None:
        stores = {name: ArrayStore(self.path.parent, stem) for name, stem in self._stems().items()}
        free = [
            name for name, s in stores.items() if not s.files() or (create and s.is_left_over())
        ]
        if not free:
            raise NotebookFormatError(
                f"the arrays of {self.path} would go to {stores['arrays'].path}, but that is there "
                "already: move it, or give the notebook another name"
            )
        with self.write() as c:
            if not sa.inspect(c).has_table(schema.notebook.name):
                stores[free[0]].delete()
                self._fill(c, {"arrays": free[0]}, begin)

    def _stems(self) -> dict[str, str]:
        """Return how the names of the files of arrays may begin, the preferred one first.

        Beside ``walks.db``, a ``walks.h5`` may be anybody's: a notebook of epyc, say.
        """
        stems = {"stem": self.path.stem} if self.path.suffix == ".db" else {}
        return stems | {"name": self.path.name, "arrays": f"{self.path.name}.arrays"}

    def _store(self) -> ArrayStore:
        name = self.get("arrays") or "name"
        if name not in self._stems():
            raise NotebookFormatError(self._damage(f"its arrays are in {name!r:.100}"))
        return ArrayStore(self.path.parent, self._stems()[name], self.path)

    def _check(self) -> None:
        if schema.notebook.name not in self._tables():
            raise NotebookFormatError(
                f"{self.path} is an SQLite file, but not a labkit notebook"
                f"{remedy_if_damaged(self.path)}"
            )
        version = self.get("schema_version")
        if version is None or not version.isdecimal():
            raise NotebookFormatError(self._damage("it has no schema version"))
        if int(version) > schema.SCHEMA_VERSION:
            raise NotebookVersionException(str(schema.SCHEMA_VERSION), version, str(self.path))
        self._is_old = int(version) < schema.SCHEMA_VERSION

    def _erase(self, begin: Begin) -> None:
        kept = {name: self.get(name) for name in ("arrays", "next_slab")}
        self._is_old = False
        store = self._store()
        with self.write() as c:
            for name in sa.inspect(c).get_table_names():
                c.execute(sa.schema.DropTable(sa.Table(name, sa.MetaData())))
            self._fill(c, {name: value for name, value in kept.items() if value}, begin)
        store.delete()

    def _fill(self, c: sa.Connection, entries: Mapping[str, str], begin: Begin) -> None:
        schema.metadata.create_all(c)
        for name, value in {"schema_version": str(schema.SCHEMA_VERSION), **entries}.items():
            put(c, name, value)
        begin(self, c)

    @contextmanager
    def read(self, table: str | None = None) -> Iterator[sa.Connection]:
        """Run statements on one consistent state.

        Raises
        ------
        NotebookFormatError
            When the file is damaged.
        """
        with self._translated(), self.decoding(), self._connections.connect() as c, c.begin():
            yield c

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
            raise NotebookFormatError(self._damage(f"a value cannot be read ({e!r:.200})")) from e
        except MemoryError as e:
            raise NotebookError(
                f"{self.path} cannot be read: it asks for more memory than there is. That can be "
                f"damage{remedy_for_damage(self.path)}"
            ) from e

    @contextmanager
    def write(self, *result_sets: int) -> Iterator[sa.Connection]:
        """Run statements that take effect together or not at all.

        Raises
        ------
        NotebookInUseError
            When another process writes the notebook.
        NotebookError
            When SQLite cannot write: a full disk, say.
        """
        self.begin_writing()
        if self._is_old:
            with self._transaction() as c:
                migrate(c, schema.metadata)
            self._is_old = False
        with self._transaction() as c:
            yield c

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        slabs: list[int] = []
        options = {"labkit_write": True, "labkit_slabs": slabs}
        with (
            self._translated(),
            self._connections.connect(**options) as c,
            self._without_slabs_of_a_failure(slabs),
            c.begin(),
        ):
            yield c

    @contextmanager
    def _without_slabs_of_a_failure(self, slabs: Sequence[int]) -> Iterator[None]:
        try:
            yield
        except BaseException as e:
            # after a disk that failed at the commit, the rows can be there after a crash
            if _SIGN_OF_FAILED_DISK not in str(e) or remedy_for_space(self.path.parent):
                for number in slabs:
                    # of a disk that has become read-only, the next writer deletes it
                    with contextlib.suppress(OSError):
                        self.arrays.numbered(number).unlink()
            raise

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (sa.exc.DBAPIError, sqlite3.Error) as e:
            reason = str(e.orig if isinstance(e, sa.exc.DBAPIError) else e)
            if any(sign in reason for sign in _SIGNS_OF_DAMAGE):
                raise NotebookFormatError(self._damage(reason)) from e
            raise NotebookError(f"{self.path}: {reason}{self._remedy(reason)}") from e
        except UnicodeEncodeError as e:
            raise NotebookError(f"{self.path}: {e.object!r:.200} is not Unicode text") from e

    def _damage(self, reason: str) -> str:
        return f"{self.path} is damaged: {reason}{remedy_for_damage(self.path)}"

    def _remedy(self, reason: str) -> str:
        if _SIGN_OF_FULL_DISK in reason or _SIGN_OF_FAILED_DISK in reason:
            return remedy_for_space(self.path.parent)
        return ""

    @property
    def is_writing(self) -> bool:
        """Whether this object holds the lock."""
        return self.lock.held

    def begin_writing(self, *result_sets: int) -> bool:
        """Become the notebook's writer; return whether this object was not yet.

        Raises
        ------
        NotebookInUseError
            When another process is.
        """
        if self.lock.held:
            return False
        self.lock.acquire()
        # connections of a reader may be for reading only
        self._connections.close()
        try:
            self._set_journal("WAL" if _is_local(self.path) else "DELETE", _BUSY_TIMEOUT_S)
        except sqlite3.Error as e:
            self.lock.release()
            remedy = remedy_for_space(self.path.parent)
            raise NotebookError(f"{self.path} cannot be written: {e}{remedy}") from e
        return True

    def _set_journal(self, mode: str, timeout_s: float) -> None:
        with contextlib.closing(sqlite3.connect(self.path, timeout_s)) as c:
            c.execute(f"PRAGMA journal_mode={mode}").fetchall()

    def next_slab(self, c: sa.Connection) -> int:
        """Take the number of the next file of arrays."""
        number = self.first_slab(c)
        c.get_execution_options()["labkit_slabs"].append(number)
        put(c, "next_slab", str(number + 1))
        return number

    def first_slab(self, c: sa.Connection) -> int:
        """Return the number of the next file of arrays."""
        return int(look_up(c, "next_slab") or 0)

    def spool_folder(self, result_set: int) -> Path:
        """Return the folder beside the file in which engines may leave outcomes."""
        path = self.path.resolve()
        return path.with_name(path.name + ".spool")

    def concerns(self, current: int) -> set[int] | None:
        """Return None: there is one writer of all result sets."""
        return None

    def close(self) -> None:
        """Fold the arrays if nobody else writes any more, and release everything."""
        last = self.lock.held and not self.lock.shared and self.path.exists()
        try:
            if last:
                self._fold()
        except (OSError, RuntimeError) as e:
            # they can be read where they are, and the next who closes the notebook folds them
            logger.warning("%s: its arrays stay in files of their own: %s", self.path, e)
        finally:
            self._connections.close()
            if last:
                # without a log, the file can be read from a folder that cannot be written
                with contextlib.suppress(sqlite3.Error):
                    self._set_journal("DELETE", timeout_s=0)
            self.lock.release()

    def _fold(self) -> None:
        t = schema.result_sets.c
        with self.read() as c:
            rows = c.execute(sa.select(t.table, t.first_slab))
            tables = {str(table): int(first) for table, first in rows}
            next_slab = self.first_slab(c)
            self.arrays.fold(tables, lambda number: number < next_slab)


def _engine(path: Path) -> sa.Engine:
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=os.fspath(path)),
        connect_args={"timeout": _BUSY_TIMEOUT_S, "check_same_thread": False},
    )

    @sa.event.listens_for(engine, "do_connect")
    def _(dialect, record, arguments, options):  # type: ignore[no-untyped-def]
        is_frozen = path.exists() and not os.access(path.parent, os.W_OK)
        return read_only(path, **options) if is_frozen else None

    # sqlite3 begins transactions by itself, but not for all statements: SQLAlchemy's
    # documentation has this remedy under "pysqlite: transactions with SQLite"
    @sa.event.listens_for(engine, "connect")
    def _(connection, record):  # type: ignore[no-untyped-def]
        connection.isolation_level = None
        connection.execute("PRAGMA synchronous=FULL")

    @sa.event.listens_for(engine, "begin")
    def _(connection):  # type: ignore[no-untyped-def]
        writes = connection.get_execution_options().get("labkit_write")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _is_local(path: Path) -> bool:
    """Test whether a file lies on this machine's own disk."""
    mounts = {p.mountpoint: p.fstype for p in psutil.disk_partitions(all=True)}
    for folder in [path.resolve(), *path.resolve().parents]:
        if os.fspath(folder) in mounts:
            return not mounts[os.fspath(folder)].lower().startswith(_SHARED)
    return True
