"""Outcomes as columns."""

import pickle
from collections import Counter, defaultdict
from datetime import UTC, datetime, tzinfo
from functools import partial

import pytest

import labkit
from labkit.batch import ABSENT, Batch, Moments, joined, outcomes_of, tabulate
from labkit.outcome import KEY


def outcome(x, results, **metadata):
    return {"parameters": {"x": x}, "results": results, "metadata": metadata}


MIXED = [
    outcome(0, {"y": 1}, status=True),
    outcome(1, {}, status=False, traceback="Traceback"),
    outcome(2, {"y": 3, "z": None}, status=True),
    outcome(3, {"y": 4}, status=True),
]


def test_columns_give_outcomes_of_different_shapes_back():
    assert list(outcomes_of(tabulate(MIXED), {}, 4)) == MIXED


@pytest.mark.parametrize("kind", [dict, Counter, partial(defaultdict, int)])
def test_a_name_that_an_outcome_lacks_is_absent_though_it_has_as_many(kind):
    one, other = kind({"a": 2, "b": 1}), kind({"b": 1, "c": 2})
    columns = tabulate([outcome(0, one), outcome(1, other)])
    assert columns["results", "a"] == [2, ABSENT]
    assert columns["results", "c"] == [ABSENT, 2]
    assert other == {"b": 1, "c": 2}


def test_none_is_not_absent():
    columns = tabulate(MIXED)
    assert columns["results", "z"] == [ABSENT, ABSENT, None, ABSENT]


def test_outcomes_that_have_nothing_are_not_lost():
    nothing = {"parameters": {}, "results": {}, "metadata": {}}
    batch = Batch.of("s", [(0, [nothing]), (1, [MIXED[0]]), (2, [nothing])], {})
    assert [single for _, (single,) in batch.outcomes()] == [nothing, MIXED[0], nothing]
    empty = Batch.of("s", [(0, [nothing]), (1, [nothing])], {"host": "a"})
    assert [job for job, _ in empty.outcomes()] == ["s-0", "s-1"]


def test_a_batch_travels():
    batch = Batch.of("s", [(i, [o]) for i, o in enumerate(MIXED)], {"host": "a"})
    batch.logs[1] = "printed"
    arrived = pickle.loads(pickle.dumps(batch))
    assert arrived == batch
    assert list(outcomes_of(arrived.columns, {}, 4)) == MIXED


def test_what_is_known_of_all_comes_before_what_a_run_says():
    batch = Batch.of("s", [(0, [outcome(0, {}, host="mine")])], {"host": "theirs"})
    ((_, (found,)),) = batch.outcomes()
    assert found["metadata"] == {"host": "theirs"}


def test_batches_of_the_same_facts_are_joined_and_left_as_they_were():
    single = Batch.of("s", [(7, [MIXED[0]])], {"host": "a"})
    several = Batch.of("s", [(3, [MIXED[1], MIXED[2]])], {"host": "a"})
    other = Batch.of("s", [(4, [MIXED[3]])], {"host": "b"})
    before = pickle.dumps(single)
    together, alone = joined([single, several, other])
    assert together.names() == ["s-7", "s-3", "s-3.1"]
    assert list(outcomes_of(together.columns, {}, 3)) == MIXED[:3]
    assert alone.names() == ["s-4"]
    assert pickle.dumps(single) == before


def test_a_run_that_came_twice_is_not_taken_for_another_outcome_of_it():
    batch = Batch.of("s", [(0, [MIXED[0]])], {})
    (together,) = joined([batch, batch])
    assert together.names() == ["s-0", "s-0"]


def test_halves_have_all_runs_and_part_none():
    runs = [(n, MIXED[:2]) for n in range(5)]
    first, second = Batch.of("s", runs, {}).halves()
    assert (len(first), len(second)) == (2, 3)
    assert first.names() + second.names() == Batch.of("s", runs, {}).names()


@pytest.mark.parametrize("status", [False, None, ABSENT])
def test_a_run_has_failed_when_one_of_its_outcomes_has(status):
    good = outcome(0, {}, **{labkit.Experiment.STATUS: True})
    bad = outcome(0, {}, **{labkit.Experiment.STATUS: status})
    assert Batch.of("s", [(0, [good, bad]), (1, [good])], {}).failures() == 1


def test_what_runs_printed_is_known_by_their_keys():
    batch = Batch.of("s", [(n, [outcome(n, {}, **{KEY: f"k{n}"})]) for n in (2, 3)], {})
    batch.logs[3] = "text"
    assert batch.printed() == {"s-3": ("k3", "text")}


class Unhashable(tzinfo):
    """As those of dateutil are."""

    __hash__ = None


NOON = datetime(2026, 1, 2, 12)
LATER = NOON.replace(microsecond=5)


def test_moments_travel_as_text_and_come_out_as_they_were():
    times = [outcome(i, {"y": 1}, end=end) for i, end in enumerate([NOON, LATER])]
    batch = Batch.of("s", [*enumerate([o] for o in times)], {})
    batch.pack()
    arrived = pickle.loads(pickle.dumps(batch))
    column = arrived.columns["metadata", "end"]
    assert (type(column), column.texts) == (Moments, [NOON.isoformat(), LATER.isoformat()])
    assert (column[1], list(column[:1]), len(column)) == (LATER, [NOON], 2)
    assert [single for _, (single,) in arrived.outcomes()] == times
    assert [single for _, (single,) in arrived.only([1]).outcomes()] == times[1:]


@pytest.mark.parametrize(
    "value",
    [
        *(None, ABSENT, "12:00", NOON.replace(fold=1)),
        NOON.replace(tzinfo=UTC),
        NOON.replace(tzinfo=Unhashable()),
    ],
)
def test_what_a_text_alone_does_not_say_is_no_moment(value):
    assert Moments.of([NOON, value]) is None


def test_batches_with_moments_are_joined_with_others():
    batches = [
        Batch.of("s", [(i, [outcome(i, {}, **metadata)])], {})
        for i, metadata in enumerate([{"end": NOON}, {"end": LATER}, {}, {"end": None}])
    ]
    for batch in batches:
        batch.pack()
    (together,) = joined(batches[:2])
    assert together.columns["metadata", "end"].texts == [NOON.isoformat(), LATER.isoformat()]
    assert batches[0].columns["metadata", "end"].texts == [NOON.isoformat()], "as it was"
    (together,) = joined(batches)
    assert together.columns["metadata", "end"] == [NOON, LATER, ABSENT, None]
    (together,) = joined(batches[::-1])
    assert together.columns["metadata", "end"] == [None, ABSENT, LATER, NOON]
