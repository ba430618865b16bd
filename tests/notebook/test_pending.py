"""What is pending in notebooks in SQL: ranges of sweeps, and single results."""

from __future__ import annotations

import math
import random
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from labkit import SQLiteLabNotebook
from labkit.errors import (
    LabkitError,
    NotebookError,
    NotebookFormatError,
    PendingResultException,
)
from labkit.notebook import pending, schema
from labkit.notebook.blocks import BLOCK
from labkit.notebook.labnotebook import SentChunk
from labkit.notebook.sqlnotebook import DatabaseLabNotebook
from labkit.point import job_names
from labkit.points import Points
from labkit.table import Table

from .equality import same
from .outcomes import outcome_of
from .places import Place
from .processes import process


@pytest.fixture
def notebook(place: Place) -> Iterator[DatabaseLabNotebook]:
    """A new notebook, closed at the end."""
    with place.notebook().open() as notebook:
        yield notebook


def points_of(numbers: Sequence[int]) -> list[tuple[str, dict[str, Any]]]:
    return [(f"key-{n}", {"n": n}) for n in numbers]


def rows(notebook: DatabaseLabNotebook, table: sa.Table) -> list[tuple[Any, ...]]:
    with notebook._database.read() as c:
        return [tuple(row) for row in c.execute(sa.select(table))]


def ranges(notebook: DatabaseLabNotebook) -> list[tuple[Any, ...]]:
    return sorted(rows(notebook, schema.pending_ranges))


def blocks(notebook: DatabaseLabNotebook) -> list[tuple[int, int]]:
    return sorted((row[2], row[3]) for row in rows(notebook, schema.points))


def resolve(notebook: DatabaseLabNotebook, sweep: str, numbers: Sequence[int]) -> None:
    with notebook._database.write(1) as c:
        pending.resolve(c, sweep, numbers)


# ---------- a sweep ----------


def test_a_sweep_is_one_range_and_few_blocks(notebook: DatabaseLabNotebook) -> None:
    count = 2 * BLOCK + 5
    notebook.current().addPendingResults("s", points_of(range(count)))
    assert ranges(notebook) == [("s", 0, count, 1)]
    assert blocks(notebook) == [(0, BLOCK), (BLOCK, 2 * BLOCK), (2 * BLOCK, count)]
    assert rows(notebook, schema.pending) == []


def test_points_of_a_sweep_can_come_one_part_after_another(notebook: DatabaseLabNotebook) -> None:
    rs = notebook.current()
    rs.addPendingResults("s", points_of(range(3)))
    rs.addPendingResults("s", points_of(range(3, BLOCK + 5)), first=3)
    assert ranges(notebook) == [("s", 0, 3, 1), ("s", 3, BLOCK + 5, 1)]
    assert blocks(notebook) == [(0, 3), (3, BLOCK + 3), (BLOCK + 3, BLOCK + 5)]
    assert rs.pendingPoints() == {f"s-{n}": {"n": n} for n in range(BLOCK + 5)}
    resolve(notebook, "s", range(2, BLOCK + 4))
    assert notebook.pendingResults() == ["s-0", "s-1", f"s-{BLOCK + 4}"]
    with pytest.raises(NotebookError, match="sweep s are pending already"):
        rs.addPendingResults("s", points_of(range(2)), first=BLOCK + 3)
    with pytest.raises(NotebookError, match="sweep s are pending already"):
        rs.addPendingResults("s", points_of(range(1)), first=BLOCK + 3)  # its block is there
    rs.addPendingResults("s", points_of(range(9)), first=BLOCK + 5)


