"""What ``--set`` takes."""

import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.cli.ranges import MAX_VALUES, parse, settings
from labkit.errors import ParameterError


def same(found: list[object], expected: list[object]) -> bool:
    return list(map(repr, found)) == list(map(repr, expected))


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("50,100", [50, 100]),
        ("7", [7]),
        ("-3,+4", [-3, 4]),
        ("1.0,1", [1.0, 1]),
        (".5,2.,1e-3,-1E6", [0.5, 2.0, 0.001, -1e6]),
        ("true,False,none", [True, False, None]),
        ("nan,inf,-inf", [math.nan, math.inf, -math.inf]),
        ("-0.0", [-0.0]),
        ("fast", ["fast"]),
        ("fast, slow ", ["fast", "slow"]),
        ("a b", ["a b"]),
        ('"1","true","a,b",""', ["1", "true", "a,b", ""]),
        (r'"say \"no\"","back\\slash"', ['say "no"', "back\\slash"]),
        ("http://example.org", ["http://example.org"]),
        ("x:y", ["x:y"]),
        ("12345678901234567890123", [12345678901234567890123]),
        ("1:4", [1, 2, 3, 4]),
        ("0:10:5", [0, 5, 10]),
        ("0:9:5", [0, 5]),
        ("3:1:-1", [3, 2, 1]),
        ("5:5", [5]),
        ("0:0.3:0.1", [0.0, 0.1, 0.2, 0.3]),
        ("0:1:0.1", [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]),
        ("1:2:0.5", [1.0, 1.5, 2.0]),
        ("1.0:3", [1.0, 2.0, 3.0]),
        ("1e-3:3e-3:1e-3", [0.001, 0.002, 0.003]),
        ("1,5:7,20", [1, 5, 6, 7, 20]),
        ("é,中", ["é", "中"]),
    ],
)
def test_values(text, values):
    assert same(parse("x", text), values)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a value is missing"),
        ("1,,2", "a value is missing"),
        ("1,", "a value is missing"),
        ("1:0", "empty.*minus sign"),
        ("0:1:-0.1", "empty"),
        ("0:1:0", "cannot be 0"),
        ("0:1:2:3", "at most from:to:step"),
        ("0:1:x", "from:to:step"),
        ("12:30pm", "in quotes"),
        ('"a', "end with one"),
        ('"a"b', "end with one"),
        ("0:1:1e-9", f"{MAX_VALUES:,}"),
        ("0:1000000000000", "limit"),
        ("0:1:1e-999999999", "range is written"),
    ],
)
def test_what_cannot_be_read(text, message):
    with pytest.raises(ParameterError, match=message) as caught:
        parse("x", text)
    assert f"--set x={text}" in str(caught.value)


def test_settings():
    assert settings(["a=1", " b =x=y"]) == {"a": [1], "b": ["x=y"]}


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        (["a"], "NAME=VALUES"),
        (["=1"], "NAME=VALUES"),
        (["a=1", "a=2"], "set twice"),
    ],
)
def test_settings_that_cannot_be_read(given_, message):
    with pytest.raises(ParameterError, match=message):
        settings(given_)


decimals = st.decimals(-1000, 1000, places=3, allow_nan=False)
steps = st.decimals("0.001", 100, places=3, allow_nan=False)


@given(decimals, steps, st.integers(0, 200))
def test_a_range_has_the_floats_that_one_would_type(start, step, count):
    end = start + count * step
    expected = [float(start + i * step) for i in range(count + 1)]
    assert parse("x", f"{start}:{end}:{step}") == expected
    assert parse("x", f"{end}:{start}:-{step}") == expected[::-1]


@given(decimals, decimals, steps)
def test_a_range_ends_at_its_end_or_less_than_a_step_before(start, end, step):
    if end < start or (end - start) / step > 1000:
        return
    found = parse("x", f"{start}:{end}:{step}")
    assert all(type(v) is float for v in found)
    last = start + (len(found) - 1) * step
    assert found[-1] == float(last)
    assert end - step < last <= end


@given(st.integers(-(10**30), 10**30), st.integers(1, 10**20), st.integers(0, 100))
def test_whole_numbers_stay_whole(start, step, count):
    found = parse("x", f"{start}:{start + count * step}:{step}")
    assert found == [start + i * step for i in range(count + 1)]
    assert all(type(v) is int for v in found)


@given(st.floats())
def test_a_float_comes_back(value):
    (found,) = parse("x", repr(value))
    assert repr(found) == repr(value)


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_a_number_is_never_text(value: Decimal):
    (found,) = parse("x", str(value)) if abs(value.adjusted()) < 400 else (0,)
    assert not isinstance(found, str)


@given(st.text())
def test_quoted_text_comes_back(value):
    quoted = '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    assert parse("x", quoted) == [value]
    assert parse("x", f"{quoted},{quoted}") == [value, value]
