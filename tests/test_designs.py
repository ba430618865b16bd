import itertools
import sys
from collections import Counter
from datetime import datetime

import epyc
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import labkit
from labkit.designs import (
    Design,
    ExperimentalConfiguration,
    FactorialDesign,
    LatinHypercubeDesign,
    PointsDesign,
    PointwiseDesign,
    RandomDesign,
    SobolDesign,
    columns_of,
)
from labkit.errors import DesignException, LabkitError, ParameterError
from labkit.experiment import Experiment
from labkit.parameter import Range

SAMPLING = [LatinHypercubeDesign, SobolDesign, RandomDesign]

names = st.text("abcdefgh", min_size=1, max_size=3)
lists = st.lists(st.integers(-5, 5), min_size=1, max_size=5)
spaces = st.dictionaries(names, lists, max_size=4)
seeds = st.integers(0, 2**32)


@st.composite
def intervals(draw, **given):
    integer = given.get("integer", draw(st.booleans()))
    log = given.get("log", draw(st.booleans()))
    ends = st.integers(-50, 50) if integer else st.floats(-1e6, 1e6)
    if log:
        ends = st.integers(1, 50) if integer else st.floats(1e-6, 1e6)
    lo, hi = sorted(draw(st.tuples(ends, ends).filter(lambda two: two[0] != two[1])))
    return Range(lo, hi, log=log, integer=integer)


continuous = st.dictionaries(names, intervals(), min_size=1, max_size=4)


def points_of(design, ranges):
    pairs = design.experiments(None, ranges)
    assert all(e is None for e, _ in pairs)
    return [p for _, p in pairs]


def counted(points):
    return Counter(frozenset(p.items()) for p in points)


def assert_one_in_each_stratum(r, sampled):
    n = len(sampled)
    for i, x in enumerate(sorted(sampled)):
        lower, upper = r.at(i / n), r.at((i + 1) / n)
        slack = 1e-9 * max(abs(lower), abs(upper)) if r.log and not r.integer else 0
        assert lower - slack <= x <= upper + slack


# ---------- what all designs share ----------


ALL = [FactorialDesign(), PointwiseDesign(), PointsDesign([{"a": 1}, {"a": 2}])]
ALL += [kind(4) for kind in SAMPLING]


@pytest.mark.parametrize("design", ALL, ids=repr)
def test_a_design_is_one_of_epyc_and_pairs_the_experiment_with_each_point(design):
    e = Experiment()
    pairs = design.experiments(e, {"a": [1, 2]})
    assert isinstance(design, epyc.Design)
    assert isinstance(design, Design)
    assert isinstance(pairs, list)
    assert all(type(pair) is tuple and pair[0] is e for pair in pairs)


@pytest.mark.parametrize("design", ALL, ids=repr)
def test_each_point_has_its_own_dict(design):
    points = points_of(design, {"a": [1, 2], "b": 3})
    before = counted(points)
    assert len({id(p) for p in points}) == len(points)
    for p in points:
        p["a"] = "changed"
    assert counted(points_of(design, {"a": [1, 2], "b": 3})) == before


@pytest.mark.parametrize("design", ALL, ids=repr)
def test_an_empty_range_is_an_error_that_names_its_parameter(design):
    with pytest.raises(ParameterError, match="parameter noise is empty"):
        design.experiments(None, {"a": [1, 2], "noise": []})


@pytest.mark.parametrize("design", [d for d in ALL if not isinstance(d, PointsDesign)], ids=repr)
def test_no_parameters_give_no_points(design):
    assert design.experiments(None, {}) == []


@pytest.mark.parametrize(
    "design",
    [FactorialDesign(seed=1), PointwiseDesign(), *(kind(4) for kind in SAMPLING)],
    ids=repr,
)
def test_columns_are_the_same_points(design):
    ranges = {"a": [1, 2], "b": 3, "c": ["x", "y"]}
    columns = columns_of(design, ranges)
    assert list(columns) == ["a", "b", "c"]
    rows = zip(*columns.values(), strict=True)
    assert [dict(zip(columns, row, strict=True)) for row in rows] == points_of(design, ranges)


class OnlyFirst(FactorialDesign):
    """Chooses among the points."""

    def experiments(self, e, ps):
        """Return one point."""
        return super().experiments(e, ps)[:1]


def first_of(design, monkeypatch):
    """Have a design, or all of its class, choose one point."""
    chosen = FactorialDesign.experiments
    monkeypatch.setattr(design, "experiments", lambda *a: chosen(FactorialDesign(), *a[-2:])[:1])