def test_a_sweep_is_pending_in_all_ways_it_is_asked(notebook: DatabaseLabNotebook) -> None:
    count = BLOCK + 50
    rs = notebook.current()
    rs.addPendingResults("s", points_of(range(count)))
    resolve(notebook, "s", range(10, BLOCK + 10))
    left = [*range(10), *range(BLOCK + 10, count)]
    jobs = [f"s-{n}" for n in left]
    assert notebook.pendingResults() == jobs
    assert notebook.allPendingResults() == set(jobs)
    assert notebook.numberOfPendingResults() == notebook.numberOfAllPendingResults() == len(jobs)
    assert (notebook.anyPending(), notebook.ready()) == (True, False)
    assert notebook.stillPending(job_names("s", range(count))) == set(jobs)
    assert notebook.stillPending(["s-10", "s-9", "s-1000000", "t-1"]) == {"s-9"}
    assert rs.pending_keys() == {f"key-{n}" for n in left}
    assert rs.pendingPoints() == {f"s-{n}": {"n": n} for n in left}
    assert list(rs.pendingPoints()) == jobs
    assert rs.pendingResultsFor({"n": [3, 11, BLOCK + 10]}) == ["s-3", f"s-{BLOCK + 10}"]
    assert notebook.pendingResultParameters(f"s-{BLOCK + 11}") == {"n": BLOCK + 11}
    assert (notebook.unsentResults(), rs.parameterNames()) == (jobs, ["n"])
    for gone in ("s-10", "s-01", f"s-{count}"):
        with pytest.raises(PendingResultException, match=gone):
            notebook.pendingResultParameters(gone)
    rs.cancelPendingResults(jobs[5:8])
    assert [rc["parameters"]["n"] for rc in notebook.results()] == [5, 6, 7]
    assert [rc["metadata"]["labkit.key"] for rc in notebook.results()] == [
        "key-5",
        "key-6",
        "key-7",
    ]
    assert notebook.pendingResults() == jobs[:5] + jobs[8:]


@pytest.mark.parametrize(
    ("numbers", "left"),
    [
        (range(3), [(3, 9)]),
        (range(6, 9), [(0, 6)]),
        ([4], [(0, 4), (5, 9)]),
        ([0, 1, 4, 5, 8], [(2, 4), (6, 8)]),
        ([2, 2, 3], [(0, 2), (4, 9)]),
        (range(5, 99), [(0, 5)]),
        (range(20, 30), [(0, 9)]),
        (range(9), []),
        ([], [(0, 9)]),
    ],
)
def test_ranges_are_cut(
    notebook: DatabaseLabNotebook, numbers: Sequence[int], left: list[tuple[int, int]]
) -> None:
    notebook.current().addPendingResults("s", points_of(range(9)))
    for _ in range(2):
        resolve(notebook, "s", numbers)
        assert ranges(notebook) == [("s", first, stop, 1) for first, stop in left]
    assert blocks(notebook) == ([(0, 9)] if left else [])


def test_ranges_are_cut_as_sets_are(notebook: DatabaseLabNotebook) -> None:
    chance = random.Random(31)
    count = 3 * BLOCK
    notebook.current().addPendingResults("s", points_of(range(count)))
    left = set(range(count))
    for _ in range(50):
        first = chance.randrange(count)
        chunk = range(first, min(first + chance.choice([1, 40, 900]), count))
        numbers = chunk if chance.random() < 0.7 else sorted(chance.choices(chunk, k=60))
        with notebook._database.read() as c:
            held = pending.holders(c, "s", numbers)
        assert [n for a, b, _ in held for n in range(a, b)] == sorted(left.intersection(numbers))
        resolve(notebook, "s", numbers)
        left.difference_update(numbers)
        assert notebook.numberOfPendingResults() == len(left)
        assert [b for b in blocks(notebook) if not left.intersection(range(*b))] == []
    resolve(notebook, "s", range(count))
    assert ranges(notebook) == blocks(notebook) == []


def test_sweeps_belong_to_their_result_sets(notebook: DatabaseLabNotebook) -> None:
    first = notebook.current()
    first.addPendingResults("b", points_of(range(3)))
    second = notebook.addResultSet("walks")
    second.addPendingResults("a", points_of(range(2)))
    first.addPendingResults("a2", points_of([7]))
    assert first.pendingResults() == ["b-0", "b-1", "b-2", "a2-0"]
    assert second.pendingResults() == ["a-0", "a-1"]
    assert notebook.numberOfAllPendingResults() == 6
    notebook.recordRuns([(job, outcome_of()) for job in ("a-1", "b-1", "a-0")])
    assert (first.numberOfResults(), second.numberOfResults()) == (1, 2)
    assert notebook.allPendingResults() == {"b-0", "b-2", "a2-0"}
    with pytest.raises(PendingResultException, match="b-0"):
        second.pendingResultParameters("b-0")
    notebook.select(notebook.DEFAULT_RESULTSET)
    second.addPendingResults("c", points_of(range(2)))
    notebook.deleteResultSet("walks")
    assert notebook.allPendingResults() == {"b-0", "b-2", "a2-0"}
    assert blocks(notebook) == [(0, 1), (0, 3)]


