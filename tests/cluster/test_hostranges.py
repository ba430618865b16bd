"""Host names written short."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.cluster.hostranges import MOST, RangeMistake, expand


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("cl-0", ["cl-0"]),
        ("cl-[1-3]", ["cl-1", "cl-2", "cl-3"]),
        ("n[08-10,20]", ["n08", "n09", "n10", "n20"]),
        ("n[9-11].example.org", ["n9.example.org", "n10.example.org", "n11.example.org"]),
        ("r[1-2]n[1,3]", ["r1n1", "r1n3", "r2n1", "r2n3"]),
        ("db[a:c]", ["dba", "dbb", "dbc"]),
        ("w[01:05:2]", ["w01", "w03", "w05"]),
        ("x[7]", ["x7"]),
        ("x[0-1]", ["x0", "x1"]),
    ],
)
def test_patterns(pattern, names):
    assert expand(pattern) == names


@given(st.integers(0, 500), st.integers(0, 500), st.integers(1, 5))
def test_as_many_names_as_numbers(first, count, width):
    names = expand(f"n[{first:0{width}d}-{first + count}]")
    assert [int(name[1:]) for name in names] == list(range(first, first + count + 1))
    assert len(set(names)) == count + 1


@pytest.mark.parametrize(
    ("pattern", "what", "offset"),
    [
        ("cl-[1-4", "not closed", 3),
        ("cl-1]", "] comes unexpectedly", 4),
        ("cl-[[1]]", "[ comes unexpectedly", 4),
        ("cl-[]", "neither a number", 4),
        ("n[1,x-y-z]", "'x-y-z' is neither", 4),
        ("n[1]m[4-1]", "4-1 goes down", 6),
        ("n[1-a]", "from a number to a letter", 2),
        ("n[1:9:0]", "nowhere", 2),
        (f"n[1-{MOST + 1}]", "more than 10,000", 2),
        ("n[1-999999999999]", "more than 10,000", 2),
        ("n[1-200][1-200]", "more than 10,000", 9),
    ],
)
def test_what_is_no_pattern(pattern, what, offset):
    with pytest.raises(RangeMistake) as told:
        expand(pattern)
    assert what in told.value.what
    assert told.value.offset == offset
