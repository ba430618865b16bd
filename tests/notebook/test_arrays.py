"""Arrays: every dtype and shape, and the files in which they are kept."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from labkit import SQLiteLabNotebook
from labkit.errors import NotebookError, NotebookFormatError, UnstorableValueError
from labkit.notebook import arrays as arrays_module
from labkit.notebook.slabs import SlabWriter

from .equality import same, same_in_table
from .outcomes import outcome_of

NUMBERS = "?bBhHiIlLqQefdgFDG"
String = np.dtypes.StringDType
MISSING = {"none": None, "nan": np.nan, "text": "missing"}

ARRAYS: dict[str, np.ndarray[Any, Any]] = {
    **{f"numbers_{c}": np.array([0, 1, 7]).astype(c) for c in NUMBERS},
    **{
        f"big_endian_{c}": np.array([[0, 1], [2, 3]]).astype(np.dtype(c).newbyteorder(">"))
        for c in "hilqHILQefdgFDG"
    },
    **{
        f"{kind}_{order}_{shape}": np.zeros(shape, f"{order}{kind}")
        for kind, order, shape in itertools.product(
            ("f8", "i2", "U3", "M8[ms]"), "<>", ((), (0,), (1,), (2, 0, 3), (2, 3))
        )
    },
    **{
        f"datetime_{u}": np.array([1, "NaT", -5], f"M8[{u}]") for u in ("Y", "D", "25s", "ns", "as")
    },
    **{f"timedelta_{u}": np.array([1, "NaT", -5], f"m8[{u}]") for u in ("M", "W", "us", "ps")},
    **{
        f"strings_{k}": np.array(["a", na, "ä\0"], String(na_object=na))
        for k, na in MISSING.items()
    },
    "nan_with_sign": np.array([np.nan, -np.nan, -0.0, np.inf]),
    "complex_nan": np.array([complex(np.nan, -0.0), 1j]),
    "longdouble": np.array([np.longdouble(1) / 3]),
    "bytes": np.array([b"a", b"", b"ab\0c"]),
    "bytes_scalar": np.array(b"ab", "S5"),
    "text": np.array(["Ω", "", "\ud800", "a\0b"]),
    "text_scalar": np.array("ab", "U5"),
    "strings": np.array([["a", "ä" * 1000], ["", "\0"]], String()),
    "strings_strict": np.array(["a"], String(coerce=False)),
    "strings_empty": np.zeros((0, 2), String()),
    "strings_scalar": np.array("ab", String()),
    "void": np.array([b"\0\1\2", b"abc"], "V3"),
    "void_of_nothing": np.ndarray((2,), "V0", b""),
    "structured": np.array(
        [(1, 2.5, "ä", b"\0a")], [("a", "<i4"), ("b", ">f8"), ("c", "U2"), ("d", "S2")]
    ),
    "structured_scalar": np.array((1, 2), [("a", "i4"), ("b", "i8")]),
    "structured_empty": np.zeros((0, 2), [("a", "i4")]),
    "structured_aligned": np.zeros(2, np.dtype([("a", "i1"), ("b", "i8")], align=True)),
    "structured_nested": np.ones(2, [("a", [("x", "f4", (2, 3)), ("y", "M8[s]")]), ("b", "?")]),
    "structured_titles": np.ones(2, [(("title", "a"), "f4"), ("b", "?")]),
    "structured_view": np.ones(2, [("a", "i4"), ("b", "f8"), ("c", "i4")])[["c", "a"]],
    "structured_overlapping": np.arange(2)
    .astype("i8")
    .view({"names": ["a", "b"], "formats": ["i4", "i8"], "offsets": [0, 0]}),
    "structured_odd_names": np.ones(1, [("", "i4"), ("ä b", "f4")]),
    "dtype_with_metadata": np.ones(2, np.dtype("f8", metadata={"unit": "m"})),
    "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "transposed": np.arange(6).reshape(2, 3).T,
    "strided": np.arange(20)[::-3],
    "broadcast": np.broadcast_to(np.arange(3), (4, 3)),
    "read_only": np.frombuffer(b"abcd", np.uint8),
    "32_dimensions": np.ones((1,) * 32),
    "64_dimensions": np.ones((1,) * 64, "U1"),
}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, Any], Any]]:
    """Keep each array as a result of its own, and read them from the folded file."""
    path = tmp_path_factory.mktemp("arrays") / "arrays.db"
    with SQLiteLabNotebook(path).open() as notebook:
        notebook.addResult([outcome_of(ARRAYS)] * 2)
    reader = SQLiteLabNotebook(path)
    with reader.open():
        yield reader.results()[1]["results"], reader.dataframe()


@pytest.mark.parametrize("name", ARRAYS)
def test_an_array_comes_back_with_dtype_and_shape(
    kept: tuple[dict[str, Any], Any], name: str
) -> None:
    results, table = kept
    assert same(ARRAYS[name], results[name])
    assert same_in_table(ARRAYS[name], table[name].iloc[0])
    assert results[name].flags.writeable


def test_arrays_of_all_dtypes_share_a_column(notebook: SQLiteLabNotebook) -> None:
    notebook.addResult([outcome_of({"x": array}) for array in ARRAYS.values()])
    for array, outcome in zip(ARRAYS.values(), notebook.results(), strict=True):
        assert same(array, outcome["results"]["x"])


def test_arrays_of_large_datasets_are_read_one_by_one(
    notebook: SQLiteLabNotebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrays_module, "WHOLE_BYTES", 0)
    notebook.addResult([outcome_of(ARRAYS)] * 2)
    for outcome in notebook.results():
        assert all(same(array, outcome["results"][name]) for name, array in ARRAYS.items())


def test_a_mapped_file_is_kept_as_an_array(notebook: SQLiteLabNotebook, tmp_path: Path) -> None:
    mapped = np.memmap(tmp_path / "mapped", "f8", "w+", shape=3)
    mapped[:] = 1, 2, 3
    notebook.addResult(outcome_of({"x": mapped}))
    mapped[:] = 0
    assert same(np.array([1.0, 2.0, 3.0]), notebook.results()[0]["results"]["x"])


def test_an_array_that_is_changed_later_is_kept_as_it_was(notebook: SQLiteLabNotebook) -> None:
    array = np.arange(3)
    notebook.addResult(outcome_of({"x": array}))
    array[:] = 9
    first = notebook.results()[0]["results"]["x"]
    assert same(np.arange(3), first)
    first[:] = 9
    assert same(np.arange(3), notebook.results()[0]["results"]["x"])


def test_a_dtype_without_description_is_refused(notebook: SQLiteLabNotebook) -> None:
    wide = np.zeros(1, [(f"field {i}", "f8") for i in range(5000)])
    with pytest.raises(UnstorableValueError, match=r"^wide: a ndarray .* description of its dtype"):
        notebook.addResult(outcome_of({"wide": wide}))


# ---------- the files ----------


def names(folder: Path) -> set[str]:
    """Return the names of the files of arrays in a folder."""
    return {file.name for file in folder.iterdir() if ".h5" in file.name}


def add(path: Path, *sizes: int, tag: str | None = None) -> None:
    """Add outcomes with an array of each of these sizes, a transaction each, and close."""
    with SQLiteLabNotebook(path).open() as notebook:
        if tag is not None:
            notebook.already(tag)
        for size in sizes:
            notebook.addResult(outcome_of({"array": np.full(size, size)}), tag)


def check(path: Path, *sizes: int, tag: str | None = None) -> None:
    """Test that a notebook has these arrays."""
    with SQLiteLabNotebook(path).open() as notebook:
        arrays = [outcome["results"]["array"] for outcome in notebook.results(tag)]
    assert list(map(len, arrays)) == list(sizes)
    assert all(same(np.full(size, size), array) for size, array in zip(sizes, arrays, strict=True))


def test_a_transaction_has_a_file_until_the_notebook_is_closed(path: Path) -> None:
    notebook = SQLiteLabNotebook(path)
    with notebook.open():
        assert names(path.parent) == set()
        notebook.addResult([outcome_of({"a": np.arange(i)}) for i in range(3)])
        notebook.addResult(outcome_of({"a": np.arange(3)}))
        assert names(path.parent) == {"walks-000000.h5", "walks-000001.h5"}
    assert names(path.parent) == {"walks.h5"}
    with h5py.File(path.parent / "walks.h5") as file:
        assert {d.split(".")[0] for d in file["results/a"]} == {"000000", "000001"}


def test_arrays_of_many_sessions_are_folded(path: Path) -> None:
    for session in range(3):
        add(path, 10 * session + 1, 10 * session + 2)
        assert names(path.parent) == {"walks.h5"}
    check(path, 1, 2, 11, 12, 21, 22)
    assert names(path.parent) == {"walks.h5"}


def test_large_files_are_linked_not_copied(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays_module, "LARGE_BYTES", 100_000)
    add(path, 10, 50_000)
    assert names(path.parent) == {"walks.h5", "walks-000001.h5"}
    inode = (path.parent / "walks-000001.h5").stat().st_ino
    add(path, 20)
    assert (path.parent / "walks-000001.h5").stat().st_ino == inode
    with h5py.File(path.parent / "walks.h5") as file:
        assert file["results/array/000001.0"].shape == (1, 50_000)
    check(path, 10, 50_000, 20)


def test_a_large_main_file_is_not_copied_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays_module, "LARGE_BYTES", 20_000)
    sizes = [1000, 1001, 1002, 1003, 1004, 1005, 1006]
    for i, size in enumerate(sizes):
        add(path, size)
        check(path, *sizes[: i + 1])
    parts = {name for name in names(path.parent) if "part" in name}
    assert "walks.part000.h5" in parts
    add(path, 7)
    # what they hold is linked directly, however often it was folded
    assert {name for name in names(path.parent) if "part" in name} >= parts
    check(path, *sizes, 7)


def test_a_file_system_without_links_has_one_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(arrays_module, "LARGE_BYTES", 20_000)
    monkeypatch.setattr(os, "link", refuse)
    sizes = [1000, 1001, 1002, 1003, 1004]
    for size in sizes:
        add(path, size)
    assert names(path.parent) == {"walks.h5"}
    check(path, *sizes)


def test_arrays_of_deleted_result_sets_are_dropped(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrays_module, "LARGE_BYTES", 100_000)
    add(path, 10)
    add(path, 20, 30, 50_000, tag="walks")
    add(path, 40, tag="others")
    assert names(path.parent) == {"walks.h5", "walks-000003.h5"}
    with SQLiteLabNotebook(path).open() as notebook:
        notebook.deleteResultSet("walks")
    assert names(path.parent) == {"walks.h5"}
    with h5py.File(path.parent / "walks.h5") as file:
        assert set(file) == {"results", "others"}
    check(path, 10, tag=SQLiteLabNotebook.DEFAULT_RESULTSET)
    check(path, 40, tag="others")


def test_arrays_of_a_replaced_result_set_are_dropped(path: Path) -> None:
    add(path, 10, 20, tag="walks")
    with SQLiteLabNotebook(path).open() as notebook:
        notebook.addResultSet("walks")
        notebook.addResult(outcome_of({"array": np.full(30, 30)}))
    with h5py.File(path.parent / "walks.h5") as file:
        assert list(file["walks/array"]) == ["000002.0"]
    check(path, 30, tag="walks")


def test_files_of_transactions_that_were_not_completed_do_no_harm(path: Path) -> None:
    add(path, 10)
    # killed between the file and the commit
    for number in (1, 2):
        with h5py.File(path.parent / f"walks-{number:06d}.h5", "w") as file:
            file[f"results/array/{number:06d}.0"] = np.zeros((1, 20), int)
    (path.parent / "walks-000003.h5.unfinished").write_bytes(b"half")
    with SQLiteLabNotebook(path).open() as notebook:
        notebook.addResult(outcome_of())
    assert names(path.parent) == {"walks.h5"}
    add(path, 20, 30, 40)
    assert names(path.parent) == {"walks.h5"}
    with SQLiteLabNotebook(path).open() as notebook:
        found = [rc["results"]["array"] for rc in notebook.results()]
    assert [None if a is None else list(set(a)) for a in found] == [[10], None, [20], [30], [40]]


def test_a_transaction_that_fails_leaves_no_file(
    notebook: SQLiteLabNotebook, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook.addResultSet("walks")
    notebook.addPendingResult({}, "a", "epyc.resultset.default")
    notebook.addPendingResult({}, "b", "walks")
    good, bad = outcome_of({"x": np.arange(3)}), outcome_of({"x": object()})
    with pytest.raises(UnstorableValueError):
        notebook.recordRuns([("a", good), ("b", bad)])
    assert names(path.parent) == set()
    assert notebook.allPendingResults() == {"a", "b"}
    notebook.recordRuns([("a", good), ("b", good)])
    assert names(path.parent) == {"walks-000000.h5", "walks-000001.h5"}


def test_a_full_disk_is_an_error_of_ours(
    notebook: SQLiteLabNotebook, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Any, file: h5py.File) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(SlabWriter, "write", full)
    with pytest.raises(NotebookError, match=r"walks-000000.h5: .*No space left"):
        notebook.addResult(outcome_of({"x": np.arange(3)}))
    assert notebook.numberOfResults() == 0
    assert names(path.parent) == set()


def test_a_damaged_file_is_named_and_others_are_read(path: Path) -> None:
    notebook = SQLiteLabNotebook(path)
    with notebook.open():
        for tag in ("a", "b"):
            notebook.addResultSet(tag)
            notebook.addResult(outcome_of({"array": np.full(9, 9)}))
        (path.parent / "walks-000000.h5").write_bytes(b"damaged")
        with pytest.raises(
            NotebookFormatError, match=r"a/array/000000.0\[0\] .* .*walks-000000.h5"
        ):
            notebook.results("a")
        check(path, 9, tag="b")
    # closing folds the others, and keeps what may yet be rescued
    assert names(path.parent) == {"walks-000000.h5", "walks.h5"}
    check(path, 9, tag="b")


def test_a_damaged_main_file_is_not_replaced(path: Path) -> None:
    add(path, 9)
    main = path.parent / "walks.h5"
    main.write_bytes(b"damaged")
    with pytest.raises(NotebookFormatError, match=r"walks.h5 is damaged"):
        add(path, 10)
    assert main.read_bytes() == b"damaged"
    assert names(path.parent) == {"walks.h5", "walks-000001.h5"}
    # the lock is free all the same
    with (
        pytest.raises(NotebookFormatError, match=r"walks.h5"),
        SQLiteLabNotebook(path).open() as nb,
    ):
        nb.results()


def test_arrays_that_are_gone_are_named(path: Path) -> None:
    add(path, 9)
    (path.parent / "walks.h5").unlink()
    gone = r"results/array/000000.0\[0\] .*walks.h5"
    with (
        SQLiteLabNotebook(path).open() as notebook,
        pytest.raises(NotebookFormatError, match=gone),
    ):
        notebook.results()


def test_a_reader_with_open_files_follows_a_fold(path: Path) -> None:
    add(path, 1)
    notebook = SQLiteLabNotebook(path)
    with notebook.open():
        notebook.addResult(outcome_of({"array": np.full(2, 2)}))
        references = ["results/array/000000.0[0]", "results/array/000001.0[0]"]
        with arrays_module.ArrayStore(path.parent, "walks").reader() as reader:
            assert len(reader.get(references[0])) == 1  # from walks.h5
            notebook.close()
            assert len(reader.get(references[1])) == 2  # from the new walks.h5
            assert len(reader.get(references[0])) == 1


def test_many_files_are_read_though_few_may_be_open(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrays_module, "OPEN_FILES", 2)
    notebook = SQLiteLabNotebook(path)
    with notebook.open():
        for size in range(10):
            notebook.addResult(outcome_of({"array": np.full(size, size)}))
        check(path, *range(10))
        with arrays_module.ArrayStore(path.parent, "walks").reader() as reader:
            for number in range(10):
                reader.get(f"results/array/{number:06d}.0[0]")
            assert len(reader._files) <= 2


def test_several_arrays_a_row_are_read_from_a_cache(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = []
    load = arrays_module.ArrayReader._load
    monkeypatch.setattr(
        arrays_module.ArrayReader, "_load", lambda *args: reads.append(args) or load(*args)
    )
    with SQLiteLabNotebook(path).open() as notebook:
        rows = [outcome_of({"a": np.full(9, i), "b": np.full(8, i)}) for i in range(50)]
        notebook.addResult(rows)
        found = notebook.results()
    assert [rc["results"]["b"][0] for rc in found] == list(range(50))
    assert len(reads) == 2


# ---------- whose files they are ----------


def test_an_h5_file_of_somebody_else_is_left_alone(path: Path) -> None:
    other = path.parent / "walks.h5"
    with h5py.File(other, "w") as file:
        file["mine"] = 1
    before = other.read_bytes()
    for create in (False, True, True):
        with SQLiteLabNotebook(path, create=create).open() as notebook:
            notebook.addResult(outcome_of({"array": np.full(9, 9)}))
        check(path, 9)
    assert other.read_bytes() == before
    assert names(path.parent) == {"walks.h5", "walks.db.h5"}


def test_an_h5_file_of_somebody_else_that_comes_later_is_left_alone(path: Path) -> None:
    other = path.parent / "walks.h5"
    SQLiteLabNotebook(path).close()
    with h5py.File(other, "w") as file:
        file["mine"] = 1
    before = other.read_bytes()
    with SQLiteLabNotebook(path).open() as notebook:
        notebook.addResultSet("without arrays")
    with pytest.raises(NotebookFormatError, match=r"walks.h5 is .*not a file of this notebook"):
        add(path, 9)
    assert other.read_bytes() == before
    check(path, 9)
    other.unlink()
    add(path, 10)
    check(path, 9, 10)
    assert names(path.parent) == {"walks.h5"}


def test_no_free_name_for_arrays_is_said(path: Path) -> None:
    for name in ("walks.h5", "walks.db.h5", "walks.db.arrays.h5"):
        (path.parent / name).write_bytes(b"mine")
    for create in (False, True):
        with pytest.raises(
            NotebookFormatError, match=r"walks.db.arrays.h5, but that is there already"
        ):
            SQLiteLabNotebook(path, create=create)
    assert not path.exists()


def test_arrays_without_their_notebook_are_erased_on_demand_only(path: Path) -> None:
    add(path, 9)
    path.unlink()
    add(path, 10)
    assert names(path.parent) == {"walks.h5", "walks.db.h5"}
    path.unlink()
    with SQLiteLabNotebook(path, create=True).open():
        pass
    add(path, 11)
    check(path, 11)
    assert names(path.parent) == {"walks.h5", "walks.db.h5"}


def test_notebooks_whose_names_differ_in_the_suffix_share_no_file(path: Path) -> None:
    paths = [path, path.with_suffix(".sqlite"), path.with_suffix(""), path.with_name("others.h5")]
    for size, each in enumerate(paths):
        add(each, size)
    for size, each in enumerate(paths):
        check(each, size)
