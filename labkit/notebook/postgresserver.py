"""The address of a PostgreSQL server, and what goes wrong there as errors of ours.

A password is in no message and no repr.
"""

from __future__ import annotations

import importlib.util
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import sqlalchemy as sa

from labkit.errors import (
    NotebookConnectionError,
    NotebookError,
    NotebookFormatError,
    UnknownResultSetError,
)

__all__ = ["Server"]

_EXAMPLE = "postgresql+psycopg://user@host/database"

#: How long a server may take to answer the first time, if the URL does not say it.
_CONNECT_TIMEOUT_S = 10

#: Signs in what a server, or the library, says of a connection that is refused, and the remedy.
_REFUSED = {
    "password authentication failed": "check user and password",
    "no password supplied": "give the password in the URL, in PGPASSWORD or in ~/.pgpass",
    r'database ".*" does not exist': "make it: createdb {database}",
    r'role ".*" does not exist': "make it, or name another user in the URL",
    "no pg_hba.conf entry": "let the server's pg_hba.conf admit this user from here",
    "Peer authentication failed": "name the user that you are, or a host for a password",
    "resolve host|translate host": "check the host in the URL",
    "too many clients|too many connections|connection slots": "close notebooks, or raise "
    "the server's max_connections",
    "": "check that the server runs, and accepts connections from here",
}

#: States in which a server ends a connection: it stops, or somebody ends the session.
_ENDED = ("08", "57P")

#: What errors of a connection that stands mean, and their remedy.
_STATES = {
    "42501": "let the role do this by GRANT, or use the schema of another notebook: schema='...'",
    "53100": "make room on the server's disk",
    "54000": "return one dict or array instead of many or long results",
    "54011": "return one dict or array instead of many results",
    "55P03": "another session has locked a table of the notebook for a minute: end it",
    "40P01": "try again",
    "3F000": "make the schema, or name another one: schema='...'",
}


class Server:
    """A database on a server, and how to get there.

    Parameters
    ----------
    url : str or sqlalchemy.URL
        ``postgresql+psycopg://user@host/database``, with a password or without.

    Raises
    ------
    NotebookError
        When the URL is none of PostgreSQL, or psycopg is missing.

    Examples
    --------
    >>> Server("postgresql://alice:secret@db.example.org/lab")
    <Server postgresql+psycopg://alice:***@db.example.org/lab>
    """

    def __init__(self, url: str | sa.URL) -> None:
        self.url = _checked(url)
        self.name = _masked(self.url)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    @property
    def database(self) -> str:
        """The name of the database."""
        return self.url.database or self.url.username or "postgres"

    def engine(self, **options: Any) -> sa.Engine:
        """Return an engine; ``connect_args`` are added to what the URL says."""
        arguments = {"connect_timeout": _CONNECT_TIMEOUT_S, "client_encoding": "utf8"}
        arguments |= options.pop("connect_args", {})
        arguments = {k: v for k, v in arguments.items() if k not in self.url.query}
        # marks by position: rows are given as tuples
        return sa.create_engine(self.url, connect_args=arguments, paramstyle="format", **options)

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn what goes wrong inside into errors of ours.

        Raises
        ------
        NotebookConnectionError
            When there is no server, it does not let us in, or the connection is lost.
        NotebookFormatError, UnknownResultSetError, NotebookError
        """
        try:
            yield
        except sa.exc.DBAPIError as e:
            self._raise(e)
        except UnicodeEncodeError as e:
            raise NotebookError(f"{self.name}: {e.object!r:.200} is not Unicode text") from e

    def _raise(self, e: sa.exc.DBAPIError) -> NoReturn:
        reason, state = self._reason(e), getattr(e.orig, "sqlstate", None) or ""
        if state == "42P01":
            self._raise_missing(e, reason)
        if is_lost(e):
            if e.statement is None and not e.connection_invalidated:
                raise NotebookConnectionError(
                    f"{self.name} cannot be reached: {reason}; {self._remedy(reason)}"
                ) from e
            raise NotebookConnectionError(
                f"the connection to {self.name} was lost: {reason}. What was being written is "
                "there as a whole or not at all; do it again when the server runs: a run is "
                "recorded once"
            ) from e
        remedy = f"; {_STATES[state]}" if state in _STATES else ""
        raise NotebookError(f"{self.name}: {reason}{remedy}") from e

    def _raise_missing(self, e: sa.exc.DBAPIError, reason: str) -> NoReturn:
        if '"labkit_' in reason:
            raise NotebookFormatError(f"{self.name} is damaged: {reason}") from e
        raise UnknownResultSetError(
            f"the result set was deleted from {self.name} by another process: {reason}"
        ) from e

    def _reason(self, e: sa.exc.DBAPIError) -> str:
        lines = [line.strip() for line in str(e.orig).splitlines()]
        # where in the statement, which is ours
        kept = [
            line for line in lines if line and not re.match(r"LINE \d+:|\^|Multiple conn", line)
        ]
        reason = "; ".join(kept)
        password = str(self.url.password or "")
        return reason.replace(password, "***") if password else reason

    def _remedy(self, reason: str) -> str:
        found = next(remedy for sign, remedy in _REFUSED.items() if re.search(sign, reason))
        return found.format(database=self.database)


def is_lost(e: sa.exc.DBAPIError) -> bool:
    """Test whether an error means that there is no connection, or no longer."""
    state = getattr(e.orig, "sqlstate", None)
    if state is not None:
        return str(state).startswith(_ENDED)
    return e.connection_invalidated or isinstance(e, sa.exc.OperationalError)


def application_name(since: int, pid: int) -> str:
    """Return how a writer is known on the server, where a name has 63 bytes.

    Examples
    --------
    >>> holder_of(application_name(1700000000, 99)) == (platform.node()[:36], 99, 1700000000)
    True
    """
    return f"labkit {pid} {since} {platform.node()}"[:63]


def holder_of(application: str) -> tuple[str, int, int] | None:
    """Return host, process and since when, of what :func:`application_name` has made."""
    found = re.fullmatch(r"labkit (\d+) (\d+) (.*)", application)
    return (found[3], int(found[1]), int(found[2])) if found else None


def _checked(url: str | sa.URL) -> sa.URL:
    try:
        # the error would show the text, and a password in it
        made = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        raise NotebookError(f"this is no URL of a database; write {_EXAMPLE}") from None
    name, _, driver = made.drivername.partition("+")
    if name not in ("postgresql", "postgres") or driver not in ("", "psycopg"):
        raise NotebookError(
            f"SQLLabNotebook keeps a notebook in PostgreSQL, by psycopg, not in {made.drivername}: "
            f"write {_EXAMPLE}. For SQLite: labkit.SQLiteLabNotebook('walks.db')"
        )
    if importlib.util.find_spec("psycopg") is None:
        raise NotebookError(
            "SQLLabNotebook needs psycopg; install it: pip install 'labkit[postgresql]'"
        )
    return made.set(drivername="postgresql+psycopg")


def _masked(url: sa.URL) -> str:
    hidden = {key: "***" for key in url.query if "pass" in key}
    return url.update_query_dict(hidden).render_as_string(hide_password=True)
