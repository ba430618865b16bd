"""Where notebooks in SQL are, whichever the database."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from labkit import SQLiteLabNotebook, SQLLabNotebook

from .postgres import Server


def opened(name: str, **options: Any) -> SQLiteLabNotebook | SQLLabNotebook:
    """Open the notebook of a file or a URL."""
    kind = SQLLabNotebook if "://" in name else SQLiteLabNotebook
    return kind(name, **options)


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

    def files(self) -> set[str]:
        """Return the names of all files of arrays."""
        return {f.name for f in self.folder.glob("*.h5*")}
