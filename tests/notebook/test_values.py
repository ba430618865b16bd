"""Every value comes back equal from a notebook on disk, or is refused by name."""

from __future__ import annotations

import enum
import itertools
import math
import threading
import types
from collections import Counter, OrderedDict, defaultdict, namedtuple
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from labkit import SQLiteLabNotebook
from labkit.errors import UnstorableValueError
from labkit.notebook import tagging
from labkit.notebook import values as values_module

from .equality import same, same_in_table
from .places import Place

BERLIN = ZoneInfo("Europe/Berlin")
DATETIME_UNITS = ["Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "ps", "fs", "as"]
Pair = namedtuple("Pair", "left right")


class Colour(str, enum.Enum):  # noqa: UP042, of which StrEnum would print the value
    """Text that is an enumeration, as older programs write it."""

    RED = "red"


class Level(enum.IntEnum):
    """A number that is an enumeration."""

    HIGH = 3


def deep(levels: int) -> list[Any]:
    nested: list[Any] = []
    for _ in range(levels):
        nested = [nested]
    return nested


PLAIN = {
    "none": None,
    "true": True,
    "false": False,
    "int": 42,
    "int_min": -(2**63),
    "int_max": 2**63 - 1,
    "int_65_bits": 2**64,
    "int_negative_100_bits": -(2**100) - 1,
    "int_5000_digits": 10**5000 + 1,
    "float": 0.1,
    "float_whole": 3.0,
    "float_large": 1e300,
    "float_tiny": 5e-324,
    "nan": math.nan,
    "inf": math.inf,
    "minus_inf": -math.inf,
    "minus_zero": -0.0,
    "complex": 1.5 - 2j,
    "complex_nan": complex(math.nan, -0.0),
    "complex_inf": complex(-0.0, -math.inf),
    "str": "ecg",
    "str_empty": "",
    "str_unicode": "Ω ≈ 😀 \u202e",
    "str_nul": "a\0b",
    "str_only_nul": "\0",
    "str_lone_surrogate": "\ud800",
    "str_pair_of_lone_surrogates": "\ud83d\ude00",
    "str_numeric": "1e5",
    "str_json": '{"!int": "0x1"}',
    "str_long": "long, ä, " * 300_000,
    "bytes": b"\x00\xff",
    "bytes_empty": b"",
    "bytearray": bytearray(b"\x01\x02"),
    "datetime": datetime(2024, 2, 29, 12, 30, 1, 5),
    "datetime_fold": datetime(2024, 10, 27, 2, 30, fold=1),
    "datetime_first": datetime.min,
    "datetime_last": datetime.max,
    "datetime_utc": datetime(2024, 1, 1, tzinfo=UTC),
    "datetime_offset": datetime(2024, 1, 1, tzinfo=timezone(timedelta(seconds=-12345))),
    "datetime_zone": datetime(2024, 7, 1, 12, tzinfo=BERLIN),
    "datetime_zone_fold": datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=BERLIN),
    "datetime_zone_before_fold": datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN),
    "datetime_zone_gap": datetime(2024, 3, 31, 2, 30, tzinfo=BERLIN),
    "date": date(2024, 2, 29),
    "time": time(23, 59, 59, 999_999),
    "time_offset": time(1, 2, tzinfo=UTC),
    "time_zone": time(1, 2, tzinfo=BERLIN),
    "timedelta": timedelta(days=-3, microseconds=1),
    "decimal": Decimal("1.10"),
    "decimal_nan": Decimal("NaN"),
    "decimal_signalling_nan": Decimal("sNaN123"),
    "decimal_minus_zero": Decimal("-0.00"),
    "enum_str": Colour.RED,
    "enum_int": Level.HIGH,
}

