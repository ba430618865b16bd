"""A notebook's schema in PostgreSQL, with its arrays in a folder."""

from __future__ import annotations

import contextlib
import logging
import os
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import sqlalchemy as sa

from labkit.errors import (
    NotebookError,
    NotebookFormatError,
    NotebookVersionException,
)
from labkit.notebook import dialects, postgresschema, schema
from labkit.notebook.arrays import ArrayStore
from labkit.notebook.connections import Connections
from labkit.notebook.database import Begin, Database, put
from labkit.notebook.migration import is_current, migrate
from labkit.notebook.postgresserver import Server
from labkit.notebook.postgreswriter import LOCK_TIMEOUT_S, Writer, lock

__all__ = ["PostgresDatabase"]

logger = logging.getLogger(__name__)


class PostgresDatabase(Database):
    """A notebook's schema, the result sets that this object writes, and the arrays.

    Parameters
    ----------
    server : Server
        Where it is.
    schema_name : str, optional
        The schema; made when there is none. By default that of the connection.
    arrays : path, optional
        The folder of the arrays. By default the one that the notebook was begun with.
    create : bool
        Begin with an empty notebook.
    begin : callable
        Completes a new notebook, in the transaction that makes it.

    Raises
    ------
    NotebookConnectionError
        When the server cannot be reached.
    NotebookFormatError
        When the tables there are no notebook, or files are where the arrays would go.
    NotebookVersionException
        When a newer labkit wrote it.
    NotebookInUseError
        With ``create``, when another process writes it.
    """

    dialect = dialects.POSTGRESQL
    _all: ClassVar[weakref.WeakSet[PostgresDatabase]] = weakref.WeakSet()

    def __init__(
        self,
        server: Server,
        schema_name: str | None,
        arrays: str | os.PathLike[str] | None,
        create: bool,
        begin: Begin,
    ) -> None:
        self.name = server.name if schema_name is None else f"{server.name} schema {schema_name}"
        self._server = server
        self._schema = schema_name
        self._begin = begin
        self._writer: Writer | None = None
        self._is_old = False
        self._connections = Connections(self._reading_engine)
        self._all.add(self)
        try:
            self._open(None if arrays is None else Path(arrays).absolute(), create)
        except BaseException:
            self._leave(lambda c: None)
            self._connections.close()
            raise

    def _open(self, given: Path | None, create: bool) -> None:
        if self._is_new():
            self._create(given, create)
        else:
            self._check()
            if create:
                self._erase(given)
        self.arrays = self._store(given)

    def _store(self, given: Path | None) -> ArrayStore:
        folder = given or Path(self.get("arrays") or ".")
        return ArrayStore(folder, self.get("stem") or "arrays")

    def _reading_engine(self) -> sa.Engine:
        engine = self._server.engine(
            pool_pre_ping=True,
            # a column may get another type, for which no plan is prepared
            connect_args={"prepare_threshold": None},
        )

        @sa.event.listens_for(engine, "connect")
        def _(connection: Any, record: Any) -> None:
            self._prepare(connection)

        return engine

    def _prepare(self, connection: Any) -> None:
        """Let a new connection find the notebook's tables, and nobody else's."""
        if self._schema is not None:
            quoted = self._schema.replace('"', '""')
            connection.execute(f'SET search_path TO "{quoted}"')
        connection.execute(f"SET lock_timeout = {LOCK_TIMEOUT_S * 1000}")
        connection.commit()

    # ---------- making ----------

    def _is_new(self) -> bool:
        with self.read() as c:
            return not _has_notebook(c)

    def _create(self, given: Path | None, create: bool) -> None:
        with self._server.translated():
            self._make_schema()
            with self._connections.connect() as c, c.begin():
                # of two that begin it at once, the second finds it made
                c.execute(lock("pg_advisory_xact_lock", -1))
                if not _has_notebook(c):
                    stem = _stem(c)
                    folder = given or Path(f"{stem}.arrays").absolute()
                    self._clear(ArrayStore(folder, stem), create)
                    c.execute(sa.schema.CreateSequence(postgresschema.slab_numbers))
                    self._fill(c, {"arrays": os.fspath(folder), "stem": stem})

    def _make_schema(self) -> None:
        with self._connections.connect() as c, c.begin():
            if self._schema is not None and _current_schema(c) is None:
                c.execute(sa.schema.CreateSchema(self._schema, if_not_exists=True))
        with self._connections.connect() as c:
            if _current_schema(c) is None:
                raise NotebookError(
                    f"{self.name} has no schema for a notebook: name one, schema='...'"
                )

    def _clear(self, store: ArrayStore, create: bool) -> None:
        if not store.files():
            return
        if not create or not store.is_left_over():
            raise NotebookFormatError(
                f"the arrays of {self.name} would go to {store.path}, but there are such files "
                "already: move them, or name another folder, arrays='...'"
            )
        store.delete()

    def _fill(self, c: sa.Connection, entries: Mapping[str, str]) -> None:
        for table in postgresschema.metadata.sorted_tables:
            table.create(c, checkfirst=False)
        for name, value in {"schema_version": str(schema.SCHEMA_VERSION), **entries}.items():
            put(c, name, value)
        self._begin(self, c)

    def _check(self) -> None:
        version = self.get("schema_version")
        if version is None or not version.isdecimal():
            raise NotebookFormatError(f"{self.name} is damaged: it has no schema version")
        if int(version) > schema.SCHEMA_VERSION:
            raise NotebookVersionException(str(schema.SCHEMA_VERSION), version, self.name)
        self._is_old = int(version) < schema.SCHEMA_VERSION

    def _erase(self, given: Path | None) -> None:
        kept = {name: self.get(name) for name in ("arrays", "stem")}
        self._is_old = False
        store = self._store(given)
        with self._server.translated(), self._joined().alone() as c:
            for table in c.execute(sa.select(schema.result_sets.c.table)).scalars().all():
                c.execute(sa.schema.DropTable(sa.Table(table, sa.MetaData())))
            # numbers of files go on: what a kill leaves of the old ones is not taken for new
            for other in postgresschema.metadata.sorted_tables:
                # a notebook of an older version lacks some
                c.execute(sa.schema.DropTable(other, if_exists=True))
            self._fill(c, {name: value for name, value in kept.items() if value})
        store.delete()

    # ---------- reading ----------

    @contextmanager
    def read(self, table: str | None = None) -> Iterator[sa.Connection]:
        """Run statements that read; with a table, all see one state of the notebook.

        Raises
        ------
        NotebookConnectionError
            When the server cannot be reached, or the connection is lost.
        NotebookFormatError
            When tables are missing.
        """
        with self._server.translated(), self._connections.connect() as c, c.begin():
            if table is not None:
                c.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
                # a table that gets another column type is empty for whoever looked before
                c.exec_driver_sql(f"LOCK TABLE {dialects.quote(c, table)} IN ACCESS SHARE MODE")
            yield c

    # ---------- writing ----------

    def _joined(self) -> Writer:
        if self._writer is None or self._writer.pid != os.getpid():
            self._writer = Writer.join(
                self._server, self._schema or "", self.name, self._prepare, id(self)
            )
        return self._writer

    @property
    def is_writing(self) -> bool:
        """Whether this object may hold result sets."""
        return self._writer is not None and self._writer.pid == os.getpid()

    @contextmanager
    def write(self, *result_sets: int) -> Iterator[sa.Connection]:
        """Run statements that take effect together or not at all.

        Raises
        ------
        NotebookInUseError
            When another process writes one of these result sets.
        NotebookConnectionError
            When the server cannot be reached, or the connection is lost.
        NotebookError
            When the server refuses.
        """
        self._become_current()
        slabs: list[int] = []
        with self._server.translated(), self._joined().transaction(id(self), result_sets) as c:
            c.execution_options(labkit_slabs=slabs)
            try:
                yield c
            except BaseException:
                for number in slabs:
                    self.arrays.numbered(number).unlink(missing_ok=True)
                raise

    def _become_current(self) -> None:
        """Migrate a notebook of an older version, before this object holds anything of it."""
        if not self._is_old:
            return
        with self._server.translated(), self._joined().transaction(id(self), ()) as c:
            c.execute(lock("pg_advisory_xact_lock", -1))
            if not is_current(c):
                self._joined().assert_only_one(c)
                migrate(c, postgresschema.metadata)
        self._is_old = False

    def begin_writing(self, *result_sets: int) -> bool:
        """Become the writer of result sets; return whether it was not yet.

        Raises
        ------
        NotebookInUseError
            When another process is: it names host, process and since when.
        """
        self._become_current()
        writer = self._joined()
        if writer.holds(id(self), result_sets):
            return False
        with self._server.translated(), writer.transaction(id(self), result_sets):
            return True

    def next_slab(self, c: sa.Connection) -> int:
        """Take a number that no other transaction has."""
        number = self.first_slab(c)
        c.get_execution_options()["labkit_slabs"].append(number)
        c.execute(sa.insert(postgresschema.slabs).values(number=number))
        return number

    def first_slab(self, c: sa.Connection) -> int:
        """Take a number, too: all later ones are above."""
        return int(c.execute(postgresschema.slab_numbers.next_value().select()).scalar_one())

    def spool_folder(self, result_set: int) -> Path:
        """Return the folder beside the arrays in which engines may leave outcomes."""
        return self._spools().resolve() / str(result_set)

    def _spools(self) -> Path:
        return self.arrays.path.with_suffix(".spool")

    def concerns(self, current: int) -> set[int] | None:
        """Return the result sets that this object writes, and the current one."""
        held = self._writer.held_by(id(self)) if self.is_writing and self._writer else set()
        return held | {current}

    # ---------- closing ----------

    def close(self) -> None:
        """Give up what is held; the last writer folds the arrays. Then disconnect."""
        try:
            if self.is_writing:
                self._leave(self._fold)
            with contextlib.suppress(OSError):
                self._spools().rmdir()
        finally:
            self._connections.close()

    def _leave(self, fold: Callable[[sa.Connection], None]) -> None:
        writer, self._writer = self._writer, None
        if writer is None:
            return
        try:
            with self._server.translated():
                writer.leave(id(self), fold)
        except NotebookFormatError:
            raise
        except NotebookError as e:
            # no server, or no right: nothing is lost, and the next writer folds
            logger.warning("the arrays were left as they are: %s", e)

    def _fold(self, c: sa.Connection) -> None:
        t, slabs = schema.result_sets.c, postgresschema.slabs
        if not _has_notebook(c):
            return
        rows = c.execute(sa.select(t.table, t.first_slab))
        tables = {str(table): int(first) for table, first in rows}
        complete = set(c.execute(sa.select(slabs.c.number)).scalars())
        before = set(self.arrays.numbered_files())
        self.arrays.fold(tables, complete.__contains__)
        # files that are elsewhere were not folded
        gone = before - set(self.arrays.numbered_files())
        dialects.delete_rows(c, slabs.c.number, sorted(gone))

    @classmethod
    def _after_fork(cls) -> None:
        """Let the child have connections of its own."""
        for database in cls._all:
            with contextlib.suppress(Exception):
                database._connections.forget()


os.register_at_fork(after_in_child=PostgresDatabase._after_fork)


def _has_notebook(c: sa.Connection) -> bool:
    query = (
        "SELECT 1 FROM pg_class "
        f"WHERE relname = '{schema.notebook.name}' AND relnamespace = {dialects.HERE}"
    )
    return c.exec_driver_sql(query).scalar() is not None


def _stem(c: sa.Connection) -> str:
    """Return how the names of files begin, so that two notebooks may share a folder."""
    names = c.exec_driver_sql("SELECT current_database(), current_schema()").one()
    return ".".join(names).replace("/", "_")


def _current_schema(c: sa.Connection) -> str | None:
    name: str | None = c.exec_driver_sql("SELECT current_schema()").scalar()
    return name
