"""Series from files: what each format gives, and what is said of a file that is wrong."""

import gzip
import time
from decimal import Decimal
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pyarrow import parquet

from labkit.errors import SeriesError
from labkit.matrixprofile.files.reading import SUFFIXES, Source, read_series

VALUES = np.array([1.5, -2.0, np.nan, 1e-300, np.inf, 0.1])


@pytest.fixture
def written(tmp_path):
    """Write a file of text, or of bytes, and return its path."""

    def write(name: str, content: str | bytes) -> Path:
        data = content.encode() if isinstance(content, str) else content
        path = tmp_path / name
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return path

    return write


def same(found, wanted=VALUES):
    assert isinstance(found, np.ndarray)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, wanted, strict=True)
    return True


def is_mapped(array):
    return isinstance(array, np.memmap) or (array.base is not None and is_mapped(array.base))


def refused(path, *parts, **options):
    """Return what is said of a file that is refused."""
    with pytest.raises(SeriesError) as e:
        read_series(path, **options)
    message = str(e.value)
    assert "\n" not in message
    assert str(path) in message
    for part in parts:
        assert part in message
    return message


# ---------- one number a line ----------


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.TXT"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("end", ["", "N", "NNN", "N  NN\t"])
def test_lines(written, name, newline, end):
    lines = ["1.5", " -2 ", "NaN", "+1E-300", "inf", ".1"]
    text = newline.join(lines) + end.replace("N", newline)
    assert same(read_series(written(name, text)))


@given(hnp.arrays(np.float64, st.integers(1, 50), elements=st.floats(width=64)))
def test_what_python_writes_is_read_bit_for_bit(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("lines") / "a.txt"
    path.write_text("\n".join(map(repr, values.tolist())))
    assert same(read_series(path), values)


def test_a_byte_order_mark_and_blank_lines_longer_than_a_block(written):
    blank = "\n" * (3 << 20)
    assert same(read_series(written("a.txt", f"\ufeff1\n2{blank}")), np.array([1.0, 2.0]))
    refused(written("b.txt", f"1{blank}2"), "line 2: empty; write nan")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1\n" * 16 + "volt\n3\n", "line 17: 'volt' is not a number"),
        ("volt\n1\n", "line 1: 'volt' is not a number; a file with a header is a .csv"),
        ("1\n\n3\n", "line 2: empty; write nan where a sample is missing"),
        ("1\n2 3\n", "line 2: '2 3' is several numbers; a table is a .csv or .tsv"),
        ("1\n2,5\n", "line 2: '2,5' is several numbers"),
        ("1_000\n", "line 1: '1_000' is not a number"),
        ("1\n" + "x" * 9999, "line 2: 'xxxxxxxxxxxxxxxxxxxx…' is not a number"),
        ("", "is empty"),
        ("\n\r\n", "is empty"),
    ],
)
def test_wrong_lines(written, text, message):
    refused(written("a.txt", text), message)


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """Lines of all lengths, of more than one block of any reader."""
    values = np.random.default_rng(5).normal(size=500_000)
    values[::3] = np.round(values[::3], 1)
    path = tmp_path_factory.mktemp("long") / "long.txt"
    path.write_text("\n".join(map(repr, values.tolist())))
    return path, values


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("suffix", [".txt", ".txt.gz", ".csv", ".tsv"])
def test_long_files(written, long, suffix, newline):
    path, values = long
    text = path.read_text().replace("\n", newline) + 3 * newline
    assert same(read_series(written(f"a{suffix}", text)), values)


def test_long_files_are_read_faster_than_a_loop_could(long):
    def loop():
        with long[0].open() as lines:
            return [float(line) for line in lines]

    assert fastest(lambda: read_series(long[0])) < fastest(loop)


def fastest(action):
    times = []
    for _ in range(3):
        started = time.process_time()
        action()
        times.append(time.process_time() - started)
    return min(times)


# ---------- tables of text ----------


def test_the_column_of_a_table(written):
    path = written("a.csv", 'second,"volt, raw",\n0,1.5,9\n1,NA,9\n2,"2.5",9\n')
    wanted = np.array([1.5, np.nan, 2.5])
    assert same(read_series(path, column="volt, raw"), wanted)
    assert same(read_series(path, column=1), wanted)
    assert same(read_series(path, column="1"), wanted)
    assert same(read_series(path, column=2), np.full(3, 9.0))


@pytest.mark.parametrize("end", ["", "\n", "\r\n\r\n"])
@pytest.mark.parametrize("name", ["a.tsv", "a.tsv.gz", "a.csv.gz"])
def test_without_header(written, name, end):
    tab = "\t" if "tsv" in name else ","
    path = written(name, f"0{tab}1.5\n1{tab}\n2{tab}{end}")
    assert same(read_series(path, column=1), np.array([1.5, np.nan, np.nan]))


def test_the_only_column_needs_no_name(written):
    wanted = np.array([np.nan, 2.0, np.nan, 4.0])
    assert same(read_series(written("a.csv", 'volt\n""\n2\n\n4\n\n')), wanted)
    assert same(read_series(written("b.csv", "\n2\nnull\n4")), wanted)


