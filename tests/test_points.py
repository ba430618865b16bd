"""Many points, as they are planned and as they travel."""

import pickle

import numpy as np
import pytest

from labkit.errors import UnhashableParameterError
from labkit.point import keys
from labkit.points import _BLOCK, Points, unzipped
from labkit.table import Table

key_of = keys("walks.Walk", 1)


def points_of(parameters):
    points = Points(key_of.all)
    points.add(parameters)
    return points


def pairs_of(parameters):
    return [(key_of(point), point) for point in parameters]


MANY = [{"x": x, "name": str(x)} for x in range(_BLOCK + 10)]


def test_they_are_a_sequence_of_keys_and_parameters():
    points, pairs = points_of(MANY), pairs_of(MANY)
    assert list(points) == pairs
    assert (points[0], points[-1], len(points)) == (pairs[0], pairs[-1], len(pairs))
    for place in (slice(3, 7), slice(_BLOCK - 1, None), slice(5, 5), slice(9, 2, -3), slice(-2)):
        assert list(points_of(MANY)[place]) == pairs[place]
    for place in (slice(-9, -5, 2), slice(5, None, -2), slice(-5, -20, -4), slice(3, 9, -1)):
        assert list(points_of(MANY)[place]) == pairs[place]
    assert points_of(MANY)[-7] == pairs[-7]
    assert list(points[-2 * len(points) :: -1]) == pairs[-2 * len(pairs) :: -1] == []
    with pytest.raises(IndexError):
        points[len(points)]


def test_keys_are_made_once_and_not_before_they_are_asked_for():
    made = []

    def make(some):
        made.append(len(some))
        return key_of.all(some)

    points = Points(make)
    points.add(MANY)
    assert made == []
    assert len(points[:10]) == 10
    assert len(points[5:20]) == 15
    assert list(points[:20]) == pairs_of(MANY[:20])
    assert made == [10, 10]


def test_a_point_that_has_no_key_is_told_before_any_is_asked_for():
    with pytest.raises(UnhashableParameterError, match="parameter x of walks"):
        points_of([{"x": 1}, {"x": object()}])


@pytest.mark.parametrize("x", [None, True, "é", 2**70, float("nan"), np.float32(1), np.bool_(True)])
def test_numbers_and_text_are_plain(x):
    assert points_of([{"x": 1}, {"x": x}]).are_plain


@pytest.mark.parametrize(
    "other",
    [{"y": 1}, {"x": 1, "y": 1}, {"x": [1]}, {"x": np.ones(2)}, {"x": np.longdouble(1)}],
)
def test_plain_points_are_numbers_and_text_of_the_same_names(other):
    assert points_of(MANY).are_plain
    points = points_of([{"x": 0}])
    points.add([other])
    assert not points.are_plain
    chosen = Points(key_of.all)
    chosen.choose([{"x": 0}, other], lambda keys: [True] * len(keys))
    assert not chosen.are_plain
    assert str(list(chosen)) == str(pairs_of([{"x": 0}, other]))


def test_of_those_that_are_chosen_from_only_the_wanted_are_there():
    points = Points(key_of.all)
    points.choose(MANY, lambda keys: [key == key_of(MANY[3]) for key in keys])
    points.choose([{"x": object}][:0], lambda keys: [])
    assert list(points) == pairs_of(MANY[3:4])
    assert points.are_plain


@pytest.mark.parametrize(
    "parameters", [[], MANY, [{"x": 1}, {"y": [2]}], [{}, {}], [{"a": 1, "b": 2}, {"b": 4, "a": 3}]]
)
def test_they_travel(parameters):
    assert pickle.loads(pickle.dumps(points_of(parameters))) == pairs_of(parameters)
    some = points_of(parameters)[1:]
    assert pickle.loads(pickle.dumps(some)) == pairs_of(parameters)[1:]


def test_they_keep_the_order_of_their_parameters():
    points = points_of([{"a": 1, "b": 2}, {"b": 4, "a": 3}])
    assert [list(point) for _, point in pickle.loads(pickle.dumps(points))] == [
        ["a", "b"],
        ["b", "a"],
    ]


def test_some_are_put_behind_others():
    points, more = points_of(MANY)[:3], points_of(MANY)[7:9]
    points += more
    assert list(points) == pairs_of(MANY[:3] + MANY[7:9])
    assert (len(more), points.are_plain) == (2, True)
    points += points_of([{"x": [1]}])
    assert not points.are_plain


def table_of(parameters):
    return Table({name: [point[name] for point in parameters] for name in parameters[0]})


def test_columns_are_taken_as_they_are():
    points = points_of(table_of(MANY[:5]))
    points.add(table_of(MANY[5:7]))
    keys = [key_of(point) for point in MANY]
    points.choose(table_of(MANY[7:]), lambda some: [key in keys[-3:] for key in some])
    given = MANY[:7] + MANY[-3:]
    assert list(points) == pairs_of(given)
    assert points.are_plain
    assert unzipped(points) == ([*map(key_of, given)], points.unzipped()[1])
    assert isinstance(points.unzipped()[1], Table)
    assert list(points[6:9]) == pairs_of(given[6:9])
    assert pickle.loads(pickle.dumps(points)) == pairs_of(given)
    points += points_of(table_of(MANY[:2]))
    assert list(points) == pairs_of(given + MANY[:2])


def test_columns_of_whoever_adds_them_stay_as_they_are():
    first = table_of(MANY[:2])
    points = points_of(first)
    points.add(table_of(MANY[2:9]))
    points[:1].add(table_of(MANY[2:3]))
    assert (len(first), len(points)) == (2, 9)


@pytest.mark.parametrize("others", [[{"x": 1}, {"x": 2}], [{"name": "b", "x": 2}]])
@pytest.mark.parametrize("are_columns", [True, False])
def test_points_with_other_parameters_follow_columns(others, are_columns):
    points = points_of(table_of(MANY[:3]))
    points.add(table_of(others) if are_columns else others)
    points.add(table_of(MANY[3:5]))
    given = MANY[:3] + others + MANY[3:5]
    assert list(points) == pairs_of(given)
    assert [list(point) for _, point in points] == [list(point) for point in given]
    assert pickle.loads(pickle.dumps(points)) == pairs_of(given)


def test_no_points_have_no_keys():
    points = points_of(Table({"x": []}))
    points.add(table_of(MANY[:1]))
    assert list(points) == pairs_of(MANY[:1])
    assert key_of.all(Table({"x": []})) == []


def test_many_are_light():
    as_dicts = len(pickle.dumps(pairs_of(MANY), protocol=5))
    assert len(pickle.dumps(points_of(MANY), protocol=5)) < 0.9 * as_dicts
