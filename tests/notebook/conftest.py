"""Fixtures of the notebook tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit import SQLiteLabNotebook


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file of a notebook that is not there yet."""
    return tmp_path / "walks.db"


@pytest.fixture
def notebook(path: Path) -> Iterator[SQLiteLabNotebook]:
    """A new notebook on disk, closed at the end."""
    with SQLiteLabNotebook(path).open() as notebook:
        yield notebook
