"""The SQLite file of a notebook: who may write it, and how a transaction runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import sqlalchemy as sa

from labkit.errors import NotebookFormatError, NotebookVersionException
from labkit.notebook import schema
from labkit.notebook.arrays import ArrayStore
from labkit.notebook.lock import WriterLock

__all__ = ["Database"]

_SQLITE_MAGIC = b"SQLite format 3\0"

#: How long a transaction waits for another one of this process or for a reader.
_BUSY_TIMEOUT_S = 60.0

#: File systems that machines share: there a write-ahead log would need shared memory.
_SHARED = ("nfs", "cifs", "smb", "lustre", "gpfs", "beegfs", "ceph", "afs", "sshfs", "9p", "glusterfs")


class Database:
    """A notebook's file, its lock, and its arrays.

    Reading needs no lock. The first write takes it, and it is kept until :meth:`close`.

    Parameters
    ----------
    path : Path
        The SQLite file.
    create : bool
        Begin with an empty notebook, whatever there is.

    Raises
    ------
    NotebookFormatError
        When there is another kind of file; also with ``create``: it is not erased.
    NotebookVersionException
        When a newer labkit wrote it.
    NotebookInUseError
        With ``create``, when another process writes it.
    """

    def __init__(self, path: Path, create: bool = False) -> None:
        self.path = path
        self.lock = WriterLock(path)
        self.arrays = ArrayStore(path)
        self.engine = _engine(path)
        if not path.exists() or path.stat().st_size == 0:
            self._create()
            return
        self._check()
        if create:
            self._erase()

    def _create(self) -> None:
        if not self.path.parent.is_dir():
            raise NotebookFormatError(f"{self.path}: there is no folder {self.path.parent}")
        with self.write() as c:
            schema.metadata.create_all(c)
            version = str(schema.SCHEMA_VERSION)
            c.execute(sa.insert(schema.notebook), [{"name": "schema_version", "value": version}])

    def _check(self) -> None:
        with self.path.open("rb") as file:
            magic = file.read(len(_SQLITE_MAGIC))
        if magic != _SQLITE_MAGIC:
            raise NotebookFormatError(
                f"{self.path} is not an SQLite notebook. One that epyc wrote is taken over by: "
                f"labkit notebook import {self.path} NEW.db"
            )
        try:
            version = self.get("schema_version") if self._is_notebook() else None
        except sa.exc.DatabaseError as e:
            raise NotebookFormatError(f"{self.path} is damaged: {e.orig}") from e
        if version is None:
            raise NotebookFormatError(f"{self.path} is an SQLite file, but not a labkit notebook")
        if int(version) > schema.SCHEMA_VERSION:
            raise NotebookVersionException(str(schema.SCHEMA_VERSION), version, str(self.path))

    def _is_notebook(self) -> bool:
        with self.read() as c:
            return sa.inspect(c).has_table(schema.notebook.name)

    def _erase(self) -> None:
        with self.write() as c:
            for name in sa.inspect(c).get_table_names():
                c.execute(sa.schema.DropTable(sa.Table(name, sa.MetaData())))
            schema.metadata.create_all(c)
            version = str(schema.SCHEMA_VERSION)
            c.execute(sa.insert(schema.notebook), [{"name": "schema_version", "value": version}])
        self.arrays.delete()

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """Run statements on one consistent state."""
        with self.engine.connect() as c, c.begin():
            yield c

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """Run statements that take effect together or not at all.

        Raises
        ------
        NotebookInUseError
            When another process writes the notebook.
        """
        self.begin_writing()
        with self.engine.connect().execution_options(labkit_write=True) as c, c.begin():
            yield c

    def begin_writing(self) -> None:
        """Become the notebook's writer, unless this object is already.

        Raises
        ------
        NotebookInUseError
            When another process is.
        """
        if self.lock.held:
            return
        self.lock.acquire()
        mode = "WAL" if _is_local(self.path) else "DELETE"
        with self.engine.connect() as c:
            cursor = c.connection.cursor()
            cursor.execute(f"PRAGMA journal_mode={mode}")
            cursor.close()

    def get(self, name: str) -> str | None:
        """Return an entry of the notebook's own table."""
        query = sa.select(schema.notebook.c.value).where(schema.notebook.c.name == name)
        with self.read() as c:
            value: str | None = c.execute(query).scalar()
        return value

    def set(self, name: str, value: str) -> None:
        """Write an entry of the notebook's own table."""
        with self.write() as c:
            put(c, name, value)

    def close(self) -> None:
        """Fold the arrays if this object has written, and release everything."""
        if self.lock.held:
            with self.read() as c:
                tables = list(c.execute(sa.select(schema.result_sets.c.table)).scalars())
            self.arrays.fold(tables)
        self.engine.dispose()
        self.lock.release()


def put(c: sa.Connection, name: str, value: str) -> None:
    """Write an entry of the notebook's own table, in a transaction."""
    c.execute(sa.delete(schema.notebook).where(schema.notebook.c.name == name))
    c.execute(sa.insert(schema.notebook).values(name=name, value=value))


def next_slab(c: sa.Connection) -> int:
    """Take the number of the next file of arrays."""
    query = sa.select(schema.notebook.c.value).where(schema.notebook.c.name == "next_slab")
    number = int(c.execute(query).scalar() or 0)
    put(c, "next_slab", str(number + 1))
    return number


def _engine(path: Path) -> sa.Engine:
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=os.fspath(path)),
        connect_args={"timeout": _BUSY_TIMEOUT_S, "check_same_thread": False},
    )

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
