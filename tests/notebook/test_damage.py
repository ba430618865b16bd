"""A notebook that is damaged: who meets the damage is told, and what is sound is saved."""

from __future__ import annotations

import contextlib
import random
import shutil
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import labkit
from labkit import SQLiteLabNotebook
from labkit.errors import (
    LabkitError,
    NotebookError,
    NotebookFormatError,
    NotebookInUseError,
    NotebookVersionException,
    UnknownNotebookError,
)
from labkit.notebook import NotebookCondition, arrayprobe, check, recover
from labkit.notebook.arrays import ArrayStore
from labkit.notebook.integrity import FAILURES
from labkit.notebook.salvage import DamagedTables, SoundTables
from labkit.outcome import KEY

from .equality import same
from .processes import process

DEFAULT = SQLiteLabNotebook.DEFAULT_RESULTSET
COMMAND = r"labkit notebook check .*walks\.db"
PAGE = 4096
#: Enough for the table of the rows to have inner pages.
ROWS = 150


def outcome(n: int, **results: Any) -> dict[str, Any]:
    facts = {"labkit.host": "here", "labkit.version": "1"}
    status = {"epyc.experiment.status": True, KEY: f"{n:032x}"}
    return {
        "parameters": {"n": n, "half": n / 2},
        "metadata": {**status, **facts},
        "results": results,
    }


def make(path: Path, *, has_arrays: bool) -> None:
    """Make a notebook that has something of everything."""
    with SQLiteLabNotebook(path, description="walks").open() as nb:
        nb.recordRuns(
            [
                (
                    f"s-{n}",
                    outcome(
                        n,
                        text="walk " * (n % 9),
                        whole=float(n % 3),
                        nan=float("nan") if n % 5 == 0 else 1.5,
                        nested=[1, {"pair": (n, "b")}],
                        long="z" * (9000 if n % 100 == 0 else 3),
                    ),
                )
                for n in range(ROWS)
            ]
        )
        nb.recordLogs({f"s-{n}": (f"{n:032x}", f"walker {n}") for n in range(0, ROWS, 2)})
        nb.current().setAttribute("units", {"n": "m"})
        nb.addResultSet("more walks", "with arrays")
        more = [outcome(n, big=np.full(50, n), inside=[np.arange(3)]) for n in range(20)]
        for n in range(20):
            if has_arrays:
                nb.recordRuns([(f"a-{n}", more[n])])
            else:
                nb.recordRuns([(f"a-{n}", outcome(n, kind="plain"))])
        nb.addResultSet("finished").addSingleResult(outcome(1, x=1))
        nb.resultSet("finished").finish()
        nb.addResultSet("on its way").addPendingResults(
            "t", [(f"{n:032x}", {"n": n}) for n in range(9)]
        )
        nb.addPendingResult({"n": 9}, "mine")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plain") / "walks.db"
    make(path, has_arrays=False)
    return path


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("full") / "walks.db"
    make(path, has_arrays=True)
    return path


@pytest.fixture
def walks(plain: Path, tmp_path: Path) -> Path:
    """A copy of the notebook without arrays, to be damaged."""
    return Path(shutil.copy(plain, tmp_path))


@pytest.fixture
def with_arrays(full: Path, tmp_path: Path) -> Path:
    """A copy of the notebook with arrays, to be damaged."""
    for file in full.parent.iterdir():
        shutil.copy(file, tmp_path)
    return tmp_path / "walks.db"


def dump(path: Path) -> list[str]:
    with contextlib.closing(sqlite3.connect(path)) as c:
        return sorted(c.iterdump())


