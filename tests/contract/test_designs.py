"""What turns parameter ranges into points."""

import pytest

from .both import on_both
from .experiments import adding
from .observation import in_any_order, outcomes, plain, raised

SPACES = [
    {},
    {"a": range(3)},
    {"a": [1]},
    {"a": range(3), "b": [1, 2]},
    {"a": range(3), "b": [6]},
    {"a": [1], "b": [2], "c": [3]},
    {"a": range(2), "b": ["x", "y"], "c": [0.5, 1.5]},
    {"a": [1, 1], "b": [2, 3]},
    {"a": [None, True], "b": [[1, 2], {"k": 1}]},
]
ZIPPED = [
    {},
    {"a": range(3)},
    {"a": [1]},
    {"a": range(3), "b": [4, 5, 6]},
    {"a": range(3), "b": [4]},
    {"a": [4], "b": range(3), "c": ["x"]},
    {"a": [1], "b": [2]},
    {"a": range(3), "b": [4, 5]},
    {"a": range(3), "b": [4, 5], "c": [1]},
]


@pytest.mark.parametrize("space", SPACES, ids=repr)
@on_both
def test_factorial(epyc, space):
    e = epyc.Experiment()
    points = epyc.FactorialDesign().experiments(e, space)
    return in_any_order([plain(p) for _, p in points]), all(ep is e for ep, _ in points)


@on_both
def test_factorial_points_come_shuffled(epyc):
    points = epyc.FactorialDesign().experiments(None, {"a": range(200)})
    values = [p["a"] for _, p in points]
    return sorted(values), values == sorted(values)


@pytest.mark.parametrize("space", ZIPPED, ids=repr)
@on_both
def test_pointwise(epyc, space):
    e = epyc.Experiment()
    points = []
    error = raised(lambda: points.extend(epyc.PointwiseDesign().experiments(e, space)))
    return error, [plain(p) for _, p in points], all(ep is e for ep, _ in points)


@pytest.mark.parametrize("design", ["FactorialDesign", "PointwiseDesign"])
@on_both
def test_designs_take_no_experiment(epyc, design):
    points = getattr(epyc, design)().experiments(None, {"a": [1, 2]})
    return in_any_order([[ep, plain(p)] for ep, p in points])


@on_both
def test_the_base_design_has_no_points(epyc):
    return raised(lambda: epyc.Design().experiments(None, {"a": [1]}))


@on_both
def test_points_are_dicts_of_their_own(epyc):
    points = epyc.FactorialDesign().experiments(None, {"a": [1, 2], "b": [3]})
    first = dict(points[0][1])
    points[0][1]["a"] = "changed"
    return in_any_order([first, *(plain(p) for _, p in points[1:])])


@on_both
def test_a_lab_has_a_factorial_design(epyc):
    lab = epyc.Lab()
    return type(lab.design()), isinstance(lab.design(), epyc.Design)


@on_both
def test_a_lab_with_a_pointwise_design(epyc):
    design = epyc.PointwiseDesign()
    lab = epyc.Lab(design=design)
    lab["a"] = range(3)
    lab["b"] = [10, 20, 30]
    lab["c"] = 100
    lab.runExperiment(adding(epyc))
    return lab.design() is design, len(lab), outcomes(lab.results())


@on_both
def test_a_lab_with_ranges_that_do_not_fit(epyc):
    lab = epyc.Lab(design=epyc.PointwiseDesign())
    lab["a"] = range(3)
    lab["b"] = [10, 20]
    errors = [raised(lambda: len(lab)), raised(lambda: lab.runExperiment(adding(epyc)))]
    return errors, lab.notebook().numberOfResults()


@on_both
def test_a_design_of_ones_own(epyc):
    class Diagonal(epyc.Design):
        def experiments(self, e, ps):
            return [(e, {k: v[0] + i for k, v in ps.items()}) for i in range(3)]

    lab = epyc.Lab(epyc.LabNotebook(), Diagonal())
    lab["a"] = 1
    lab["b"] = 10
    lab.runExperiment(adding(epyc))
    return len(lab), outcomes(lab.results())


@on_both
def test_a_design_that_changes_the_experiment(epyc):
    class Mixed(epyc.Design):
        def experiments(self, e, ps):
            return [
                (e if e is None else epyc.RepeatedExperiment(e, 1 + a % 2), {"a": a})
                for a in ps["a"]
            ]

    lab = epyc.Lab(design=Mixed())
    lab["a"] = range(4)
    lab.runExperiment(adding(epyc))
    return len(lab), outcomes(lab.results())


@on_both
def test_the_configuration_of_a_lab(epyc):
    lab = epyc.Lab()
    lab["a"] = range(2)
    lab["b"] = "text"
    e = epyc.Experiment()
    points = lab.experiments(e)
    return in_any_order([plain(p) for _, p in points]), all(ep is e for ep, _ in points)


@on_both
def test_what_a_design_refuses_says_why(epyc):
    error = epyc.DesignException("the ranges do not fit")
    return "the ranges do not fit" in str(error), raised(lambda: (_ for _ in ()).throw(error))