@pytest.mark.parametrize(
    "design", [PointsDesign([{"a": 1}]), epyc.FactorialDesign(), OnlyFirst(), Design()], ids=type
)
def test_other_designs_tell_no_columns(design):
    assert columns_of(design, {"a": [1, 2]}) is None


def test_a_lab_runs_the_points_that_are_chosen(monkeypatch):
    def points(design):
        lab = labkit.Lab(design=design)
        lab["a"] = [1, 2]
        return len(lab.missing(Experiment()))

    assert points(OnlyFirst()) == 1
    assert points(FactorialDesign()) == 2
    with monkeypatch.context() as patch:
        own = FactorialDesign()
        first_of(own, patch)
        assert points(own) == 1
        first_of(FactorialDesign, patch)
        assert points(FactorialDesign()) == 1
    lab = labkit.Lab()
    lab["a"] = [1, 2]
    lab.experiments = lambda e: [(e, {"a": 3})]
    assert lab.missing(Experiment()) == [{"a": 3}]


def test_a_design_must_say_its_points():
    with pytest.raises(NotImplementedError, match="Design defines no experiments"):
        Design().experiments(None, {})


def test_the_type_of_a_configuration_is_that_of_epyc():
    assert ExperimentalConfiguration is epyc.ExperimentalConfiguration


def test_designs_show_how_they_were_made():
    assert repr(LatinHypercubeDesign(8)) == "LatinHypercubeDesign(n=8, seed=0)"
    assert repr(FactorialDesign(seed=3)) == "FactorialDesign(seed=3)"
    assert repr(PointwiseDesign()) == "PointwiseDesign()"
    assert repr(PointsDesign([{"a": 1, "b": 2}])) == "PointsDesign(1 points of a, b)"


# ---------- factorial ----------


@given(spaces)
def test_factorial_is_the_cross_product(space):
    points = points_of(FactorialDesign(), space)
    combinations = itertools.product(*space.values()) if space else []
    assert counted(points) == counted(dict(zip(space, c, strict=True)) for c in combinations)
    assert all(list(p) == list(space) for p in points)


@given(spaces)
def test_factorial_is_that_of_epyc(space):
    theirs = epyc.FactorialDesign().experiments(None, space)
    assert counted(points_of(FactorialDesign(), space)) == counted(p for _, p in theirs)


def test_factorial_takes_any_iterable_and_single_values():
    space = {"a": range(3), "b": np.array([1.5, 2.5]), "c": "text", "d": None, "e": (1, 2)}
    points = points_of(FactorialDesign(), space)
    assert len(points) == 12
    assert {(p["c"], p["d"]) for p in points} == {("text", None)}
    assert len(points_of(FactorialDesign(), {"a": (i for i in range(3)), "b": {4, 5}})) == 6


def test_factorial_comes_in_random_order_which_the_seed_repeats():
    space = {"a": range(10), "b": range(10)}
    once, again = (points_of(FactorialDesign(seed=7), space) for _ in range(2))
    assert once == again
    assert once != sorted(once, key=lambda p: (p["a"], p["b"]))
    assert points_of(FactorialDesign(seed=8), space) != once
    assert points_of(FactorialDesign(), space) != points_of(FactorialDesign(), space)


@given(spaces, seeds)
def test_the_order_of_a_seed_is_kept(space, seed):
    # it is that of the generator's shuffle, in which earlier versions of labkit ran points
    combinations = list(itertools.product(*space.values())) if space else []
    np.random.default_rng(seed).shuffle(combinations)
    points = points_of(FactorialDesign(seed), space)
    assert [tuple(p.values()) for p in points] == combinations


def test_factorial_leaves_the_global_generator_alone():
    before = np.random.get_state()[1].copy()
    points_of(FactorialDesign(), {"a": range(10)})
    assert (np.random.get_state()[1] == before).all()


@pytest.mark.parametrize("design", [FactorialDesign(), PointwiseDesign()], ids=repr)
@pytest.mark.parametrize("integer", [False, True])
def test_an_interval_cannot_be_enumerated(design, integer):
    with pytest.raises(DesignException) as caught:
        design.experiments(None, {"a": [1], "noise": Range(0, 1, integer=integer)})
    for part in ("noise", type(design).__name__, "LatinHypercubeDesign", "or give a list"):
        assert part in str(caught.value)
    assert isinstance(caught.value, epyc.DesignException)
    assert isinstance(caught.value, LabkitError)


# ---------- pointwise ----------


@given(spaces)
def test_pointwise_is_that_of_epyc(space):
    try:
        theirs = epyc.PointwiseDesign().experiments(None, space)
    except epyc.DesignException:
        with pytest.raises(epyc.DesignException):
            PointwiseDesign().experiments(None, space)
    else:
        assert PointwiseDesign().experiments(None, space) == theirs