SCALARS = {
    **{
        f"np_{t}": np.dtype(t).type(1)
        for t in np.typecodes["AllInteger"] + np.typecodes["AllFloat"]
    },
    **{f"np_{t}_nan": np.dtype(t).type(math.nan) for t in np.typecodes["AllFloat"]},
    "np_bool": np.True_,
    "np_uint64_max": np.uint64(2**64 - 1),
    "np_float16": np.float16(0.1),
    "np_float32": np.float32(0.1),
    "np_longdouble": np.nextafter(np.longdouble(1), np.longdouble(2)),
    "np_clongdouble": np.clongdouble(1) / 3,
    "np_minus_zero": np.float64(-0.0),
    "np_str": np.str_("ä"),
    "np_str_nul": np.str_("a\0"),
    "np_bytes": np.bytes_(b"a"),
    "np_bytes_nul": np.bytes_(b"a\0"),
    "np_void": np.void(b"\x00\x01\x00"),
    "np_structured": np.array([(1, 2.5, "ä")], dtype=[("a", "<i4"), ("b", ">f8"), ("c", "<U3")])[0],
    "np_nat": np.datetime64("NaT"),
    "np_timedelta_nat": np.timedelta64("NaT"),
    "np_timedelta_generic": np.timedelta64(5),
    **{f"np_datetime_{u}": np.datetime64(7, u) for u in DATETIME_UNITS},
    **{f"np_datetime_{u}_nat": np.datetime64("NaT", u) for u in DATETIME_UNITS},
    **{f"np_timedelta_{u}": np.timedelta64(-7, u) for u in DATETIME_UNITS},
    "np_datetime_25s": np.datetime64(3, "25s"),
}

NESTED = {
    "list": [1, "a", None, 2.5],
    "list_empty": [],
    "list_ragged": [[1], [2, [3, []]], ()],
    "tuple": (1, (2, "x"), []),
    "set": {1, "a", (2, 3)},
    "frozenset": frozenset({frozenset(), 1.5}),
    "dict": {"a": {"b": [1, {"c": None}]}},
    "dict_empty": {},
    "dict_order": {"z": 1, "a": 2},
    "dict_like_a_tag": {"!tuple": [1]},
    "dict_tag_among_others": {"!a": 1, "b": 2},
    "dict_keys": {2: "a", 1.5: "b", None: "c", (1, 2): "d", b"e": "e", True: "f"},
    "dict_datetime_key": {datetime(2024, 1, 1): 1, date(2024, 1, 1): 2},
    "dict_surrogate_key": {"\ud83d\ude00": 1, "\ud800": 2, "": 3, "\0": 4},
    "dict_nan_key": {math.nan: 1},
    "dict_numpy_key": {np.int64(1): "a", np.datetime64("2024"): "b"},
    "special": [math.nan, math.inf, -0.0, 1j, 2**70, "\ud83d\ude00", b"\0", Decimal("1.0"), True],
    "dates": [datetime(2024, 7, 1, tzinfo=BERLIN), date(2024, 1, 1), time(1), timedelta(1)],
    "arrays": {"a": np.arange(3.0), "b": [np.zeros((2, 0), dtype="<U3"), (np.int8(1),)]},
    "array_and_structured": [np.array([(1, "b")], dtype=[("a", "i4"), ("b", "U1")])[0]],
    "namedtuple": Pair(1, [2]),
    "ordereddict": OrderedDict(b=1, a=2),
    "defaultdict": defaultdict(int, a=1),
    "counter": Counter("aab"),
    "deep": deep(50),
    "frame": [pd.DataFrame({"a": [1]}), pd.Timestamp("2024-01-01"), pd.NaT, pd.NA],
}

VALUES: dict[str, Any] = PLAIN | SCALARS | NESTED


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Any]:
    """Keep each value in a column of its own; give results dict and table of the reopened file."""
    path = tmp_path_factory.mktemp("values") / "values.db"
    write(path, [VALUES])
    (outcome,), table = read(path)
    return outcome["results"], table


