"""Many points, as they are planned and as they travel."""

import pickle

import numpy as np
import pytest

from labkit.errors import UnhashableParameterError
from labkit.point import keys
from labkit.points import _BLOCK, Points

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


def test_many_are_light():
    as_dicts = len(pickle.dumps(pairs_of(MANY), protocol=5))
    assert len(pickle.dumps(points_of(MANY), protocol=5)) < 0.9 * as_dicts