@given(st.integers(1, 6), st.data())
def test_pointwise_zips_and_extends_single_values(length, data):
    columns = st.lists(st.integers(), min_size=length, max_size=length)
    space = data.draw(st.dictionaries(names, columns | st.integers(), min_size=1))
    points = points_of(PointwiseDesign(), space)
    longest = max(len(r) if isinstance(r, list) else 1 for r in space.values())
    assert len(points) == longest
    for i, p in enumerate(points):
        assert p == {n: r[i % len(r)] if isinstance(r, list) else r for n, r in space.items()}


def test_pointwise_takes_any_iterable():
    points = points_of(PointwiseDesign(), {"a": range(2), "b": (x for x in "xy"), "c": "text"})
    assert points == [{"a": 0, "b": "x", "c": "text"}, {"a": 1, "b": "y", "c": "text"}]


def test_pointwise_names_the_lengths_that_do_not_match():
    with pytest.raises(DesignException, match="window has 3, segment has 2, noise has 1"):
        PointwiseDesign().experiments(None, {"window": [1, 2, 3], "segment": [1, 2], "noise": 0})


# ---------- what the sampling designs share ----------


@pytest.mark.parametrize("kind", SAMPLING)
@given(space=continuous, n=st.integers(1, 40), seed=seeds)
def test_samples_lie_in_their_ranges_and_are_python_numbers(kind, space, n, seed):
    points = points_of(kind(n, seed=seed), {**space, "fixed": 3, "some": ["x", "y", "z"]})
    assert len(points) == n
    for p in points:
        assert list(p) == [*space, "fixed", "some"]
        assert p["fixed"] == 3
        assert p["some"] in ("x", "y", "z")
        for name, r in space.items():
            assert r.lo <= p[name] <= r.hi
            assert type(p[name]) is (int if r.integer else float)


@pytest.mark.parametrize("kind", SAMPLING)
@given(space=continuous, n=st.integers(1, 40), seed=seeds, data=st.data())
def test_the_seed_and_the_names_fix_the_points(kind, space, n, seed, data):
    space = {**space, "listed": [1, 2, 3]}
    shuffled = {name: space[name] for name in data.draw(st.permutations(list(space)))}
    once = points_of(kind(n, seed=seed), space)
    assert points_of(kind(n, seed=seed), space) == once
    assert points_of(kind(n, seed=seed), shuffled) == once
    # what does not vary takes no dimension
    with_constant = points_of(kind(n, seed=seed), {"A constant": 5, **space})
    assert with_constant == [{**p, "A constant": 5} for p in once]


@pytest.mark.parametrize("kind", SAMPLING)
def test_other_seeds_give_other_points(kind):
    space = {"a": Range(0, 1), "b": Range(0, 1)}
    assert points_of(kind(8), space) == points_of(kind(8, seed=0), space)
    assert points_of(kind(8, seed=1), space) != points_of(kind(8, seed=0), space)
    assert points_of(kind(8, seed=None), space) != points_of(kind(8, seed=None), space)
    assert all(p["a"] != p["b"] for p in points_of(kind(8), space))


@pytest.mark.parametrize("kind", SAMPLING)
def test_samples_reach_every_value_of_a_list_and_of_whole_numbers(kind):
    die = Range(1, 6, integer=True)
    points = points_of(kind(512), {"die": die, "kind": list("abcde"), "octave": [1, 2]})
    assert {p["die"] for p in points} == {1, 2, 3, 4, 5, 6}
    assert {p["kind"] for p in points} == set("abcde")
    assert 200 < sum(p["octave"] == 1 for p in points) < 312
    log = Range(1, 64, log=True, integer=True)
    assert {1, 2, 64} <= {p["n"] for p in points_of(kind(2048), {"n": log})}


@pytest.mark.parametrize("kind", SAMPLING)
def test_a_logarithmic_range_is_even_in_the_logarithm(kind):
    points = points_of(kind(1024), {"x": Range(1e-6, 1e6, log=True)})
    below = sum(p["x"] < 1 for p in points)
    assert 440 < below < 584


@pytest.mark.parametrize("kind", SAMPLING)
@pytest.mark.parametrize("n", [0, -1, 2.5, "8", True, None])
def test_a_sample_has_a_positive_size(kind, n):
    with pytest.raises(DesignException, match=rf"{kind.__name__}: n is the number of points"):
        kind(n)


