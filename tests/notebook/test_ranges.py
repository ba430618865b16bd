"""Ranges of numbers do what sets of numbers do."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from labkit.notebook.ranges import by_sweep, gaps, parts, spans, within
from labkit.point import job_name, split_job

NUMBERS = st.lists(st.integers(0, 60)).map(sorted)


def numbers_in(ranges: list[tuple[int, ...]]) -> list[int]:
    return [n for first, stop, *_ in ranges for n in range(first, min(stop, 100))]


@given(NUMBERS)
def test_spans_are_the_numbers_and_no_fewer_than_needed(numbers: list[int]) -> None:
    found = spans(numbers)
    assert numbers_in(found) == sorted(set(numbers))
    assert all(one[1] < other[0] for one, other in itertools.pairwise(found))


@given(NUMBERS, NUMBERS)
def test_parts_and_gaps_cut_ranges(held: list[int], wanted: list[int]) -> None:
    ranges = [(first, stop, 7) for first, stop in spans(held)]
    inside = list(parts(ranges, spans(wanted)))
    outside = list(parts(ranges, list(gaps(spans(wanted)))))
    assert numbers_in(inside) == sorted({*held} & {*wanted})
    assert numbers_in(outside) == sorted({*held} - {*wanted})
    assert {one[2] for one in inside + outside} <= {7}


@given(NUMBERS, st.integers(0, 60), st.integers(1, 9))
def test_parts_within_one_range_are_found(held: list[int], first: int, size: int) -> None:
    ranges = [(one, stop, 7) for one, stop in spans(held)]
    span = (first, first + size)
    assert within(ranges, span) == list(parts(ranges, [span]))


@given(st.lists(st.tuples(st.sampled_from(["s", "s-1", "", "1"]), st.integers(0, 20))))
def test_jobs_are_parted_by_their_sweeps(places: list[tuple[str, int]]) -> None:
    found = by_sweep([job_name(*place) for place in places])
    assert {sweep: list(numbers) for sweep, numbers in found.items()} == {
        sweep: sorted(n for s, n in places if s == sweep) for sweep, _ in places
    }


def test_what_looks_nearly_like_the_job_of_a_point_is_none() -> None:
    assert split_job("a-b-0") == ("a-b", 0)
    for job in (
        "",
        "-",
        "a-",
        "a",
        "7",
        "a-01",
        "a-+1",
        "a- 1",
        "a-1 ",
        "a-²",
        "a-٣",
        "a-" + "9" * 40,
    ):
        assert split_job(job) is None
    assert by_sweep(["a", "a-x", "a-01"]) == {}