def test_an_empty_sweep_is_nothing(notebook: DatabaseLabNotebook) -> None:
    notebook.current().addPendingResults("s", [])
    assert ranges(notebook) == blocks(notebook) == notebook.pendingResults() == []
    resolve(notebook, "s", [])


# ---------- single results ----------


def test_a_single_job_can_be_called_like_a_point(notebook: DatabaseLabNotebook) -> None:
    notebook.addPendingResult({"n": 70}, "s-7")
    notebook.addPendingResult({"n": 5}, "-5")
    notebook.current().addPendingResults("s", points_of(range(3)))
    assert notebook.pendingResults() == ["s-7", "-5", "s-0", "s-1", "s-2"]
    assert notebook.stillPending(["s-7", "s-07", "s-3", "-5"]) == {"s-7", "-5"}
    assert notebook.pendingResultParameters("s-7") == {"n": 70}
    notebook.recordRuns([(job, outcome_of(n=0)) for job in ("s-1", "s-7")])
    assert notebook.pendingResults() == ["-5", "s-0", "s-2"]
    notebook.dropPendingResults(["-5", "s-2", "s-2", "never"])
    assert notebook.pendingResults() == ["s-0"]


def test_a_job_is_pending_once_under_either_name(notebook: DatabaseLabNotebook) -> None:
    notebook.current().addPendingResults("s", points_of(range(3)))
    with pytest.raises(NotebookError, match="pending as job s-2 already"):
        notebook.addPendingResult({"n": 1}, "s-2")
    with pytest.raises(NotebookError, match="sweep s are pending already"):
        notebook.current().addPendingResults("s", points_of(range(9)))
    notebook.addPendingResult({"n": 1}, "t-2")
    with pytest.raises(NotebookError, match="sweep t are pending already"):
        notebook.current().addPendingResults("t", points_of(range(3)))
    notebook.current().addPendingResults("t", points_of(range(2)))
    assert notebook.numberOfPendingResults() == 6


# ---------- parameters ----------


VALUES = [
    *(1, -(2**63), 2**80, 10**5000, True, None, 1.5, -0.0, math.inf, math.nan, 1e300),
    *("", "text", "Ωmega", "😀", "a\0b", "half \ud800", "\ud83d", '{"!int":"1"}', "\\ud800"),
    *((1, 2), [1, [2]], {"!int": 1}, {1: 2}, b"bytes", np.float32(1.5), {1, 2}),
]


@pytest.mark.parametrize("together", [True, False])
def test_parameters_of_sweeps_come_back_equal(
    notebook: DatabaseLabNotebook, together: bool
) -> None:
    given = [{"x": value, "n": i} for i, value in enumerate(VALUES)]
    for number, some in enumerate([given] if together else [[one] for one in given]):
        notebook.current().addPendingResults(f"s{number}", [("key", one) for one in some])
    assert same(given, list(notebook.current().pendingPoints().values()))


@pytest.mark.parametrize("place_of_value", range(len(VALUES)))
def test_parameters_that_come_as_columns_come_back_equal(
    notebook: DatabaseLabNotebook, place_of_value: int
) -> None:
    value = VALUES[place_of_value]
    columns = {"x": [value, value, value], "n": [1, 2, 3], "half": [0.5, value, 1.5]}
    points = Points(lambda some: ["key"] * len(some))
    points.add(Table(columns))
    notebook.current().addPendingResults("s", points)
    assert same([*Table(columns)], list(notebook.current().pendingPoints().values()))


@pytest.mark.parametrize("name", ["!int", 'quo"te', "lone \ud800"])
def test_columns_with_strange_names(notebook: DatabaseLabNotebook, name: str) -> None:
    points = Points(lambda some: ["key"] * len(some))
    points.add(Table({"n": [1, 2], name: [3, 4]}))
    try:
        notebook.current().addPendingResults("s", [*points])
    except LabkitError as e:
        with pytest.raises(type(e), match=re.escape(str(e))):
            notebook.current().addPendingResults("s", points)
        return
    notebook.current().addPendingResults("t", points)
    written = [row[-1] for row in rows(notebook, schema.points)]
    assert written[0] == written[1]


def test_two_halves_of_a_character_stay_two(notebook: DatabaseLabNotebook) -> None:
    halves = "\ud83d" + "\ude00"
    notebook.current().addPendingResults("s", [("key", {"x": halves}), ("key", {"x": "😀"})])
    assert [p["x"] for p in notebook.current().pendingPoints().values()] == [halves, "😀"]