@pytest.mark.parametrize("kind", SAMPLING)
def test_a_numpy_number_is_a_size_and_a_seed(kind):
    design = kind(np.int64(3), seed=np.uint8(4))
    assert (design.n, design.seed) == (3, 4)
    assert type(design.n) is type(design.seed) is int


@pytest.mark.parametrize("kind", [FactorialDesign, *SAMPLING])
@pytest.mark.parametrize("seed", [-1, 1.5, "x"])
def test_a_seed_is_a_whole_number(kind, seed):
    size = () if kind is FactorialDesign else (3,)
    with pytest.raises(DesignException, match="seed must be a whole number"):
        kind(*size, seed=seed)


@pytest.mark.parametrize("kind", SAMPLING)
def test_a_space_of_one_point_cannot_be_sampled(kind):
    with pytest.raises(DesignException, match=r"nothing to sample: each of a, b has a single"):
        kind(3).experiments(None, {"a": 1, "b": ["x"]})


# ---------- each sampling design ----------


@given(space=continuous, n=st.integers(1, 60), seed=seeds)
def test_a_latin_hypercube_has_one_sample_in_each_stratum(space, n, seed):
    points = points_of(LatinHypercubeDesign(n, seed=seed), space)
    for name, r in space.items():
        assert_one_in_each_stratum(r, [p[name] for p in points])


@given(values=st.integers(2, 9), times=st.integers(1, 9), seed=seeds)
def test_a_latin_hypercube_takes_listed_values_equally_often(values, times, seed):
    space = {"a": range(values), "b": Range(1, values, integer=True)}
    points = points_of(LatinHypercubeDesign(values * times, seed=seed), space)
    assert Counter(p["a"] for p in points) == dict.fromkeys(range(values), times)
    assert Counter(p["b"] for p in points) == dict.fromkeys(range(1, values + 1), times)


@given(space=continuous, power=st.integers(0, 7), seed=seeds)
def test_sobol_points_are_balanced_at_powers_of_two(space, power, seed):
    points = points_of(SobolDesign(2**power, seed=seed), space)
    for name, r in space.items():
        assert_one_in_each_stratum(r, [p[name] for p in points])


@given(n=st.integers(1, 64), seed=seeds)
def test_sobol_points_are_a_prefix_of_one_sequence(n, seed):
    space = {"a": Range(0, 1), "b": Range(0, 1)}
    assert points_of(SobolDesign(64, seed=seed), space)[:n] == points_of(
        SobolDesign(n, seed=seed), space
    )


def test_sobol_points_are_those_of_scipy():
    from scipy.stats import qmc

    expected = qmc.Sobol(2, rng=np.random.default_rng(5)).random(16).tolist()
    points = points_of(SobolDesign(16, seed=5), {"b": Range(0, 1), "a": Range(0, 1)})
    assert [[p["a"], p["b"]] for p in points] == expected


def test_a_fraction_that_was_rounded_up_to_one_stays_in_its_range():
    class Upper(RandomDesign):
        def _fractions(self, dimensions):
            return np.ones((self.n, dimensions))

    space = {"a": [1, 2], "b": Range(0, 6, integer=True), "c": Range(1, 3, log=True)}
    assert points_of(Upper(1), space) == [{"a": 2, "b": 6, "c": 3.0}]


# ---------- explicit points ----------


@given(st.lists(st.fixed_dictionaries({"a": st.integers(), "b": st.text()}), min_size=1))
def test_points_are_taken_as_they_are(points):
    design = PointsDesign(points)
    assert points_of(design, {}) == points
    assert points_of(design, {"a": range(100)}) == points
    assert points_of(design, {"c": 5, "b": Range(0, 1)}) == [{**p, "c": 5} for p in points]


def test_points_are_not_changed_by_what_happens_to_the_dicts_given():
    given_points = [{"a": 1}]
    design = PointsDesign(iter(given_points))
    given_points[0]["a"] = 2
    assert points_of(design, {}) == [{"a": 1}]


def test_the_range_of_a_parameter_that_the_points_name_does_not_matter():
    assert points_of(PointsDesign([{"a": 1}]), {"a": []}) == [{"a": 1}]


@pytest.mark.parametrize("extra", [[1, 2], Range(0, 1)])
def test_other_parameters_of_explicit_points_have_one_value(extra):
    with pytest.raises(DesignException, match=r"parameter noise has several values.*2 points of a"):
        PointsDesign([{"a": 1}, {"a": 2}]).experiments(None, {"noise": extra})