def outcome_of(results: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {
        "parameters": {"point": 0},
        "metadata": {"epyc.experiment.status": True, **metadata},
        "results": results,
    }


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    notebook = SQLiteLabNotebook(path, create=True)
    with notebook.open():
        notebook.addResult([outcome_of(results) for results in rows])


def read(path: Path) -> tuple[list[dict[str, Any]], pd.DataFrame]:
    notebook = SQLiteLabNotebook(path)
    with notebook.open():
        return notebook.results(), notebook.dataframe()


@pytest.mark.parametrize("name", VALUES)
def test_a_value_comes_back_in_a_results_dict(kept: tuple[dict[str, Any], Any], name: str) -> None:
    results, _ = kept
    assert same(VALUES[name], results[name])


@pytest.mark.parametrize("name", VALUES)
def test_a_value_comes_back_in_a_table(kept: tuple[dict[str, Any], Any], name: str) -> None:
    _, table = kept
    assert same_in_table(VALUES[name], table[name].iloc[0])


@pytest.mark.parametrize("turn", [1, -1], ids=["in_order", "reversed"])
def test_values_of_all_kinds_share_a_column(tmp_path: Path, turn: int) -> None:
    values = list(VALUES.values())[::turn]
    write(tmp_path / "mixed.db", [{"x": value} for value in values])
    outcomes, table = read(tmp_path / "mixed.db")
    for value, outcome, cell in zip(values, outcomes, table["x"], strict=True):
        assert same(value, outcome["results"]["x"])
        assert same_in_table(value, cell)


KINDS = [
    True,
    2**60 + 1,
    0.5,
    -0.0,
    math.nan,
    "a",
    b"a",
    datetime(2024, 1, 1),
    [1],
    np.arange(2),
    None,
]


@pytest.mark.parametrize(
    ("first", "second"), list(itertools.permutations(KINDS, 2)), ids=lambda v: type(v).__name__
)
def test_a_value_follows_one_of_another_kind(
    shared_notebook: Callable[[list[Any]], Any], first: Any, second: Any
) -> None:
    values = [first, second, first]
    outcomes, table = shared_notebook([[value] for value in values])
    assert all(map(same, values, outcomes))
    assert all(map(same_in_table, values, table))


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def shared_notebook(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Any]]:
    """Keep transactions of values as results x of a fresh result set, and read them anew."""
    folder = tmp_path_factory.mktemp("shared")
    place = Place(str(folder / "shared.db"), folder, "shared")
    if request.param == "postgresql":
        place = Place.in_postgresql(request.getfixturevalue("server"), folder)
    notebook, reader = place.notebook(), place.notebook()

    def keep(transactions: list[list[Any]]) -> tuple[list[Any], list[Any]]:
        notebook.addResultSet("fresh")
        for values in transactions:
            notebook.addResult([outcome_of({"x": value}) for value in values])
        outcomes = [outcome["results"]["x"] for outcome in reader.results("fresh")]
        return outcomes, list(reader.dataframe("fresh")["x"])

    with notebook.open(), reader.open():
        yield keep


texts = st.text(st.characters(exclude_categories=()))
numbers = st.integers() | st.floats() | st.complex_numbers() | st.booleans()
moments = st.datetimes(timezones=st.none() | st.just(UTC) | st.timezones()) | st.dates()
durations = st.times() | st.timedeltas()
hashables = (
    texts | numbers | st.binary() | st.none() | moments | durations | st.decimals(allow_nan=False)
)
dtypes = (
    hnp.boolean_dtypes()
    | hnp.integer_dtypes(endianness="?")
    | hnp.floating_dtypes(endianness="?")
    | hnp.complex_number_dtypes(endianness="?")
    | hnp.datetime64_dtypes(endianness="?")
    | hnp.timedelta64_dtypes(endianness="?")
    | hnp.byte_string_dtypes(min_len=1, max_len=9)
    | hnp.unicode_string_dtypes(endianness="?", min_len=1, max_len=9)
)
arrays = hnp.arrays(
    dtypes | hnp.array_dtypes(dtypes, allow_subarrays=True),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
)
scalars = dtypes.flatmap(hnp.from_dtype)
values = st.recursive(
    hashables | arrays | scalars,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(hashables | st.tuples(hashables), inner)
        | st.frozensets(hashables)
        | st.sets(hashables)
    ),
    max_leaves=8,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.lists(values, min_size=1, max_size=4), min_size=1, max_size=3))
def test_any_values_in_any_order_come_back(
    shared_notebook: Callable[[list[list[Any]]], Any], transactions: list[list[Any]]
) -> None:
    outcomes, table = shared_notebook(transactions)
    given_values = [value for transaction in transactions for value in transaction]
    assert all(map(same, given_values, outcomes))
    assert all(map(same_in_table, given_values, table))


# ---------- what is refused ----------


class Nowhere(tzinfo):
    """A time zone that does not know its offset."""

    def utcoffset(self, moment: datetime | None) -> None:
        return None

    def dst(self, moment: datetime | None) -> None:
        return None

    def tzname(self, moment: datetime | None) -> None:
        return None