def test_a_parameter_can_be_called_like_a_tag(notebook: DatabaseLabNotebook) -> None:
    notebook.current().addPendingResults("s", [("key", {"!int": 255})] * 2)
    assert notebook.pendingResultParameters("s-1") == {"!int": 255}


def test_arrays_of_other_points_are_not_read(notebook: DatabaseLabNotebook, place: Place) -> None:
    points = [("key", {"n": 0, "array": np.arange(9)}), ("key", {"n": 1})]
    notebook.current().addPendingResults("s", points)
    assert same(points[0][1], notebook.pendingResultParameters("s-0"))
    for file in place.folder.glob("*.h5"):
        file.unlink()
    assert notebook.pendingResultParameters("s-1") == {"n": 1}


def test_large_parameters_are_several_blocks(notebook: DatabaseLabNotebook) -> None:
    points = [("key", {"text": f"{i}" * 1_500_000}) for i in range(4)]
    notebook.current().addPendingResults("s", points)
    assert blocks(notebook) == [(0, 2), (2, 4)]
    assert notebook.pendingResultParameters("s-3") == points[3][1]


def test_a_lost_block_is_damage(notebook: DatabaseLabNotebook) -> None:
    notebook.current().addPendingResults("s", points_of(range(3)))
    with notebook._database.write(1) as c:
        c.execute(sa.delete(schema.points))
    for read in (notebook.current().pendingPoints, lambda: notebook.cancelPendingResult("s-1")):
        with pytest.raises(NotebookFormatError, match=r"damaged.*sweep s are lost"):
            read()
    # outcomes that come are kept all the same
    notebook.recordRuns([("s-0", outcome_of(n=0))])
    assert (notebook.numberOfResults(), notebook.pendingResults()) == (1, ["s-1", "s-2"])


# ---------- messages ----------


def test_chunks_are_outstanding_by_ranges(notebook: DatabaseLabNotebook) -> None:
    for sweep in ("s", "t"):
        notebook.current().addPendingResults(sweep, points_of(range(100)))
    chunks = [
        SentChunk(f"{sweep}{i}", sweep, 10 * i, 10 * i + 10, "c", "m")
        for sweep in ("s", "t")
        for i in range(9)
    ]
    notebook.recordChunks(chunks)
    resolve(notebook, "s", [*range(35), *range(50, 60), *range(61, 70), 89, 95])
    left = [c for c in chunks if c.name not in ("s0", "s1", "s2", "s5")]
    assert sorted(notebook.outstandingChunks()) == sorted(left)
    unsent = [f"s-{n}" for n in range(90, 100) if n != 95] + job_names("t", range(90, 100))
    assert notebook.unsentResults() == unsent
    notebook.dropChunks(["s6"])
    assert notebook.unsentResults() == ["s-60", *unsent]


# ---------- killed, and many ----------


def test_a_kill_leaves_each_point_pending_or_recorded(place: Place) -> None:
    with process("sweep", place.name, 1, 200) as writer:
        assert writer.line() == "held"
        writer.tell()
        for _ in range(5):
            writer.line()
        writer.kill()
        writer.end()
    with place.notebook().open() as notebook:
        done = [rc["parameters"]["n"] for rc in notebook.results("set 1")]
        waiting = [int(job.rpartition("-")[2]) for job in notebook.pendingResults("set 1")]
        assert len(done) >= 5
        assert sorted(done + waiting) == list(range(200))


def cpu_s(task: Any) -> float:
    begin = time.process_time()
    task()
    return time.process_time() - begin


def test_a_hundred_thousand_are_looked_up_and_cancelled_quickly(tmp_path: Path) -> None:
    count = 100_000
    with SQLiteLabNotebook(tmp_path / "many.db").open() as notebook:
        rs = notebook.current()
        rs.addPendingResults("s", points_of(range(count)))
        assert (tmp_path / "many.db-wal").stat().st_size < 60 * count
        resolve(notebook, "s", range(0, count, 10))
        jobs = rs.pendingResults()
        # a query or a write for each would take seconds
        assert cpu_s(rs.pending_keys) < 1
        assert cpu_s(lambda: notebook.stillPending(jobs)) < 1
        assert cpu_s(lambda: notebook.dropPendingResults(jobs[: count // 2])) < 1
        rs.cancelPendingResults(jobs[count // 2 :])
        assert (notebook.anyPending(), rs.numberOfResults()) == (False, len(jobs) - count // 2)