def test_points_of_a_table_are_its_rows_in_python_values():
    when = datetime(2024, 5, 1, 12)
    table = pd.DataFrame(
        {
            "n": np.array([1, 2], dtype=np.int16),
            "x": np.array([0.5, np.inf], dtype=np.float32),
            "flag": [True, False],
            "name": ["a", "b"],
            "when": [when, when],
            "mixed": np.array([np.int64(1), "x"], dtype=object),
        },
        index=[7, 9],
    )
    points = points_of(PointsDesign(table), {"c": 1})
    assert points == [
        {"n": 1, "x": 0.5, "flag": True, "name": "a", "when": when, "mixed": 1, "c": 1},
        {"n": 2, "x": float("inf"), "flag": False, "name": "b", "when": when, "mixed": "x", "c": 1},
    ]
    types = [int, float, bool, str, pd.Timestamp, int, int]
    assert [type(value) for value in points[0].values()] == types


def test_numpy_values_of_points_become_those_of_python():
    point = {"a": np.int8(1), "b": np.float32(0.5), "c": np.True_, "d": np.str_("x"), "e": 1 + 2j}
    (plain,) = points_of(PointsDesign([point]), {})
    assert plain == point
    assert [type(value) for value in plain.values()] == [int, float, bool, str, complex]
    when = np.datetime64("2024-01-01T00:00:00.000000001")
    assert points_of(PointsDesign([{"when": when}]), {})[0]["when"] is when


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([], "got no points"),
        (pd.DataFrame({"a": []}), "got no points"),
        ([{"a": 1, "b": 2}, {"a": 1, "c": 2}], "point 1 lacks b and also has c"),
        ([{"a": 1}, {"a": 2}, {}], "point 2 lacks a, compared"),
        ([{"a": 1}, {"a": 1, "b": 2, "c": 3}], "point 1 also has b, c"),
        ([{"a": 1}, 5], "point 1 is a int"),
        ({"a": [1, 2]}, "point 0 is a str"),
        (5, "point 0 is a int"),
        ([{1: 2}], "point 0 names a parameter 1; names must be text"),
        (pd.DataFrame([[1, 2]]), "point 0 names a parameter 0; names must be text"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "more than one column a"),
    ],
)
def test_points_that_do_not_fit_are_refused(points, message):
    with pytest.raises(DesignException, match=message):
        PointsDesign(points)


# ---------- ranges ----------


@given(intervals(integer=True))
def test_every_whole_number_of_a_range_can_be_reached(r):
    count = r.hi - r.lo + 1
    for k in range(r.lo, r.hi + 1):
        if r.log:
            u = np.log((k + 0.5) / r.lo) / np.log((r.hi + 1) / r.lo)
        else:
            u = (k - r.lo + 0.5) / count
        assert r.at(float(u)) == k
    assert (r.at(0), r.at(np.nextafter(1, 0))) == (r.lo, r.hi)


@given(intervals(integer=False), st.floats(0, 1))
def test_a_range_never_leaves_its_ends(r, u):
    assert r.lo <= r.at(u) <= r.hi
    assert r.at(0) == r.lo
    assert r.at(1) == pytest.approx(r.hi, abs=1e-12 * (abs(r.lo) + abs(r.hi)))


def test_a_range_is_halfway_where_its_scale_says():
    assert Range(0, 10).at(0.5) == 5.0
    assert Range(1, 100, log=True).at(0.5) == pytest.approx(10)


@pytest.mark.parametrize(
    ("ends", "options", "message"),
    [
        ((1, 1), {}, "empty: give the lower end first"),
        ((2, 1), {}, "empty"),
        ((0, float("inf")), {}, "finite"),
        ((float("nan"), 1), {}, "finite"),
        (("0", "1"), {}, "finite numbers"),
        ((None, 1), {}, "finite numbers"),
        ((0, 10**400), {}, "finite numbers"),
        ((0, 1), {"log": True}, "must start above 0"),
        ((-1, 1), {"log": True}, "must start above 0"),
        ((0.5, 2), {"integer": True}, "whole numbers"),
        ((-1e308, 1e308), {}, "too far apart"),
        ((1e-300, 1e300), {"log": True}, "too far apart"),
    ],
)
def test_a_range_that_makes_no_sense_is_refused(ends, options, message):
    with pytest.raises(ParameterError, match=message):
        Range(*ends, **options)


def test_a_range_keeps_python_numbers():
    r = Range(np.int8(0), np.int8(127), integer=True)
    assert type(r.hi) is int
    assert r.at(np.nextafter(1, 0)) == 127
    assert type(Range(np.float32(0), 2).lo) is float
    assert Range(0, 1) == Range(0.0, 1.0)
    assert Range(0.0, sys.float_info.max).at(0.5) == sys.float_info.max / 2
