"""The right of a process to write result sets of a notebook in PostgreSQL.

A process writes by one connection, which also holds its locks: no transaction can outlive
them. The locks are PostgreSQL's advisory locks, numbered by the schema and the result set.
The server releases them when the connection ends, however it ends: a lock never goes
stale. Number 0 is shared by all writers; who has it alone may fold the arrays.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, ClassVar

import sqlalchemy as sa

from labkit.errors import NotebookInUseError
from labkit.notebook import schema
from labkit.notebook.dialects import HERE
from labkit.notebook.postgresserver import Server, application_name, holder_of

__all__ = ["Writer", "lock"]

#: The number of the lock that all writers share.
_ALL = 0

#: How long a transaction waits for another one, and a writer for who folds the arrays.
LOCK_TIMEOUT_S = 60

#: A server that hears nothing from a writer's machine ends the session after this time.
_KEEPALIVE = {"tcp_keepalives_idle": 30, "tcp_keepalives_interval": 10, "tcp_keepalives_count": 3}

#: What the server says when a lock was not had in time.
_TIMED_OUT = "55P03"

_HOLDER = sa.text(
    "SELECT a.application_name FROM pg_locks l JOIN pg_stat_activity a USING (pid) "
    "WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 "
    "AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
    f"AND l.classid = {HERE} "
    "AND l.pid <> pg_backend_pid() AND (l.objid = :number OR :number = 0) "
    "ORDER BY l.objid DESC LIMIT 1"
)

_HELD_BY_OTHERS = sa.text(
    "SELECT objid::int8 FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 2 "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
    f"AND classid = {HERE} AND pid <> pg_backend_pid() AND objid > 0 LIMIT 1"
)


class Writer:
    """A process's connection for writing one notebook, shared by its notebook objects.

    Its threads write one after another. A process that is forked has not got it.

    Parameters
    ----------
    server : Server
        Where the notebook is.
    name : str
        The notebook, for messages.
    prepare : callable
        Is given each new connection of psycopg.
    """

    _of_process: ClassVar[dict[tuple[str, str], Writer]] = {}
    _inherited: ClassVar[list[Writer]] = []
    _guard: ClassVar[threading.Lock] = threading.Lock()

    @classmethod
    def join(
        cls, server: Server, schema_name: str, name: str, prepare: Callable[[Any], None], user: int
    ) -> Writer:
        """Return the process's writer of a notebook, for another user of it."""
        key = (server.url.render_as_string(hide_password=False), schema_name)
        with cls._guard:
            writer = cls._of_process.setdefault(key, cls(server, name, prepare))
            writer._key = key
            writer._users.setdefault(user, set())
            return writer

    def __init__(self, server: Server, name: str, prepare: Callable[[Any], None]) -> None:
        self._server = server
        self._name = name
        self._prepare = prepare
        self._key = ("", "")
        self._users: dict[int, set[int]] = {}
        self._locked: set[int] = set()
        self._unwanted: set[int] = set()
        self._connection: sa.Connection | None = None
        self._busy = threading.RLock()
        self._is_inside = False
        self.pid = os.getpid()

    def held_by(self, user: int) -> set[int]:
        """Return the result sets that a user writes."""
        return self._users.get(user, set()).copy()

    def holds(self, user: int, result_sets: Iterable[int]) -> bool:
        """Test whether a user writes these result sets, by a connection that stands."""
        return self.held_by(user).issuperset(result_sets) and self._locked.issuperset(result_sets)

    def _wanted(self) -> set[int]:
        return set[int]().union(*self._users.values())

    # ---------- the connection ----------

    def _connect(self) -> sa.Connection:
        since = int(time.time())
        engine = self._server.engine(
            poolclass=sa.NullPool,
            connect_args={"application_name": application_name(since, self.pid)},
        )

        @sa.event.listens_for(engine, "connect")
        def _(connection: Any, record: Any) -> None:
            self._prepare(connection)
            settings = {"lock_timeout": LOCK_TIMEOUT_S * 1000, "synchronous_commit": "on"}
            for name, value in {**settings, **_KEEPALIVE}.items():
                connection.execute(f"SET {name} = {value}")
            connection.commit()

        return engine.connect()

    def _ready(self) -> sa.Connection:
        """Return the connection, in a transaction; make it anew when it was lost."""
        c = self._connection
        if c is not None and not c.invalidated:
            try:
                c.exec_driver_sql("SELECT 1")
                return c
            except sa.exc.DBAPIError:
                pass
        self._drop()
        self._connection = c = self._connect()
        try:
            self._share(c)
            # what another process has taken meanwhile is found out when it is needed
            for number in self._wanted():
                with contextlib.suppress(NotebookInUseError):
                    self._take(c, number)
        except BaseException:
            self._drop()
            raise
        return c

    def _share(self, c: sa.Connection) -> None:
        """Be one of the writers: wait until nobody folds the arrays."""
        try:
            c.execute(lock("pg_advisory_lock_shared", _ALL))
        except sa.exc.OperationalError as e:
            if getattr(e.orig, "sqlstate", None) != _TIMED_OUT:
                raise
            c.rollback()
            self._refuse(c, _ALL)

    def _drop(self) -> None:
        """Forget a connection, and the locks that went with it."""
        lost, self._connection = self._connection, None
        self._locked.clear()
        if lost is not None:
            with contextlib.suppress(sa.exc.SQLAlchemyError):
                lost.invalidate()
                lost.close()

    @contextmanager
    def transaction(self, user: int, result_sets: Iterable[int]) -> Iterator[sa.Connection]:
        """Run a transaction of the writer of these result sets, or go on with the one that runs.

        Raises
        ------
        NotebookInUseError
            When another process writes one of them.
        """
        with self._busy:
            if self._is_inside and self._connection is not None:
                self._take_all(self._connection, user, result_sets)
                yield self._connection
                return
            with self._committed() as c:
                self._take_all(c, user, result_sets)
                yield c

    @contextmanager
    def _committed(self) -> Iterator[sa.Connection]:
        c = self._ready()
        self._is_inside = True
        try:
            yield c
            c.commit()
        except BaseException:
            self._roll_back(c)
            raise
        finally:
            self._is_inside = False
            unwanted, self._unwanted = self._unwanted - self._wanted(), set()
            if unwanted:
                self._unlock(unwanted)

    def _roll_back(self, c: sa.Connection) -> None:
        try:
            c.rollback()
        except sa.exc.SQLAlchemyError:
            self._drop()

    # ---------- locks ----------

    def _take_all(self, c: sa.Connection, user: int, result_sets: Iterable[int]) -> None:
        for number in result_sets:
            if number not in self._locked:
                self._take(c, number)
            self._users[user].add(number)

    def _take(self, c: sa.Connection, number: int) -> None:
        if not c.execute(lock("pg_try_advisory_lock", number)).scalar():
            self._refuse(c, number)
        self._locked.add(number)

    def _refuse(self, c: sa.Connection, number: int) -> None:
        tags = sa.select(schema.result_sets.c.tag).where(schema.result_sets.c.id == number)
        tag = c.execute(tags).scalar() if number != _ALL else None
        application = c.execute(_HOLDER, {"number": number}).scalar()
        what = self._name if tag is None else f"result set {tag} of {self._name}"
        host, pid, since = holder_of(application or "") or ("an unknown host", 0, 0)
        began = datetime.fromtimestamp(since).astimezone().isoformat(timespec="seconds")
        raise NotebookInUseError(what, host, pid, began if since else "a moment ago")

    def assert_only_one(self, c: sa.Connection) -> None:
        """Make sure that no other process holds a result set.

        Raises
        ------
        NotebookInUseError
            When one does.
        """
        for number in c.execute(_HELD_BY_OTHERS).scalars().all():
            self._refuse(c, number)

    @contextmanager
    def alone(self, is_leaving: bool = False) -> Iterator[sa.Connection]:
        """Run a transaction while no other process writes any result set.

        Parameters
        ----------
        is_leaving : bool
            Nothing is written after it: the connection will be closed.

        Raises
        ------
        NotebookInUseError
            When one does.
        """
        has_it = False
        with self._busy:
            try:
                with self._committed() as c:
                    if is_leaving:
                        # of two that leave at once, one finds itself alone
                        c.execute(lock("pg_advisory_unlock_shared", _ALL))
                    if not c.execute(lock("pg_try_advisory_lock", _ALL)).scalar():
                        self._refuse(c, _ALL)
                    has_it = True
                    yield c
            finally:
                if has_it and not is_leaving:
                    self._unlock([_ALL])

    def _unlock(self, numbers: Iterable[int]) -> None:
        """Give up locks, if their connection stands."""
        c = self._connection
        if c is None or c.invalidated:
            return
        if self._is_inside:
            # a forgotten notebook is closed at any moment, also in a transaction of another
            self._unwanted.update(numbers)
            return
        for number in numbers:
            c.execute(lock("pg_advisory_unlock", number))
            self._locked.discard(number)
        c.commit()

    def leave(self, user: int, fold: Callable[[sa.Connection], None]) -> None:
        """Give up the result sets of a user; the last one of all processes folds the arrays."""
        with self._busy:
            try:
                if self._users.keys() == {user}:
                    # while others write, the folding is left to them
                    with contextlib.suppress(NotebookInUseError), self.alone(True) as c:
                        fold(c)
                else:
                    mine = self._users.pop(user, set())
                    self._unlock(mine & self._locked - self._wanted())
            finally:
                self._forget(user)

    def _forget(self, user: int) -> None:
        with self._guard:
            self._users.pop(user, None)
            if self._users:
                return
            self._of_process.pop(self._key, None)
        c, self._connection = self._connection, None
        self._locked.clear()
        if c is not None:
            with contextlib.suppress(sa.exc.SQLAlchemyError):
                # the server may take a while to see that the connection is closed
                c.rollback()
                c.execute(sa.text("SELECT pg_advisory_unlock_all()"))
                c.commit()
            with contextlib.suppress(sa.exc.SQLAlchemyError):
                c.close()

    @classmethod
    def _after_fork(cls) -> None:
        """Let the child have none. It must not close the connections, which are the parent's."""
        cls._inherited += cls._of_process.values()
        cls._of_process = {}
        cls._guard = threading.Lock()


os.register_at_fork(after_in_child=Writer._after_fork)


def lock(function: str, number: int) -> sa.Select[Any]:
    """Return the call of one of PostgreSQL's functions for a lock of this notebook."""
    # the number of a schema is a word without sign, that of a lock one with a sign
    return sa.select(sa.literal_column(f"{function}({HERE}::int8::bit(32)::int4, {number})"))
