"""pandas values come back equal, or are refused."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import pandas as hpd

from labkit import SQLiteLabNotebook
from labkit.errors import UnstorableValueError

from .equality import same, same_in_table
from .outcomes import outcome_of

DAYS = pd.date_range("2024-10-26", periods=3, tz="Europe/Berlin")
MULTI = pd.MultiIndex.from_product([["a", "b"], [1, 2]], names=["letter", None])

DTYPES = {
    "int8": [1, -2],
    "uint64": [0, 2**64 - 1],
    "float32": [0.1, np.nan],
    "float64": [-0.0, np.inf],
    "bool": [True, False],
    "Int64": [1, pd.NA, 2**62 + 1],
    "UInt8": [1, pd.NA],
    "Float64": [1.5, pd.NA],
    "boolean": [True, pd.NA],
    "string": ["a", pd.NA, "ä\0"],
    "str": ["a", np.nan, ""],
    "category": ["b", "a", "b", None],
    "datetime64[s]": ["1000-01-01", "NaT"],
    "datetime64[ns]": ["2024-01-01T00:00:00.000000001", "NaT"],
    "datetime64[ms, Europe/Berlin]": ["2024-07-01", "NaT"],
    "datetime64[us, UTC]": ["2024-07-01", "NaT"],
    "timedelta64[us]": ["1 day", "NaT"],
    "period[M]": ["2024-01", "NaT"],
    "int64[pyarrow]": [1, None],
    "string[pyarrow]": ["a", None],
}

FRAMES: dict[str, Any] = {
    **{f"series_{dtype}": pd.Series(v, dtype=dtype, name="x") for dtype, v in DTYPES.items()},
    **{
        f"frame_{dtype}": pd.DataFrame({"a": pd.Series(v, dtype=dtype)})
        for dtype, v in DTYPES.items()
    },
    "series_empty": pd.Series([], dtype="float64"),
    "series_unnamed": pd.Series([1, 2]),
    "series_named_by_a_number": pd.Series([1, 2], name=0),
    "series_named_as_its_index": pd.Series([1], name="0", index=pd.Index(["a"], name="0")),
    "series_named_by_a_tuple": pd.Series([1], name=("a", 1)),
    "series_named_by_a_moment": pd.Series([1], name=pd.Timestamp("2024")),
    "series_named_by_nan": pd.Series([1], name=np.nan),
    "series_of_days": pd.Series([1.5, 2.5, 3.5], index=DAYS),
    "series_by_text": pd.Series({"a": 1, "b": 2}),
    "series_by_several": pd.Series(range(4), index=MULTI),
    "series_repeated_index": pd.Series([1, 2], index=[7, 7]),
    "series_named_index": pd.Series([1, 2], index=pd.Index([3, 4], name="n")),
    "series_ordered_category": pd.Series(pd.Categorical(["b"], ["c", "b"], ordered=True)),
    "series_interval": pd.Series(pd.interval_range(0, 2)),
    "series_bytes": pd.Series([b"a", b"\0"], dtype=object),
    "frame_empty": pd.DataFrame(),
    "frame_no_rows": pd.DataFrame({"a": pd.Series([], dtype="int64")}),
    "frame_no_columns": pd.DataFrame(index=[1, 2]),
    "frame_mixed": pd.DataFrame({"a": [1, 2], "b": ["x", None], "c": [True, False]}),
    "frame_int_columns": pd.DataFrame([[1, 2.5]]),
    "frame_unicode_columns": pd.DataFrame({"": [1], "ä b": [2], "__index_level_0__": [3]}),
    "frame_column_multiindex": pd.DataFrame([[1, 2, 3, 4]], columns=MULTI),
    "frame_multiindex": pd.DataFrame({"x": range(4)}, index=MULTI),
    "frame_days": pd.DataFrame({"x": [1, 2, 3]}, index=DAYS),
    "frame_range": pd.DataFrame({"x": [1, 2]}, index=pd.RangeIndex(5, 9, 2, name="r")),
    "frame_column_names": pd.DataFrame([[1]], columns=pd.Index(["a"], name="letter")),
    "frame_category_index": pd.DataFrame({"x": [1]}, index=pd.CategoricalIndex(["a"], ["b", "a"])),
    "frame_attrs": pd.DataFrame({"x": [1]}),
}
FRAMES["frame_attrs"].attrs["unit"] = "mV"

MOMENTS = {
    "nat": pd.NaT,
    "na": pd.NA,
    "timestamp": pd.Timestamp("2024-01-01T00:00:00.123456789"),
    "timestamp_seconds": pd.Timestamp("1000-01-01").as_unit("s"),
    "timestamp_far": pd.Timestamp(np.datetime64(20_000 - 1970, "Y").astype("M8[s]")),
    "timestamp_utc": pd.Timestamp("2024-01-01", tz="UTC"),
    "timestamp_zone": pd.Timestamp("2024-07-01", tz="Europe/Berlin"),
    "timestamp_zoneinfo": pd.Timestamp("2024-07-01", tz=ZoneInfo("Asia/Tokyo")),
    "timestamp_fold": pd.Timestamp("2024-10-27 00:30", tz="UTC").tz_convert("Europe/Berlin"),
    "timestamp_offset": pd.Timestamp("2024-01-01", tz=timezone(timedelta(hours=-3, minutes=-30))),
    "timedelta": pd.Timedelta(1, "ns"),
    "timedelta_far": pd.Timedelta(np.timedelta64(10**12, "s")),
    "timedelta_negative": pd.Timedelta(-1, "ms"),
}

VALUES = FRAMES | MOMENTS


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, Any], Any]]:
    """Keep each value as a result of its own, and read them from the reopened notebook."""
    path = tmp_path_factory.mktemp("frames") / "frames.db"
    with SQLiteLabNotebook(path).open() as notebook:
        notebook.addResult(outcome_of(VALUES))
    with SQLiteLabNotebook(path).open() as notebook:
        yield notebook.results()[0]["results"], notebook.dataframe()


@pytest.mark.parametrize("name", VALUES)
def test_a_pandas_value_comes_back(kept: tuple[dict[str, Any], Any], name: str) -> None:
    results, table = kept
    value = VALUES[name]
    assert same(value, results[name])
    assert same_in_table(value, table[name].iloc[0])
    if isinstance(value, pd.Series | pd.DataFrame):
        assert results[name].attrs == value.attrs
    elif isinstance(value, pd.Timestamp | pd.Timedelta):
        assert results[name].unit == value.unit
        assert str(getattr(results[name], "tz", None)) == str(getattr(value, "tz", None))


def test_pandas_values_share_a_column_with_others(notebook: SQLiteLabNotebook) -> None:
    values = [1, *VALUES.values(), np.arange(2), "a", 0.5, None]
    notebook.addResult([outcome_of({"x": value}) for value in values])
    table = notebook.dataframe()["x"]
    for value, outcome, cell in zip(values, notebook.results(), table, strict=True):
        assert same(value, outcome["results"]["x"])
        assert same_in_table(value, cell)


REFUSED = {
    "complex": pd.Series([1j, 2]),
    "duplicate_columns": pd.DataFrame([[1, 2]], columns=["a", "a"]),
    "mixed_objects": pd.DataFrame({"a": [1, "x", None]}),
    "objects": pd.Series([threading.Lock()]),
    "lists": pd.Series([[1], [2, 3]]),
    "big_integers": pd.Series([2**100, 1]),
    "none_and_nan": pd.Series([None, np.nan, True], dtype=object),
    "none_and_nan_in_the_index": pd.Series([1, 2], index=pd.Index([None, np.nan], dtype=object)),
    "half_surrogate": pd.Series(["\ud800"], dtype=object),
    "mixed_column_names": pd.DataFrame([[1, 2]], columns=[1, "1"]),
    "sparse": pd.Series([0, 1], dtype="Sparse[int]"),
    "index": pd.Index([1, 2]),
    "period": pd.Period("2024", "Y"),
    "interval": pd.Interval(0, 1),
    "categorical": pd.Categorical(["a"]),
    "offset": pd.offsets.Day(),
    "object_attrs": pd.DataFrame({"a": [1]}),
}
REFUSED["object_attrs"].attrs["it"] = threading.Lock()


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("wrap", [lambda v: v, lambda v: {"a": [v]}])
def test_a_pandas_value_is_refused(notebook: SQLiteLabNotebook, name: str, wrap: Any) -> None:
    with pytest.raises(UnstorableValueError, match=r"^bad one: ") as e:
        notebook.addResult(outcome_of({"bad one": wrap(REFUSED[name])}))
    assert type(REFUSED[name]).__name__ in e.value.typename


@settings(max_examples=40)
@given(
    hpd.data_frames(
        columns=[
            hpd.column("i", dtype="int64"),
            hpd.column("f", dtype="float64"),
            hpd.column("b", dtype="bool"),
            hpd.column("t", elements=st.datetimes(), dtype="datetime64[us]"),
        ],
        index=hpd.range_indexes() | hpd.indexes(elements=st.text(st.characters(codec="utf-8"))),
    )
)
def test_any_frame_comes_back(shared: SQLiteLabNotebook, frame: pd.DataFrame) -> None:
    shared.addResultSet("frames")
    shared.addResult(outcome_of({"frame": frame}))
    assert same(frame, shared.results()[0]["results"]["frame"])


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SQLiteLabNotebook]:
    """A notebook for many examples."""
    with SQLiteLabNotebook(tmp_path_factory.mktemp("shared") / "shared.db").open() as notebook:
        yield notebook