def overwrite(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def root_of(path: Path, name: str) -> int:
    with contextlib.closing(sqlite3.connect(path)) as c:
        ((page,),) = c.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", [name])
    return int(page)


def wreck_page(path: Path, page: int) -> None:
    overwrite(path, (page - 1) * PAGE, random.Random(page).randbytes(PAGE))


def results(path: Path, tag: str) -> list[Any]:
    with SQLiteLabNotebook(path).open() as nb:
        return nb.results(tag)


def condition_of(found: NotebookCondition, tag: str) -> Any:
    return next(rs for rs in found.result_sets if rs.tag == tag)


def contents(folder: Path) -> dict[str, bytes]:
    return {f.name: f.read_bytes() for f in folder.iterdir() if f.is_file()}


# ---------- sound notebooks ----------


def test_a_sound_notebook_is_sound_and_saved_whole(with_arrays: Path, tmp_path: Path) -> None:
    before = contents(tmp_path)
    found = check(with_arrays)
    assert found.is_sound
    assert [(rs.tag, rs.rows, rs.arrays) for rs in found.result_sets] == [
        (DEFAULT, ROWS, 0),
        ("more walks", 20, 40),
        ("finished", 1, 0),
        ("on its way", 0, 0),
    ]
    assert contents(tmp_path) == before
    assert recover(with_arrays, tmp_path / "new.db").is_sound
    assert {n: c for n, c in contents(tmp_path).items() if not n.startswith("new")} == before
    assert dump(tmp_path / "new.db") == dump(with_arrays)
    for tag in ("more walks", DEFAULT):
        assert same(results(tmp_path / "new.db", tag), results(with_arrays, tag))
    # it is a notebook like any other
    with SQLiteLabNotebook(tmp_path / "new.db").open() as nb:
        nb.select("more walks").addSingleResult(outcome(99, big=np.arange(3)))
        assert nb.resultSet("finished").isLocked()
        assert nb.resultSet(DEFAULT)["units"] == {"n": "m"}
        assert nb.log(f"{2:032x}") == "walker 2"
    assert check(tmp_path / "new.db").is_sound


def test_a_notebook_that_is_being_written_is_checked_but_not_recovered(tmp_path: Path) -> None:
    path = tmp_path / "walks.db"
    with process("hold", path) as holder:
        assert holder.line() == "held"
        assert check(path).result_sets[0].rows == 1
        with pytest.raises(NotebookInUseError, match=f"process {holder.pid} on"):
            recover(path, tmp_path / "new.db")
        holder.kill()
        holder.end()
        # what is in the log only is saved, and the log stays where it is
        before = contents(tmp_path)
        assert "walks.db-wal" in before
        assert recover(path, tmp_path / "new.db").result_sets[0].rows == 1
        assert {n: c for n, c in contents(tmp_path).items() if n != "new.db"} == before
    assert results(tmp_path / "new.db", DEFAULT)[0]["results"] == {"x": 1}


# ---------- what is refused ----------


def test_what_is_there_is_not_overwritten(walks: Path, tmp_path: Path) -> None:
    for name in ("there.db", "new.h5"):
        (tmp_path / name).write_text("mine")
    for target, there in (("there.db", "there.db"), ("new.db", "new.h5"), ("walks.db", "walks")):
        with pytest.raises(NotebookError, match=rf"{there}.* is there already"):
            recover(walks, tmp_path / target)
    assert (tmp_path / "there.db").read_text() == (tmp_path / "new.h5").read_text() == "mine"
    with pytest.raises(NotebookError, match="there is no folder"):
        recover(walks, tmp_path / "no" / "new.db")
    assert not (tmp_path / "new.db").exists()


@pytest.mark.parametrize("look", [check, lambda p: recover(p, p.with_name("new.db"))])
def test_what_is_no_notebook_is_refused(tmp_path: Path, look: Callable[[Path], Any]) -> None:
    path = tmp_path / "walks.db"
    with pytest.raises(UnknownNotebookError, match=r"there is no notebook .*walks\.db"):
        look(path)
    for content in (b"", b"hello" * 9999, random.Random(1).randbytes(50_000)):
        path.write_bytes(content)
        with pytest.raises(NotebookFormatError, match=r"walks\.db"):
            look(path)
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as c:
        c.execute("CREATE TABLE t (x)")
    with pytest.raises(NotebookFormatError, match="nothing of a labkit notebook"):
        look(path)
    assert not path.with_name("new.db").exists()


def test_a_newer_notebook_is_refused(walks: Path) -> None:
    with contextlib.closing(sqlite3.connect(walks)) as c, c:
        c.execute("UPDATE labkit_notebook SET value = 99 WHERE name = 'schema_version'")
    with pytest.raises(NotebookVersionException):
        check(walks)


# ---------- damaged pages ----------


def test_the_pages_hold_what_sqlite_reads(full: Path) -> None:
    damaged = DamagedTables(full)
    with contextlib.closing(sqlite3.connect(full)) as c:
        sound = SoundTables(c)
        assert damaged.columns() == sound.columns()
        for table in sound.columns():
            assert list(damaged.rows(table)) == list(sound.rows(table))
            assert damaged.lost(table) == ([], True)
            assert damaged.definition(table) == sound.definition(table)
    assert damaged.damage() == []


def test_rows_below_a_damaged_inner_page_are_found(walks: Path, tmp_path: Path) -> None:
    wanted = results(walks, DEFAULT)
    wreck_page(walks, root_of(walks, "results"))
    with pytest.raises(NotebookFormatError, match=COMMAND):
        results(walks, DEFAULT)
    found = recover(walks, tmp_path / "new.db")
    assert not found.is_sound
    assert condition_of(found, DEFAULT).lost_rows == []
    assert same(results(tmp_path / "new.db", DEFAULT), wanted)


def test_lost_rows_are_named(walks: Path, tmp_path: Path) -> None:
    damaged = DamagedTables(walks)
    leaf = damaged._tables["results"].tree.pages[3]
    wreck_page(walks, leaf)
    found = recover(walks, tmp_path / "new.db")
    lost = condition_of(found, DEFAULT).lost_rows
    gone = {row.row - 1 for row in lost}
    assert len(lost) > 3
    assert {row.run for row in lost} == {f"s-{n}" for n in gone}
    # the log of every other run tells the key
    assert set(found.lost_keys) == {f"{n:032x}" for n in gone if n % 2 == 0}
    left = [rc["parameters"]["n"] for rc in results(tmp_path / "new.db", DEFAULT)]
    assert left == [n for n in range(ROWS) if n not in gone]
    assert found.findings
    assert f"row {min(gone) + 1}, run s-{min(gone)}" in "\n".join(found.lines())


@pytest.mark.parametrize(
    "table", ["labkit_columns", "labkit_result_sets", "labkit_provenance", "labkit_notebook"]
)
def test_what_says_how_to_read_is_had_again(walks: Path, tmp_path: Path, table: str) -> None:
    wanted = {tag: results(walks, tag) for tag in (DEFAULT, "more walks", "finished")}
    wreck_page(walks, root_of(walks, table))
    found = recover(walks, tmp_path / "new.db")
    assert not found.is_sound
    assert all(rs.rows == len(wanted.get(rs.tag, [])) for rs in found.result_sets)
    for tag, outcomes in wanted.items():
        assert same(results(tmp_path / "new.db", tag), outcomes)
    assert check(tmp_path / "new.db").is_sound


@pytest.mark.parametrize(
    ("table", "name"),
    [
        ("labkit_attributes", "1 units"),
        ("labkit_pending", "mine"),
        ("labkit_points", "t-0 … t-8"),
        ("labkit_pending_ranges", "t-0 … t-8"),
        ("labkit_logs", "s-2"),
    ],
)
def test_what_else_is_lost_is_said(walks: Path, tmp_path: Path, table: str, name: str) -> None:
    wreck_page(walks, DamagedTables(walks)._tables[table].tree.pages[0])
    found = recover(walks, tmp_path / "new.db")
    said = "\n".join(found.lines())
    assert " lost: " in said
    assert name in said
    assert all(rs.is_sound for rs in found.result_sets)
    assert check(tmp_path / "new.db").is_sound


def test_an_index_that_is_damaged_loses_nothing(walks: Path, tmp_path: Path) -> None:
    wanted = dump(walks)
    wreck_page(walks, root_of(walks, "sqlite_autoindex_results_1"))
    found = recover(walks, tmp_path / "new.db")
    assert "the index of table results is damaged, which loses no row" in "\n".join(found.findings)
    assert dump(tmp_path / "new.db") == wanted


def test_a_header_that_is_gone_is_done_without(walks: Path, tmp_path: Path) -> None:
    wanted = dump(walks)
    overwrite(walks, 0, bytes(100))
    with pytest.raises(NotebookFormatError, match=COMMAND):
        SQLiteLabNotebook(walks)
    assert not check(walks).is_sound
    recover(walks, tmp_path / "new.db")
    assert dump(tmp_path / "new.db") == wanted


@pytest.mark.parametrize("kept", [0.9, 0.5])
def test_a_notebook_that_is_cut_off_is_saved_up_to_there(tmp_path: Path, kept: float) -> None:
    walks = tmp_path / "walks.db"
    with SQLiteLabNotebook(walks).open() as nb:
        # its list of tables fits into the first page
        nb.recordRuns([(f"s-{n}", outcome(n, text="walk " * 200)) for n in range(ROWS)])
    data = walks.read_bytes()
    walks.write_bytes(data[: int(kept * len(data))])
    with pytest.raises(NotebookFormatError, match=COMMAND):
        SQLiteLabNotebook(walks).results(DEFAULT)
    found = recover(walks, tmp_path / "new.db")
    rows = condition_of(found, DEFAULT).rows
    assert rows > 0.2 * ROWS
    assert len(results(tmp_path / "new.db", DEFAULT)) == rows


def spoiled(data: bytes, chance: random.Random) -> bytes:
    """Return a file with some bytes overwritten, or its end cut off."""
    if chance.random() < 0.05:
        return data[: chance.randrange(1, len(data))]
    damaged = bytearray(data)
    for _ in range(chance.choice([1, 1, 3])):
        size = chance.choice([1, 4, 64, 500, PAGE])
        at = chance.randrange(len(data) - size)
        damaged[at : at + size] = chance.choice(
            [bytes(size), b"\xff" * size, chance.randbytes(size)]
        )
    return bytes(damaged)


def readable(path: Path, sound: dict[str, dict[int, Any]]) -> dict[str, set[int]]:
    """Return the rows that SQLite itself reads from a file, one by one, as they were written."""
    found: dict[str, set[int]] = {}
    with contextlib.closing(sqlite3.connect(path)) as c:
        for table, rows in sound.items():
            for row in rows:
                with contextlib.suppress(*FAILURES):
                    query = f'SELECT * FROM "{table}" WHERE rowid = ?'
                    if c.execute(query, [row]).fetchone() == rows[row]:
                        found.setdefault(table, set()).add(row)
    return found


def read_all(path: Path) -> LabkitError | None:
    """Use every reading call; return the error that one raised."""
    try:
        _read_all(path)
    except LabkitError as e:
        return e
    return None


def _read_all(path: Path) -> None:
    notebook = SQLiteLabNotebook(path)
    try:
        notebook.description(), notebook.isLocked(), notebook.log("00")
        for tag in notebook.resultSets():
            rs = notebook.resultSet(tag)
            rs.results(), rs.dataframe(), rs.names(), rs.numberOfResults(), rs.keys_by_status()
            rs.pendingResultsFor({}), rs.isLocked(), rs.description()
            _ = [rs[name] for name in sorted(rs.keys())]
    finally:
        notebook.close()


@pytest.mark.parametrize("seed", range(4))
def test_hundreds_of_damaged_copies(plain: Path, tmp_path: Path, seed: int) -> None:
    data = plain.read_bytes()
    with contextlib.closing(sqlite3.connect(plain)) as c:
        tables = SoundTables(c)
        sound = {
            t: dict(tables.rows(t))
            for t in tables.columns()
            if t in ("results", "more_walks", "finished")
        }
    chance = random.Random(seed)
    path, new = tmp_path / "walks.db", tmp_path / "new.db"
    damaged = saved = 0
    for _ in range(50):
        spoilt = spoiled(data, chance)
        path.write_bytes(spoilt)
        met = read_all(path)
        assert met is None or "walks.db" in str(met)
        path.write_bytes(spoilt)
        with contextlib.suppress(NotebookFormatError):
            found = recover(path, new)
            damaged += not found.is_sound
            assert met is None or not found.is_sound
            assert path.read_bytes() == spoilt
            with contextlib.closing(sqlite3.connect(new)) as c:
                there = SoundTables(c)
                for table, rows in readable(path, sound).items():
                    kept = dict(there.rows(table))
                    for row in rows:
                        # what rows share is in a table of its own
                        assert kept[row][:2] == sound[table][row][:2]
                        assert kept[row][3:] == sound[table][row][3:]
                    saved += len(rows)
            assert check(new).is_sound
            new.unlink()
    assert damaged > 20
    assert saved > 50 * ROWS / 2


# ---------- arrays ----------


@pytest.fixture
def reference(with_arrays: Path) -> int:
    """Where the array of outcome 7 is in the HDF5 file."""
    return with_arrays.with_suffix(".h5").read_bytes().index(np.full(50, 7).tobytes())


def test_a_damaged_slab_is_not_taken_for_data(
    with_arrays: Path, reference: int, tmp_path: Path
) -> None:
    overwrite(with_arrays.with_suffix(".h5"), reference + 80, b"\x01" * 16)
    with SQLiteLabNotebook(with_arrays).open() as nb:
        for read in (nb.results, nb.dataframe):
            with pytest.raises(NotebookFormatError, match=rf"walks\.h5: .*; .*{COMMAND}"):
                read("more walks")
    found = recover(with_arrays, tmp_path / "new.db")
    more = condition_of(found, "more walks")
    assert (more.rows, more.arrays, more.lost_rows) == (20, 39, [])
    (lost,) = more.lost_arrays
    assert (lost.point, lost.name, lost.is_array) == (f"{7:032x}", "big", True)
    assert found.lost_keys == [lost.point]
    for n, rc in enumerate(results(tmp_path / "new.db", "more walks")):
        big = rc["results"]["big"]
        assert big is None if n == 7 else list(big) == [n] * 50
        assert list(rc["results"]["inside"][0]) == [0, 1, 2]
    assert check(tmp_path / "new.db").is_sound


def test_of_a_dataset_the_sound_arrays_are_saved(tmp_path: Path) -> None:
    path = tmp_path / "walks.db"
    with SQLiteLabNotebook(path).open() as nb:
        nb.addResult([outcome(n, a=np.full(9, n), b=np.array(["x", str(n)])) for n in range(30)])
    file = path.with_suffix(".h5")
    overwrite(file, file.read_bytes().index(np.full(9, 7).tobytes()), b"\x01")
    overwrite(file, file.read_bytes().index(np.array(["x", "12"]).tobytes()), b"y")
    found = recover(path, tmp_path / "new.db")
    lost = [value.point for value in found.result_sets[0].lost_arrays]
    assert lost == [f"{7:032x}", f"{12:032x}"]
    for n, rc in enumerate(results(tmp_path / "new.db", DEFAULT)):
        a, b = rc["results"]["a"], rc["results"]["b"]
        assert a is None if n == 7 else same(a, np.full(9, n))
        assert b is None if n == 12 else same(b, np.array(["x", str(n)]))


def test_arrays_without_their_file_are_lost_and_rows_are_not(
    with_arrays: Path, tmp_path: Path
) -> None:
    with_arrays.with_suffix(".h5").unlink()
    with pytest.raises(NotebookFormatError, match=rf"walks\.h5: .*; .*{COMMAND}"):
        results(with_arrays, "more walks")
    found = recover(with_arrays, tmp_path / "new.db")
    more = condition_of(found, "more walks")
    assert (more.rows, more.arrays, len(more.lost_arrays)) == (20, 0, 40)
    assert found.lost_keys == [f"{n:032x}" for n in range(20)]
    saved = results(tmp_path / "new.db", "more walks")
    assert [rc["parameters"]["n"] for rc in saved] == list(range(20))
    assert {str(rc["results"]) for rc in saved} == {"{'big': None, 'inside': None}"}


@pytest.mark.parametrize("seed", range(3))
def test_damaged_copies_of_arrays(with_arrays: Path, tmp_path: Path, seed: int) -> None:
    wanted = results(with_arrays, "more walks")
    file = with_arrays.with_suffix(".h5")
    file.write_bytes(spoiled(file.read_bytes(), random.Random(seed)))
    found = recover(with_arrays, tmp_path / "new.db")
    saved = results(tmp_path / "new.db", "more walks")
    lost = {(v.point, v.name) for v in condition_of(found, "more walks").lost_arrays}
    for was, now in zip(wanted, saved, strict=True):
        for name, value in was["results"].items():
            is_lost = (was["metadata"][KEY], name) in lost
            assert now["results"][name] is None if is_lost else same(now["results"][name], value)


def test_a_notebook_of_an_earlier_version_has_no_sums(with_arrays: Path) -> None:
    import h5py

    wanted = results(with_arrays, "more walks")
    with h5py.File(with_arrays.with_suffix(".h5"), "r+") as file:
        with_sums = []
        file.visititems(lambda name, x: with_sums.append(name) if "sums" in x.attrs else None)
        for name in with_sums:
            del file[name].attrs["sums"]
    assert len(with_sums) == 40
    assert same(results(with_arrays, "more walks"), wanted)
    assert check(with_arrays).is_sound


def test_arrays_on_which_hdf5_does_not_come_back(
    with_arrays: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ArrayStore(with_arrays.parent, "walks")
    names = ["more_walks/big/000000.0[0]", "more_walks/big/000001.0[0]"]
    assert arrayprobe.array_faults(store, names) == {}
    spins = with_arrays.with_name("spins")
    spins.write_text("#!/bin/sh\nwhile :; do :; done\n", encoding="utf-8")
    spins.chmod(0o700)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", str(spins))
        never = arrayprobe.array_faults(store, names[:1], limit_s=0.1)
    assert never == {names[0]: "reading it does not end"}
    monkeypatch.setattr(sys, "executable", "/bin/false")
    died = arrayprobe.array_faults(store, names)
    assert died == dict.fromkeys(names, "reading it ends the process that does")


def test_what_is_missing_after_a_recovery_is_run_again(tmp_path: Path) -> None:
    class Doubled(labkit.Experiment):
        n = labkit.Parameter(range(60))

        def do(self, params: dict[str, Any]) -> dict[str, Any]:
            return {"twice": 2 * params["n"], "text": "x" * 200}

    path = tmp_path / "walks.db"
    with SQLiteLabNotebook(path).open() as nb:
        labkit.Lab(nb).runExperiment(Doubled())
    wreck_page(path, DamagedTables(path)._tables["results"].tree.pages[2])
    found = recover(path, tmp_path / "new.db")
    lost = len(found.result_sets[0].lost_rows)
    assert lost > 2
    with SQLiteLabNotebook(tmp_path / "new.db").open() as nb:
        lab = labkit.Lab(nb)
        assert len(lab.missing(Doubled())) == lost
        lab.runExperiment(Doubled(), only="missing")
        assert sorted(lab.dataframe()["twice"]) == [2 * n for n in range(60)]


def test_a_result_set_whose_table_is_forgotten_is_said_to_be_lost(
    walks: Path, tmp_path: Path
) -> None:
    wanted = results(walks, "more walks")
    data = walks.read_bytes()
    assert data.count(b"CREATE TABLE finished") == 1
    overwrite(walks, data.index(b"CREATE TABLE finished"), b"\xff" * 12)
    found = recover(walks, tmp_path / "new.db")
    assert "result set finished is lost: its table cannot be found" in found.findings
    with SQLiteLabNotebook(tmp_path / "new.db").open() as nb:
        assert nb.resultSets() == [DEFAULT, "more walks", "on its way"]
    assert same(results(tmp_path / "new.db", "more walks"), wanted)


def test_a_notebook_that_has_forgotten_all_tables_is_not_begun_anew(walks: Path) -> None:
    # an empty list of tables
    overwrite(walks, 103, bytes(2))
    damaged = walks.read_bytes()
    for create in (False, True):
        with pytest.raises(NotebookFormatError, match=COMMAND):
            SQLiteLabNotebook(walks, create=create)
    assert walks.read_bytes() == damaged


def test_reading_a_damaged_notebook_writes_nothing(walks: Path) -> None:
    data = walks.read_bytes()
    assert data.count(b"currenton its way") == 1
    overwrite(walks, data.index(b"currenton its way") + 7, b"on its w")
    overwrite(walks, data.index(b"currenton its way") + 7, b"\x01")
    damaged = walks.read_bytes()
    assert read_all(walks) is None
    assert walks.read_bytes() == damaged
