"""Where notebooks in SQL are, whichever the database."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sa

from labkit import SQLiteLabNotebook, SQLLabNotebook
from labkit.notebook.dialects import HERE

from .postgres import Server


def opened(name: str, **options: Any) -> SQLiteLabNotebook | SQLLabNotebook:
    """Open the notebook of a file or a URL."""
    kind = SQLLabNotebook if "://" in name else SQLiteLabNotebook
    return kind(name, **options)


_LOCKS = f"SELECT objid FROM pg_locks WHERE locktype = 'advisory' AND classid = {HERE}"


@dataclass(frozen=True)
class Place:
    """Where a notebook is."""

    name: str
    """Its file or URL."""
    folder: Path
    """Where its arrays are."""
    stem: str
    """What the names of their files begin with."""

    @classmethod
    def in_postgresql(cls, server: Server, folder: Path) -> Self:
        """Return a schema of its own, with an empty notebook."""
        name = server.url_of_new_schema()
        place = cls(name, folder / "lab", f"postgres.{name.rpartition('%3D')[2]}")
        SQLLabNotebook(place.name, arrays=place.folder).close()
        return place

    def notebook(self, **options: Any) -> SQLiteLabNotebook | SQLLabNotebook:
        """Open it."""
        return opened(self.name, **options)

    def is_written(self) -> bool:
        """Test whether the server has locks of writers, which may have ended; no file has such."""
        if "://" not in self.name:
            return False
        engine = sa.create_engine(self.name, poolclass=sa.NullPool)
        with engine.connect() as c:
            return c.exec_driver_sql(_LOCKS).first() is not None

    def files(self) -> set[str]:
        """Return the names of all files of arrays."""
        return {f.name for f in self.folder.glob("*.h5*")}