class Quantity(float):
    """A number that is equal only to those of its own unit."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Quantity) and float(self) == float(other)

    __hash__ = float.__hash__


def in_itself() -> list[Any]:
    loop: list[Any] = []
    loop.append({"again": loop})
    return loop


REFUSED = {
    "function": len,
    "lambda": lambda: None,
    "class": int,
    "module": math,
    "lock": threading.Lock(),
    "object": object(),
    "generator": (x for x in "ab"),
    "iterator": iter([1]),
    "range": range(3),
    "memoryview": memoryview(b"a"),
    "ellipsis": ...,
    "exception": ValueError("no"),
    "path": Path("a"),
    "fraction": Fraction(1, 3),
    "proxy": types.MappingProxyType({}),
    "number_of_a_unit": Quantity(1),
    "datetime_nowhere": datetime(2024, 1, 1, tzinfo=Nowhere()),
    "time_nowhere": time(1, tzinfo=Nowhere()),
    "object_array": np.array([1, "a"], dtype=object),
    "array_with_objects": np.zeros(2, dtype=[("a", "O")]),
    "scalar_with_objects": np.zeros(1, dtype=[("a", "O")])[0],
    "masked_array": np.ma.masked_array([1, 2], [True, False]),
    "masked": np.ma.masked,
    "record_array": np.zeros(1, dtype=[("a", "i4")]).view(np.recarray),
    "too_deep": deep(tagging.MAX_DEPTH + 1),
    "far_too_deep": deep(100_000),
    "in_itself": in_itself(),
}


@pytest.mark.parametrize("wrap", [lambda v: v, lambda v: [1, (v,)], lambda v: {"a": {b"b": v}}])
@pytest.mark.parametrize("name", REFUSED)
def test_a_value_is_refused_by_name_and_type(
    tmp_path: Path, name: str, wrap: Callable[[Any], Any]
) -> None:
    good = outcome_of({"array": np.arange(3), "fine": 1})
    bad = outcome_of({"array": np.arange(3), "the result": wrap(REFUSED[name])})
    notebook = SQLiteLabNotebook(tmp_path / "refused.db")
    with notebook.open():
        with pytest.raises(UnstorableValueError, match=r"the result: an? .* cannot be stored") as e:
            notebook.addResult([good, bad])
        assert e.value.name == "the result"
        # nothing was written by half
        assert notebook.numberOfResults() == 0
        assert notebook.current().resultNames() == []
        assert not list(tmp_path.glob("*.h5*"))
        notebook.addResult(good)
        assert same(np.arange(3), notebook.results()[0]["results"]["array"])


def test_text_and_bytes_have_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values_module, "MAX_BYTES", 1000)
    with SQLiteLabNotebook(tmp_path / "limit.db").open() as notebook:
        for value in (b"a" * 1001, "a" * 1001, "\0" * 1001, ["a" * 1001]):
            with pytest.raises(UnstorableValueError, match="longer than 1,000 bytes"):
                notebook.addResult(outcome_of({"x": value}))
        notebook.addResult(outcome_of({"x": b"a" * 1000, "y": np.zeros(1001)}))


@pytest.mark.parametrize("part", ["parameters", "metadata"])
def test_parameters_and_metadata_are_values_too(tmp_path: Path, part: str) -> None:
    outcome = outcome_of({"x": 1})
    outcome[part]["it"] = [np.arange(3), Decimal("NaN")]
    with SQLiteLabNotebook(tmp_path / "parts.db").open() as notebook:
        notebook.addResult(outcome)
        assert same(outcome[part]["it"], notebook.results()[0][part]["it"])
        outcome[part]["it"] = len
        with pytest.raises(UnstorableValueError, match="it: a builtin_function_or_method"):
            notebook.addResult(outcome)


def test_a_pending_point_is_refused_by_the_name_of_its_parameter(tmp_path: Path) -> None:
    with SQLiteLabNotebook(tmp_path / "pending.db").open() as notebook:
        with pytest.raises(UnstorableValueError, match="window: an object"):
            notebook.addPendingResult({"good": 1, "window": object()}, "job")
        notebook.addPendingResult({"!int": 1, "array": np.arange(2)}, "job")
        assert same({"!int": 1, "array": np.arange(2)}, notebook.pendingResultParameters("job"))


def test_an_exception_in_the_metadata_is_kept_as_its_message(tmp_path: Path) -> None:
    failed = outcome_of({}, **{"epyc.experiment.exception": ValueError("no \ud800")})
    silent = outcome_of({}, **{"epyc.experiment.exception": KeyboardInterrupt()})
    with SQLiteLabNotebook(tmp_path / "failed.db").open() as notebook:
        notebook.addResult([failed, silent])
        messages = [rc["metadata"]["epyc.experiment.exception"] for rc in notebook.results()]
    assert messages == ["no \ud800", "KeyboardInterrupt()"]
