"""Fixtures of the notebook tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit import SQLiteLabNotebook

from . import postgres
from .places import Place


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file of a notebook that is not there yet."""
    return tmp_path / "walks.db"


@pytest.fixture
def notebook(path: Path) -> Iterator[SQLiteLabNotebook]:
    """A new notebook on disk, closed at the end."""
    with SQLiteLabNotebook(path).open() as notebook:
        yield notebook


@pytest.fixture(scope="session")
def server() -> Iterator[postgres.Server]:
    """A PostgreSQL server for all tests."""
    if why := postgres.why_not():
        pytest.skip(why)
    with postgres.Server() as server:
        yield server


@pytest.fixture
def in_postgresql(server: postgres.Server, tmp_path: Path) -> Place:
    """A place for a notebook in PostgreSQL."""
    return Place.in_postgresql(server, tmp_path)


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A place for a notebook in a database of each kind."""
    if request.param == "sqlite":
        return Place(str(tmp_path / "walks.db"), tmp_path, "walks")
    return request.getfixturevalue("in_postgresql")
