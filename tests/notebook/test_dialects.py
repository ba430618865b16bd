"""Statements for many rows."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from sqlalchemy.sql import quoted_name

from labkit.notebook.dialects import insert_rows


def inserted(names: list[str], rows: list[tuple[object, ...]]) -> list[tuple[object, ...]]:
    """Return the rows of a new table after others have been inserted twice."""
    columns = [sa.Column(quoted_name(name, True), sa.Integer) for name in names]
    table = sa.Table("t", sa.MetaData(), *columns, sa.UniqueConstraint(columns[0]))
    with sa.create_engine("sqlite://").begin() as c:
        table.create(c)
        for _ in range(2):
            insert_rows(c, "t", names, rows, unique=names[0])
        found = c.exec_driver_sql("SELECT * FROM t ORDER BY rowid")
        return [tuple(row) for row in found]


@pytest.mark.parametrize("count", [0, 1, 332, 333, 334, 666, 1000])
def test_many_rows_are_inserted_in_their_order_and_each_once(count: int) -> None:
    rows: list[tuple[object, ...]] = [(n, -n, n % 3) for n in range(count)]
    # in one statement, in two, and among those that have one each
    again = [row for row in rows for _ in range(1 + (row[2] == 1))]
    assert inserted(["a", "b", "c"], again + rows[:5]) == rows


@pytest.mark.parametrize("width", [1, 499, 500, 999, 1000])
def test_rows_may_be_wide(width: int) -> None:
    rows: list[tuple[object, ...]] = [tuple(range(n, n + width)) for n in range(0, 5000, width)]
    assert inserted([f"c{i}" for i in range(width)], rows) == rows


def test_a_column_can_be_called_like_the_values() -> None:
    rows: list[tuple[object, ...]] = [(n, n, n) for n in range(800)]
    assert inserted(["run", "(?, ?, ?)", "VALUES (?, ?, ?)"], rows) == rows