def test_what_pandas_writes(tmp_path):
    import pandas as pd

    for name in ("a.csv", "b.csv.gz"):
        pd.DataFrame({"x": VALUES}).to_csv(tmp_path / name)
        pd.DataFrame({"x": VALUES}).to_csv(tmp_path / f"only-{name}", index=False)
        assert same(read_series(tmp_path / name, column="x"))
        assert same(read_series(tmp_path / f"only-{name}"))


TABLE = "second,volt\n0,1\n1,2\n"


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        (TABLE, None, "has 2 columns: second, volt. Choose one: column='volt'"),
        (TABLE, None, "a.csv:volt on the command line"),
        (TABLE, "vlt", "has no column vlt, columns 0 to 1; did you mean volt? Known: second, volt"),
        (TABLE, 2, "has no column 2, columns 0 to 1"),
        (TABLE, -1, "has no column -1"),
        ("1,2\n3,4\n", None, "has 2 columns: number 0, number 1"),
        ("a,a\n1,2\n", "a", "has several columns a; choose one by its number"),
        (TABLE + "2,x\n", "volt", "line 4: 'x' in column volt is not a number"),
        ("0,1\n1,x\n", 1, "line 2: 'x' in column 1 is not a number"),
        (TABLE + "2\n", "volt", "line 4: 1 cells, where the first line has 2"),
        (TABLE + "2,3,4\n", "volt", "line 4: 3 cells, where the first line has 2"),
        ("", None, "is empty"),
        ("volt\n", None, "is empty"),
        ("volt;second\n1;2\n", None, "line 2: '1;2' in column volt;second is not a number"),
        (",".join(f"c{i}" for i in range(999)), "c1a", "columns 0 to 998; did you mean"),
    ],
)
def test_wrong_tables(written, text, column, message):
    assert len(refused(written("a.csv", text), message, column=column)) < 400


def test_what_is_no_text_is_refused(written):
    for name in ("a.txt", "a.csv"):
        refused(written(name, np.random.default_rng(1).bytes(5000)))
    refused(written("b.csv", '1\n"' + "x" * 200_000), "line")


# ---------- arrays ----------


def test_npy_is_mapped(tmp_path):
    np.save(tmp_path / "a.npy", VALUES)
    found = read_series(tmp_path / "a.npy")
    assert same(found)
    assert is_mapped(found)
    assert not found.flags.writeable


@pytest.mark.parametrize("dtype", ["f4", ">f8", "i2", "u8", "?"])
def test_numbers_of_other_types_become_float64(tmp_path, dtype):
    values = np.array([0, 1, 1, 0]).astype(dtype)
    np.save(tmp_path / "a.npy", values)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"] = values
    for name in ("a.npy", "a.h5"):
        assert same(read_series(tmp_path / name), values.astype(np.float64))


def test_npz(tmp_path):
    np.savez_compressed(tmp_path / "one.npz", pulse=VALUES)
    np.savez(tmp_path / "two.npz", pulse=VALUES, second=np.arange(6))
    assert same(read_series(tmp_path / "one.npz"))
    assert same(read_series(tmp_path / "two.npz", dataset="pulse"))
    refused(tmp_path / "two.npz", "has 2 datasets: pulse, second")
    refused(tmp_path / "two.npz", "no dataset puls; did you mean pulse?", dataset="puls")


@pytest.fixture
def hdf5(tmp_path):
    path = tmp_path / "data.h5"
    with h5py.File(path, "w", userblock_size=1024) as file:
        file["day:1/pulse"] = VALUES
        file["day:1/image"] = np.zeros((2, 3))
        file["names"] = ["a", "b"]
        file["scalar"] = 1.0
    return path


def test_hdf5_is_mapped(hdf5):
    found = read_series(hdf5)
    assert same(found)
    assert is_mapped(found)
    assert same(read_series(hdf5, dataset="day:1/pulse"))
    assert same(read_series(hdf5, dataset="/day:1/pulse"))


def test_hdf5_that_cannot_be_mapped_is_read(hdf5):
    with h5py.File(hdf5, "a") as file:
        file.create_dataset("chunked", data=VALUES, chunks=(2,), compression="gzip")
        file.create_dataset("unwritten", shape=(4,), dtype="f8", fillvalue=3.0)
        file.create_dataset("big", data=VALUES, dtype=">f8")
        layout = h5py.VirtualLayout((6,), "f8")
        layout[:] = h5py.VirtualSource(file["chunked"])
        file.create_virtual_dataset("virtual", layout)
    for name in ("chunked", "big", "virtual"):
        assert same(read_series(hdf5, dataset=name))
    assert same(read_series(hdf5, dataset="unwritten"), np.full(4, 3.0))
    refused(hdf5, "has 5 datasets: /big, /chunked, /day:1/pulse", "Choose one: dataset=")


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ("puls", "has no dataset puls"),
        ("/day:1/puls", "did you mean /day:1/pulse? Known: /day:1/pulse"),
        ("day:1", "has no dataset day:1"),
        ("day:1/image", "2 dimensions, shape (2, 3)"),
        ("scalar", "0 dimensions"),
        ("names", "dtype object"),
    ],
)
def test_wrong_datasets(hdf5, dataset, message):
    refused(hdf5, message, dataset=dataset)


