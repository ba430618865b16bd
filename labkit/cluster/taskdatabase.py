"""The controller's database of messages, which is still there after a restart."""

from __future__ import annotations

import atexit
from typing import Any

from ipyparallel.controller.sqlitedb import SQLiteDB

__all__ = ["TaskDatabase"]


class TaskDatabase(SQLiteDB):  # type: ignore[misc]
    """ipyparallel's SQLite database, which knows its own table again.

    SQLite tells types as ``TEXT`` that were written as ``text``; ipyparallel compares the
    two, and begins another table at each start.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        # a controller that is stopped does not, and would lose the last two seconds
        atexit.register(self.close)

    def _check_table(self) -> bool:
        columns = self._db.execute(f"PRAGMA table_info('{self.table}')").fetchall()
        types = [(name, kind.lower()) for _, name, kind, *_ in columns]
        return not types or types == [(key, self._types[key]) for key in self._keys]
