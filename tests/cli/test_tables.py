"""Tables of text."""

from datetime import datetime

import pytest

from labkit.cli.tables import cell, table


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (True, "True"),
        (12345678901, "12345678901"),
        (0.1 + 0.2, "0.3"),
        (1e-20, "1e-20"),
        (float("nan"), "nan"),
        ("a\x1b[31mb\n", "a\\x1b[31mb\\n"),
        ("é\ud800", "é\\ud800"),
        ([1, None, "é"], '[1, null, "é"]'),
        ({"a": 1 + 2j}, '{"a": "(1+2j)"}'),
        (datetime(2026, 1, 2, 3, 4, 5, 6), "2026-01-02 03:04:05"),
        (b"\x00", "b'\\x00'"),
        ("x" * 50, "x" * 39 + "…"),
    ],
)
def test_cells(value, text):
    assert cell(value) == text


def test_numbers_stand_below_each_other():
    rows = [[1, 0.5, "a"], [20, 10.0, "bc"], [None, 2, None]]
    assert table(["n", "size", "word"], rows).splitlines() == [
        " n  size  word",
        "--  ----  ----",
        " 1   0.5  a",
        "20  10.0  bc",
        " -     2  -",
    ]


def test_decimals_of_a_column():
    def column(*values):
        return [line.strip() for line in table(["x"], [[v] for v in values]).splitlines()[2:]]

    assert column(0.25, 12.0, None) == ["0.25", "12.00", "-"]
    assert column(118.6, 106.0) == ["118.6", "106.0"]
    assert column(0.12345678, 5.0) == ["0.12346", "5.00000"]
    assert column(1e-9, 1.5) == ["1e-09", "1.5"]
    assert column(1e9, 1.5) == ["1e+09", "1.5"]
    assert column(0.0, 0.0) == ["0", "0"]
    assert column(float("nan"), 1.5, float("inf")) == ["nan", "1.5", "inf"]
    assert column(-2.5, 0.0) == ["-2.5", "0.0"]


def test_a_table_without_rows_has_its_head():
    assert table(["a", "bcd"], []) == "a  bcd\n-  ---"
