"""What is peculiar to a notebook in PostgreSQL: its writers, its server, its arrays."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
import sqlalchemy as sa

import labkit
from labkit import SQLLabNotebook
from labkit.batch import Batch
from labkit.errors import (
    NotebookConnectionError,
    NotebookError,
    NotebookFormatError,
    NotebookInUseError,
    NotebookVersionException,
    UnknownResultSetError,
)
from labkit.notebook import postgresserver
from labkit.notebook.dialects import POSTGRESQL
from labkit.notebook.labnotebook import SentChunk
from labkit.notebook.postgreswriter import Writer
from labkit.outcome import KEY

from .equality import same
from .outcomes import outcome_of
from .places import Place
from .postgres import Server
from .processes import array_of, process, until

DEFAULT = SQLLabNotebook.DEFAULT_RESULTSET


@pytest.fixture
def place(in_postgresql: Place) -> Place:
    return in_postgresql


@pytest.fixture
def nb(place: Place) -> Iterator[SQLLabNotebook]:
    with place.notebook().open() as notebook:
        yield notebook


def execute(nb: SQLLabNotebook, statement: str) -> list[tuple[Any, ...]]:
    with nb._database._connections.connect() as c, c.begin():
        result = c.exec_driver_sql(statement)
        return [tuple(row) for row in result] if result.returns_rows else []


#: Ends the sessions of all writers, those of this process, too.
KILL = (
    "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity "
    "WHERE application_name LIKE 'labkit %%'"
)


def sessions(nb: SQLLabNotebook) -> list[str]:
    """Return the names of the sessions of writers on the whole server."""
    query = "SELECT application_name FROM pg_stat_activity WHERE application_name LIKE 'labkit %%'"
    return [name for (name,) in execute(nb, query)]


def wait_for_sessions(nb: SQLLabNotebook, count: int) -> None:
    """Wait until so many writers have a session; the server may still have to end another."""
    until(lambda: len(sessions(nb)) == count, f"it has not come to {count} writers")


# ---------- writers ----------


def test_two_processes_write_two_result_sets_at_once(place: Place) -> None:
    with (
        process("sweep", place.name, 1, 60) as first,
        process("sweep", place.name, 2, 60) as second,
    ):
        assert first.line() == second.line() == "held"
        first.tell()
        assert first.line() == "0"
        second.tell()
        assert second.line() == "0"
        assert first.end() == second.end() == 0
    with place.notebook().open() as nb:
        assert sorted(nb.resultSets()) == [DEFAULT, "set 1", "set 2"]
        for number in (1, 2):
            found = [rc["results"] for rc in nb.results(f"set {number}")]
            assert [results[f"own {number}"] for results in found] == list(range(60))
            for i, results in enumerate(found):
                assert same(array_of(1000 * number + i), results["array"])
            assert nb.ready(f"set {number}")
        # the last of them has folded the files of both
        assert place.files() == {f"{place.stem}.h5"}
        assert execute(nb, "SELECT count(*) FROM labkit_slabs") == [(0,)]


def test_files_are_folded_by_the_last_writer(place: Place) -> None:
    with process("sweep", place.name, 1, 3) as other, place.notebook().open() as nb:
        assert other.line() == "held"
        nb.addResult(outcome_of({"array": array_of(7)}))
        nb.close()
        assert len(place.files()) == 1
        assert f"{place.stem}.h5" not in place.files()
        other.tell()
        assert other.end() == 0
        assert place.files() == {f"{place.stem}.h5"}
        assert same(array_of(7), nb.results()[0]["results"]["array"])


@pytest.fixture
def held(place: Place) -> Iterator[tuple[Place, int]]:
    """A notebook whose default result set another process writes, and that process."""
    with process("hold", place.name) as holder:
        assert holder.line() == "held"
        yield place, holder.pid


def test_a_second_writer_of_a_result_set_is_told_who_writes(held: tuple[Place, int]) -> None:
    place, pid = held
    with place.notebook().open() as nb:
        with pytest.raises(NotebookInUseError, match=f"result set {DEFAULT} of .*{pid} on") as e:
            nb.addResult(outcome_of({"x": 2}))
        assert (e.value.host, e.value.pid) == (platform.node()[:36], pid)
        since = datetime.fromisoformat(e.value.since)
        assert timedelta(0) <= datetime.now(since.tzinfo) - since < timedelta(minutes=5)
        assert Server.password not in str(e.value)
        assert nb.numberOfResults() == 1
        nb.addResultSet("mine")
        nb.addResult(outcome_of({"x": 2}))
        assert nb.numberOfResults() == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda nb: nb.addPendingResult({}, "job"),
        lambda nb: nb.current().setAttribute("a", 1),
        lambda nb: nb.current().setDescription("mine"),
        lambda nb: nb.recordRuns([("a", outcome_of())]),
        lambda nb: nb.addResultSet(DEFAULT),
        lambda nb: nb.assertWritable(),
        lambda nb: nb.finish(),
    ],
)
def test_every_change_of_a_result_set_needs_its_lock(
    held: tuple[Place, int], change: Callable[[SQLLabNotebook], Any]
) -> None:
    with held[0].notebook().open() as nb:
        with pytest.raises(NotebookInUseError):
            change(nb)
        assert (nb.numberOfResults(), nb.current().keys()) == (1, set())


def test_nothing_is_erased_while_somebody_writes(held: tuple[Place, int]) -> None:
    place, pid = held
    with pytest.raises(NotebookInUseError, match=f"process {pid} on"):
        place.notebook(create=True)
    with place.notebook().open() as nb:
        assert nb.numberOfResults() == 1


def test_a_lock_goes_with_its_process(place: Place) -> None:
    with process("hold", place.name) as holder, place.notebook().open() as nb:
        assert holder.line() == "held"
        holder.kill()
        holder.end()

        def is_free() -> bool:
            try:
                nb.assertWritable()
            except NotebookInUseError:
                return False
            return True

        until(is_free, "the lock of a dead process was kept")
        nb.addResult(outcome_of({"x": 2}))
        assert [rc["results"]["x"] for rc in nb.results()] == [1, 2]


def test_a_lock_goes_with_close_and_with_the_object(place: Place) -> None:
    nb = place.notebook()
    nb.addResult(outcome_of())
    wait_for_sessions(nb, 1)
    nb.close()
    wait_for_sessions(nb, 0)
    nb.addResult(outcome_of())
    assert len(Writer._of_process) == 1
    del nb
    assert not Writer._of_process


def test_objects_of_one_process_share_its_locks(place: Place) -> None:
    with place.notebook().open() as first, place.notebook().open() as second:
        first.addResult(outcome_of({"x": 1}))
        second.addResult(outcome_of({"x": 2}))
        wait_for_sessions(first, 1)
        first.close()
        with process("hold", place.name) as other:
            assert other.line() == ""
            assert other.end() != 0
        second.addResult(outcome_of({"x": 3}))
        second.close()
        until(lambda: not place.is_written(), "the locks of a closed notebook were kept")
        with process("hold", place.name) as other:
            assert other.line() == "held"


def test_a_notebook_may_be_forgotten_in_a_transaction_of_another(
    nb: SQLLabNotebook, place: Place
) -> None:
    nb.addResultSet("walks")
    forgotten = [place.notebook()]
    forgotten[0].addResult(outcome_of({"x": 1}), DEFAULT)

    def write() -> None:
        with nb._database.write() as c:
            c.exec_driver_sql("UPDATE labkit_notebook SET value = 'x' WHERE name = 'description'")
            forgotten.clear()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert nb.description() == "A notebook"
    nb._database.set("current", DEFAULT)
    with process("hold", place.name) as other:
        assert other.line() == "held"


def test_threads_share_a_notebook(nb: SQLLabNotebook) -> None:
    import threading

    errors = []

    def add(number: int) -> None:
        try:
            for i in range(10):
                nb.addResult(outcome_of({"x": number, f"own {number}": i}))
                nb.dataframe()
        except Exception as e:
            errors.append(e)

    threads = [threading.Thread(target=add, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors
    table = nb.dataframe()
    assert [sorted(table[f"own {n}"].dropna()) for n in range(4)] == [list(range(10))] * 4


def test_a_forked_process_has_not_got_the_lock(place: Place) -> None:
    with process("fork", place.name) as parent:
        assert parent.line() == "child False"
        assert parent.line() == "NotebookInUseError"
        parent.tell()
        said, held, child = parent.line().split()
        assert (said, held) == ("parent", "True")
        os.kill(int(child), 9)
        with (
            place.notebook().open() as nb,
            pytest.raises(NotebookInUseError, match=str(parent.pid)),
        ):
            nb.addResult(outcome_of())


# ---------- what others have pending ----------


class Coin(labkit.Experiment):
    side = labkit.Parameter([0, 1, 2])

    def do(self, params: dict[str, Any]) -> dict[str, Any]:
        return {"twice": 2 * params["side"]}


def test_a_lab_leaves_alone_what_another_waits_for(place: Place) -> None:
    with process("sweep", place.name, 1, 5) as other, place.notebook().open() as nb:
        assert other.line() == "held"
        assert nb.numberOfPendingResults("set 1") == 5
        nb.addResultSet("coins")
        lab = labkit.Lab(nb)
        lab.runExperiment(Coin(), only="missing")
        assert lab.wait()
        assert (nb.anyPending(), nb.allPendingResults(), nb.unsentResults()) == (False, set(), [])
        assert sorted(lab.dataframe()["twice"]) == [0, 2, 4]
        other.tell()
        assert other.end() == 0
        assert nb.numberOfResults("set 1") == 5


@pytest.mark.parametrize("way", ["runs", "batches"])
def test_what_the_writer_before_has_recorded_meanwhile_is_not_pending_again(
    place: Place, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    def record(nb: SQLLabNotebook, n: int) -> None:
        if way == "runs":
            nb.recordRuns([(f"sweep-{n}", outcome_of({"n": n}))])
        else:
            nb.recordBatches([Batch.of("sweep", [(n, [outcome_of({"n": n})])], {})])

    with place.notebook().open() as before, place.notebook().open() as after:
        points = [(f"key {n}", {"n": n}) for n in range(3)]
        before.addResultSet("walks").addPendingResults("sweep", points)
        after.addResultSet("others")
        begin = after._database.begin_writing

        def begin_late(*result_sets: int) -> bool:
            if before._database.is_writing:
                record(before, 0)
                before.close()
            return begin(*result_sets)

        monkeypatch.setattr(after._database, "begin_writing", begin_late)
        record(after, 2)
        assert after.numberOfResults("walks") == 2
        assert after.numberOfPendingResults("walks") == 1


def test_what_a_dead_lab_left_is_taken_over_with_its_result_set(nb: SQLLabNotebook) -> None:
    nb.addResultSet("walks").addPendingResults("sweep", [("key", {"n": 1})])
    chunk = SentChunk("chunk", "sweep", 0, 1, "cluster", "message")
    nb.recordChunks([chunk])
    nb.addResultSet("others")
    nb.close()
    assert (nb.currentTag(), nb.anyPending(), nb.outstandingChunks()) == ("others", False, [])
    spools = nb.spoolFolder()
    nb.select("walks")
    assert (nb.anyPending(), nb.outstandingChunks()) == (True, [chunk])
    assert nb.spoolFolder() != spools


# ---------- the server ----------


@pytest.fixture(scope="module")
def own_server(server: Server) -> Iterator[Server]:
    """A server that may be stopped; there can be one, as there is the other."""
    with Server() as own:
        yield own


def test_a_notebook_goes_on_after_its_server_was_restarted(
    own_server: Server, tmp_path: Path
) -> None:
    place = Place.in_postgresql(own_server, tmp_path)
    with place.notebook().open() as nb, place.notebook().open() as reader:
        nb.addResult(outcome_of({"x": 1, "array": np.arange(3)}))
        own_server.stop("immediate")
        for use in (lambda: nb.addResult(outcome_of({"x": 2})), reader.results):
            with pytest.raises(NotebookConnectionError, match="check that the server runs") as e:
                use()
            assert isinstance(e.value, ConnectionError)
            assert own_server.password not in str(e.value)
        own_server.start()
        nb.addResult(outcome_of({"x": 3, "array": np.arange(4)}))
        assert [rc["results"]["x"] for rc in reader.results()] == [1, 3]
        # and it has its lock again
        with process("hold", place.name) as other:
            assert other.line() == ""
    assert place.files() == {f"{place.stem}.h5"}


def test_a_connection_that_is_lost_in_a_transaction_loses_it_as_a_whole(
    nb: SQLLabNotebook, place: Place
) -> None:
    nb.addResult(outcome_of({"x": 1}))
    runs = [("a", outcome_of({"x": 2, "array": np.arange(3)}))]
    inner = nb._database.arrays.write

    def write(slabs: Any) -> None:
        inner(slabs)
        execute(nb, KILL)

    nb._database.arrays.write = write
    with pytest.raises(NotebookConnectionError, match=r"was lost: .* do it again when"):
        nb.recordRuns(runs)
    nb._database.arrays.write = inner
    assert (nb.numberOfResults(), place.files()) == (1, set())
    nb.recordRuns(runs)
    assert [rc["results"]["x"] for rc in nb.results()] == [1, 2]


def test_a_connection_that_is_lost_at_the_end_of_a_transaction_is_said(
    nb: SQLLabNotebook,
) -> None:
    def lose() -> None:
        with nb._database.write():
            execute(nb, KILL)

    with pytest.raises(NotebookConnectionError, match=r"the connection to .* was lost: "):
        lose()
    nb.setDescription("new")
    assert nb.description() == "new"


def test_a_lost_lock_that_somebody_else_has_taken_is_noticed(
    nb: SQLLabNotebook, place: Place
) -> None:
    nb.addResult(outcome_of({"x": 0}))
    execute(nb, KILL)
    with process("hold", place.name) as other:
        assert other.line() == "held"
        with pytest.raises(NotebookInUseError, match=f"process {other.pid} on"):
            nb.addResult(outcome_of({"x": 2}))


def wrong(server: Server, **changes: Any) -> str:
    parts = {"database": "postgres", **changes}
    database = parts.pop("database")
    return server.url(**parts).replace("@/postgres?", f"@/{database}?")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"password": "wr0ng!"}, r"password authentication failed .*; check user and password"),
        ({"user": "nobody"}, r"password authentication failed|role \"nobody\""),
        ({"database": "nowhere"}, r'"nowhere" does not exist; make it: createdb nowhere'),
    ],
)
def test_who_is_not_let_in_is_told_why(
    server: Server, changes: dict[str, str], message: str
) -> None:
    with pytest.raises(NotebookConnectionError, match=message) as e:
        SQLLabNotebook(wrong(server, **changes))
    assert "wr0ng" not in str(e.value)
    assert server.password not in str(e.value)


def test_a_server_that_is_not_there_is_named() -> None:
    with pytest.raises(
        NotebookConnectionError, match=r"//a:\*\*\*@localhost:1/lab cannot be reached: .*refused"
    ):
        SQLLabNotebook("postgresql://a:secret@localhost:1/lab")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("walks.db", "no URL of a database; write postgresql"),
        ("sqlite:///walks.db", r"not in sqlite: .*SQLiteLabNotebook\('walks.db'\)"),
        ("postgresql+psycopg2://a:secret@host/lab", r"not in postgresql\+psycopg2"),
        ("postgresql+psycopg://a:secret@host:port/lab", "no URL"),
    ],
)
def test_a_wrong_url_is_refused_without_its_password(url: str, message: str) -> None:
    with pytest.raises(NotebookError, match=message) as e:
        SQLLabNotebook(url)
    assert "secret" not in str(e.value)


def test_without_psycopg_its_installation_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresserver.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(NotebookError, match=r"pip install 'labkit\[postgresql\]'"):
        SQLLabNotebook("postgresql://host/lab")


def test_a_password_is_shown_nowhere(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    assert sa.make_url(place.name).password == Server.password
    with place.notebook().open() as nb:
        labkit.Lab(nb).runExperiment(Coin())
        shown = [repr(nb), nb.name(), repr(nb.current()), repr(nb._database._server)]
        shown += [str(nb.results()), caplog.text, str(execute(nb, "TABLE labkit_notebook"))]
    assert not [text for text in shown if Server.password in text or "very%2Bsecret" in text]
    assert "postgres:***@" in repr(nb)
    hidden = postgresserver.Server("postgresql://host/lab?password=secret&sslpassword=secret")
    assert "secret" not in hidden.name


def test_an_error_of_the_server_is_ours(nb: SQLLabNotebook) -> None:
    with pytest.raises(NotebookError, match="NUL"):
        nb.setDescription("a\0b")
    with pytest.raises(NotebookError, match="is not Unicode text"):
        nb.setDescription("half \ud800")
    assert nb.description() == "A notebook"


# ---------- what is there already ----------


def test_a_newer_notebook_is_refused(place: Place) -> None:
    with place.notebook().open() as nb:
        execute(nb, "UPDATE labkit_notebook SET value = '99' WHERE name = 'schema_version'")
    with pytest.raises(NotebookVersionException, match="got version 99 of postgresql"):
        place.notebook()


def test_a_notebook_that_lacks_a_table_is_damaged(place: Place) -> None:
    with place.notebook().open() as nb:
        execute(nb, "DROP TABLE labkit_columns")
        with pytest.raises(NotebookFormatError, match=r"is damaged: .*labkit_columns"):
            nb.results()
        execute(nb, "DROP TABLE results")
        with pytest.raises(UnknownResultSetError, match="deleted"):
            nb.numberOfResults()


def test_tables_of_others_in_the_schema_are_left_alone(server: Server, tmp_path: Path) -> None:
    name = server.url_of_new_schema()
    with psycopg.connect(server.conninfo(), autocommit=True) as c:
        space = re.search(r"search_path%3D(\w+)", name)[1]
        c.execute(
            f"CREATE TABLE {space}.results (a int); CREATE INDEX walks ON {space}.results (a)"
        )
        with SQLLabNotebook(name, arrays=tmp_path / "lab").open() as nb:
            nb.addResultSet("walks")
            nb.addResult(outcome_of({"x": 1}))
            assert nb.resultSet(DEFAULT).table == "results_2"
            assert nb.current().table == "walks_2"
        SQLLabNotebook(name, create=True).close()
        assert c.execute(f"SELECT count(*) FROM {space}.results").fetchone() == (0,)


def test_create_begins_anew(place: Place) -> None:
    with place.notebook().open() as nb:
        nb.addResultSet("walks")
        nb.addResult(outcome_of({"array": np.arange(3)}))
    with place.notebook(create=True, description="new").open() as nb:
        assert (nb.resultSets(), nb.description()) == ([DEFAULT], "new")
        assert place.files() == set()
        nb.addResult(outcome_of({"array": np.arange(4)}))
        assert len(nb.results()[0]["results"]["array"]) == 4


def test_a_schema_holds_a_notebook(server: Server, tmp_path: Path) -> None:
    for space in ('one "a"', "two"):
        with SQLLabNotebook(server.url(), schema=space, arrays=tmp_path / space).open() as nb:
            nb.addResult(outcome_of({"x": space, "array": np.arange(2)}))
    for space in ('one "a"', "two"):
        with SQLLabNotebook(server.url(), schema=space).open() as nb:
            assert nb.results()[0]["results"]["x"] == space
            assert nb.name().endswith(f"schema {space}")


def test_a_role_that_may_only_read_reads(place: Place, server: Server) -> None:
    with place.notebook().open() as nb:
        nb.addResult(outcome_of({"x": 1, "array": np.arange(3)}))
        space = execute(nb, "SELECT current_schema()")[0][0]
        execute(
            nb,
            "CREATE ROLE guest LOGIN PASSWORD 'guest'; "
            f"GRANT USAGE ON SCHEMA {space} TO guest; "
            f"GRANT SELECT ON ALL TABLES IN SCHEMA {space} TO guest",
        )
        with SQLLabNotebook(
            server.url(user="guest", password="guest", options=f"-csearch_path={space}")
        ).open() as reader:
            assert list(reader.results()[0]["results"]["array"]) == [0, 1, 2]
            assert reader.dataframe()["x"].tolist() == [1]
            with pytest.raises(NotebookInUseError, match=str(os.getpid())):
                reader.addResult(outcome_of())
            nb.close()
            with pytest.raises(NotebookError, match=r"permission denied .*; let the role .* GRANT"):
                reader.addResult(outcome_of())


def test_a_missing_schema_is_named(server: Server) -> None:
    with pytest.raises(NotebookError, match="has no schema for a notebook: name one"):
        SQLLabNotebook(server.url(options="-csearch_path=nowhere"))


# ---------- arrays ----------


def test_arrays_lie_where_the_notebook_was_begun(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with SQLLabNotebook(server.url(), schema="home").open() as nb:
        nb.addResult(outcome_of({"array": np.arange(3)}))
    assert [f.name for f in tmp_path.iterdir()] == ["postgres.home.arrays"]
    monkeypatch.chdir("/")
    with SQLLabNotebook(server.url(), schema="home").open() as nb:
        assert list(nb.results()[0]["results"]["array"]) == [0, 1, 2]
        assert nb.spoolFolder().parents[1] == tmp_path / "postgres.home.arrays"
    moved = tmp_path / "moved"
    (tmp_path / "postgres.home.arrays").rename(moved)
    with SQLLabNotebook(server.url(), schema="home", arrays=moved).open() as nb:
        assert list(nb.results()[0]["results"]["array"]) == [0, 1, 2]


def test_a_folder_with_arrays_is_not_taken_for_a_new_notebook(
    server: Server, tmp_path: Path
) -> None:
    folder = tmp_path / "lab"
    with SQLLabNotebook(server.url(), schema="old", arrays=folder).open() as nb:
        nb.addResult(outcome_of({"array": np.arange(3)}))
    with psycopg.connect(server.conninfo(), autocommit=True) as c:
        c.execute("DROP SCHEMA old CASCADE")
    with pytest.raises(NotebookFormatError, match=r"old.h5, but .* name another folder"):
        SQLLabNotebook(server.url(), schema="old", arrays=folder)
    SQLLabNotebook(server.url(), schema="old", arrays=folder, create=True).close()
    assert list(folder.iterdir()) == []


def test_notebooks_share_a_folder(server: Server, tmp_path: Path) -> None:
    first, second = (
        SQLLabNotebook(server.url(), schema=f"shared_{n}", arrays=tmp_path) for n in (1, 2)
    )
    with first.open(), second.open():
        for i, nb in enumerate((first, second)):
            nb.addResult(outcome_of({"array": np.full(2, i)}))
            nb.spoolFolder().mkdir(parents=True)
        assert first.spoolFolder() != second.spoolFolder()
        for nb in (first, second, first):
            if nb.spoolFolder().exists():
                nb.spoolFolder().rmdir()
            nb.close()
        for i, nb in enumerate((first, second)):
            assert list(nb.results()[0]["results"]["array"]) == [i, i]
    files = {f.name for f in tmp_path.iterdir()}
    assert files == {"postgres.shared_1.h5", "postgres.shared_2.h5"}


def test_files_of_transactions_that_were_not_completed_are_dropped(
    nb: SQLLabNotebook, place: Place
) -> None:
    nb.addResult(outcome_of({"array": np.arange(3)}))
    (whole,) = place.files()
    number = int(re.search(r"-(\d+)", whole)[1]) - 1
    dead = nb._database.arrays.numbered(number)
    dead.write_bytes((place.folder / whole).read_bytes())
    nb.close()
    assert place.files() == {f"{place.stem}.h5"}
    assert list(nb.results()[0]["results"]["array"]) == [0, 1, 2]


def test_a_folder_that_cannot_be_made_is_named(server: Server, tmp_path: Path) -> None:
    nowhere = tmp_path / "no" / "where"
    with SQLLabNotebook(server.url(), schema="nowhere", arrays=nowhere).open() as nb:
        with pytest.raises(NotebookError, match=f"the arrays cannot be written to {nowhere}"):
            nb.addResult(outcome_of({"array": np.arange(3)}))
        assert nb.numberOfResults() == 0


# ---------- what other programs see ----------


def test_columns_are_typed_for_other_programs(nb: SQLLabNotebook) -> None:
    nb.addResult(outcome_of({"whole": 2**40, "real": 0.5, "text": "a", "truth": True, "raw": b"a"}))
    types = dict(
        execute(
            nb,
            "SELECT column_name, data_type FROM information_schema.columns "
            "WHERE table_name = 'results' AND table_schema = current_schema()",
        )
    )
    assert (
        types.items()
        >= {
            "whole": "bigint",
            "real": "double precision",
            "text": "text",
            "truth": "boolean",
            "raw": "bytea",
        }.items()
    )


def test_whole_numbers_among_others_are_numbers_for_other_programs(nb: SQLLabNotebook) -> None:
    values = [1, 2**53 + 1, 0.5, None, float("nan"), 2**80, 3, 2**60 + 1]
    for value in values:
        nb.addResult(outcome_of({"x": value}))
    cells = [x for (x,) in execute(nb, "SELECT x FROM results ORDER BY labkit_id")]
    assert cells == [1.0, None, 0.5, None, None, None, 3.0, None]
    assert all(map(same, values, [rc["results"]["x"] for rc in nb.results()]))


def test_long_and_system_names_find_a_column(nb: SQLLabNotebook) -> None:
    names = ["x" * 100, "x" * 99, "Ω" * 40, "ctid", "xmin"]
    nb.addResult(outcome_of({name: i for i, name in enumerate(names)}))
    assert nb.results()[0]["results"] == {name: i for i, name in enumerate(names)}


@pytest.mark.parametrize("text", ["", "a\0b", "\x1a", "\x1a0", "\0\x1a\x1a0\0", "\x1a\0"])
def test_text_with_nul_comes_back(text: str) -> None:
    kept = POSTGRESQL.text(text)
    assert "\0" not in kept
    assert POSTGRESQL.original(kept) == text


def test_a_slow_reader_holds_up_no_writer(nb: SQLLabNotebook) -> None:
    nb.addResult([outcome_of({"x": i}) for i in range(3)])
    for number, _ in enumerate(nb.current().iter_results()):
        nb.addResult(outcome_of({f"new {number}": 0.5, "x": 0.5}))
    assert nb.numberOfResults() == 6


def test_what_is_no_text_is_no_key(place: Place) -> None:
    with place.notebook().open() as notebook:
        notebook.addResult({"parameters": {}, "metadata": {KEY: 7}, "results": {}})
        rs = notebook.current()
        assert (rs.succeeded_keys(), rs.failed_keys()) == (set(), set())
