"""Connections to a database that are given up while threads may be using some."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

__all__ = ["Connections"]


class Connections:
    """A pool of connections, all of which :meth:`close` ends: those in use, when they come back.

    SQLAlchemy's own ``Engine.dispose`` leaves those in use open, in a pool that nobody empties.

    Parameters
    ----------
    make_engine : callable
        Returns an engine; called again after each :meth:`close`.
    """

    def __init__(self, make_engine: Callable[[], sa.Engine]) -> None:
        self._make_engine = make_engine
        self._engine = make_engine()

    @contextmanager
    def connect(self, **options: Any) -> Iterator[sa.Connection]:
        """Lend a connection, with SQLAlchemy's execution options."""
        engine = self._engine
        try:
            with engine.connect() as c:
                yield c.execution_options(**options)
        finally:
            # it came back before this test, and then close empties the pool, or after it
            if engine is not self._engine:
                engine.pool.dispose()

    def close(self) -> None:
        """End all connections; the next use makes new ones."""
        engine, self._engine = self._engine, self._make_engine()
        engine.pool.dispose()

    def forget(self) -> None:
        """Leave all connections as they are, in a process that was forked, to its parent."""
        self._engine.dispose(close=False)