def test_wrong_arrays(tmp_path, written):
    for name, value, message in (
        ("two.npy", np.zeros((2, 3)), "has 2 dimensions, shape (2, 3)"),
        ("none.npy", np.zeros(0), "is empty"),
        ("complex.npy", np.zeros(3, complex), "has dtype complex128"),
        ("text.npy", np.array(["a"]), "has dtype <U1"),
    ):
        np.save(tmp_path / name, value)
        refused(tmp_path / name, message)
    np.save(tmp_path / "object.npy", np.array([None]), allow_pickle=True)
    refused(tmp_path / "object.npy", "cannot be read")
    (tmp_path / "cut.npy").write_bytes((tmp_path / "two.npy").read_bytes()[:-9])
    refused(tmp_path / "cut.npy", "cannot be read")
    for name in ("a.npy", "a.npz", "a.h5", "a.parquet"):
        refused(written(name, "no array"), "cannot be read")
        refused(written(name, b""), "cannot be read")
    with h5py.File(tmp_path / "empty.h5", "w"):
        refused(tmp_path / "nothing.h5", "there is no file")
    refused(tmp_path / "empty.h5", "has no dataset that is a series of numbers")


def test_parquet(tmp_path):
    columns = {
        "when": pa.array([1, 2, 3], pa.timestamp("s")),
        "volt": pa.array([1.5, None, float("nan")]),
        "count": pa.array([1, None, 3], pa.int16()),
        "price": pa.array([Decimal("1.25"), None, Decimal(2)]),
        "name": ["a", "b", "c"],
    }
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table(columns), path, row_group_size=2)
    nan = np.nan
    assert same(read_series(path, column="volt"), np.array([1.5, nan, nan]))
    assert same(read_series(path, column="count"), np.array([1.0, nan, 3.0]))
    assert same(read_series(path, column="price"), np.array([1.25, nan, 2.0]))
    assert same(read_series(path, column=2), np.array([1.0, nan, 3.0]))
    refused(path, "has 3 columns: volt, count, price. Choose one")
    refused(path, "column name holds string, not numbers", column="name")
    refused(path, "did you mean volt?", column="vlt")
    parquet.write_table(pa.table({k: columns[k] for k in ("when", "volt")}), path)
    assert same(read_series(path), np.array([1.5, nan, nan]))


# ---------- which file ----------


def test_files_that_are_not_there(tmp_path, written):
    written("pulse.csv", TABLE)
    refused(tmp_path / "puls.csv", "there is no file", "did you mean pulse.csv? Known: pulse.csv")
    refused(tmp_path / "no" / "puls.csv", f"there is no folder {tmp_path / 'no'}")
    (tmp_path / "folder.csv").mkdir()
    refused(tmp_path / "folder.csv", "is a folder")


def test_unknown_suffixes_list_the_known(written):
    message = refused(written("a.cvs", "1"), "the suffix .cvs", "did you mean .csv")
    assert all(suffix in message for suffix in SUFFIXES)
    refused(written("a", "1"), "has no suffix")
    refused(written("a.npy.gz", "1"), "the suffix .npy.gz")


def test_parts_that_the_format_does_not_have(written):
    refused(written("a.txt", "1"), "has no column 1; it holds one series", column=1)
    refused(written("a.csv", "1"), "has no dataset x; it has columns: pass column=", dataset="x")


def test_a_damaged_archive(tmp_path):
    whole = gzip.compress(b"1\n2\n" * 1000)
    for data in (whole[:-9], b"1\n2\n", whole[:10] + b"xxxx" + whole[14:]):
        (tmp_path / "a.txt.gz").write_bytes(data)
        refused(tmp_path / "a.txt.gz", "cannot be read")


def test_sources(tmp_path, written, hdf5, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written("a:b.csv", TABLE)
    written("a.csv", "x:y,z\n5,6\n")
    for text, path, part in (
        ("a:b.csv", "a:b.csv", None),
        ("a:b.csv:volt", "a:b.csv", "volt"),
        ("a.csv:x:y", "a.csv", "x:y"),
        ("data.h5:/day:1/pulse", "data.h5", "/day:1/pulse"),
        ("no.csv:x:y", "no.csv", "x:y"),
        ("no.csv", "no.csv", None),
        ("a.csv:", "a.csv", None),
        (":", ":", None),
    ):
        source = Source.parse(text)
        assert (source.path, source.part) == (Path(path), part)
    assert same(Source.parse("a:b.csv:volt").read(), np.array([1.0, 2.0]))
    assert same(Source.parse("a:b.csv:0").read(), np.array([0.0, 1.0]))
    assert same(Source.parse("a.csv:x:y").read(), np.array([5.0]))
    assert same(Source.parse("data.h5:/day:1/pulse").read())
    assert str(Source.parse("a.csv:x:y")) == "a.csv:x:y"
