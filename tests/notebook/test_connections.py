"""Connections that are given up while some are in use."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa

from labkit.notebook.connections import Connections


@pytest.fixture
def made() -> list[sqlite3.Connection]:
    return []


@pytest.fixture
def connections(tmp_path: Path, made: list[sqlite3.Connection]) -> Connections:
    def engine() -> sa.Engine:
        engine = sa.create_engine(f"sqlite:///{tmp_path / 'some.db'}")
        sa.event.listen(engine, "connect", lambda connection, _: made.append(connection))
        return engine

    return Connections(engine)


def is_open(connection: sqlite3.Connection) -> bool:
    try:
        connection.execute("SELECT 1")
    except sqlite3.ProgrammingError:
        return False
    return True


def test_a_connection_is_lent_again(
    connections: Connections, made: list[sqlite3.Connection]
) -> None:
    for _ in range(3):
        with connections.connect() as c:
            assert c.exec_driver_sql("SELECT 1").scalar() == 1
    assert len(made) == 1


def test_options_hold_for_one_use(connections: Connections) -> None:
    with connections.connect(labkit_write=True) as c:
        assert c.get_execution_options()["labkit_write"]
    with connections.connect() as c:
        assert "labkit_write" not in c.get_execution_options()


def test_closing_ends_what_is_not_in_use(
    connections: Connections, made: list[sqlite3.Connection]
) -> None:
    with connections.connect():
        pass
    connections.close()
    assert not is_open(made[0])
    with connections.connect() as c:
        assert c.exec_driver_sql("SELECT 1").scalar() == 1
    assert len(made) == 2


def test_what_is_in_use_ends_when_it_comes_back(
    connections: Connections, made: list[sqlite3.Connection]
) -> None:
    with connections.connect() as c:
        connections.close()
        assert c.exec_driver_sql("SELECT 1").scalar() == 1
        connections.close()
    assert not is_open(made[0])


def test_what_comes_back_during_the_closing_ends(
    connections: Connections, made: list[sqlite3.Connection]
) -> None:
    with connections.connect() as c:
        sa.event.listen(c.engine, "checkin", lambda *_: connections.close(), once=True)
    assert not is_open(made[0])


def test_what_is_made_during_the_closing_ends(
    connections: Connections, made: list[sqlite3.Connection]
) -> None:
    engine = connections._engine
    sa.event.listen(engine, "do_connect", lambda *_: connections.close(), once=True)
    with connections.connect() as c:
        assert c.exec_driver_sql("SELECT 1").scalar() == 1
    assert not is_open(made[0])
