"""Labs of every kind: their parameters, what they run and where it goes."""

import numpy
import pytest

from .both import on_both
from .experiments import adding, failing_at
from .observation import frame_in_any_order, in_any_order, outcomes, plain, raised

RANGES = {
    "range": lambda: range(3),
    "list": lambda: [1, 2.5, "x"],
    "tuple": lambda: (1, 2),
    "set": lambda: {1, 2},
    "dict": lambda: {"k": 1, "l": 2},
    "generator": lambda: (i * i for i in range(3)),
    "arange": lambda: numpy.arange(3),
    "linspace": lambda: numpy.linspace(0, 1, 3),
    "matrix": lambda: numpy.eye(2),
    "array without axes": lambda: numpy.array(3),
    "text": lambda: "a string",
    "no text": lambda: "",
    "integer": lambda: 10,
    "float": lambda: 0.5,
    "numpy integer": lambda: numpy.int64(7),
    "flag": lambda: False,
    "nothing": lambda: None,
    "function": lambda: len,
    "list of lists": lambda: [[1, 2], [3]],
    "repeated": lambda: [1, 1],
}


@pytest.mark.parametrize("name", RANGES)
@on_both
def test_a_range(epyc, name):
    lab = epyc.Lab()
    lab["a"] = RANGES[name]()
    other = epyc.Lab()
    other.addParameter("a", RANGES[name]())
    values = ["function" if callable(v) else plain(v) for v in lab["a"]]
    return values, type(lab["a"]), len(lab), len(lab["a"]) == len(other["a"])


@on_both
def test_parameters_come_and_go(epyc):
    lab = epyc.Lab()
    seen = [lab.parameters(), len(lab)]
    lab["b"] = range(10)
    lab["a"] = 10
    seen += [lab.parameters(), len(lab), "a" in lab, "c" in lab]
    lab["b"] = range(3)
    seen += [lab.parameters(), len(lab), lab["b"]]
    del lab["a"]
    seen += [lab.parameters(), len(lab), "a" in lab, raised(lambda: lab["a"])]
    lab.deleteParameter("never there")
    seen += [lab.parameters(), len(lab)]
    lab.deleteAllParameters()
    return [*seen, lab.parameters(), len(lab)]


@on_both
def test_parameters_may_have_any_name(epyc):
    lab = epyc.Lab()
    names = ["with space", "1", "ä", "select", "a.b", "", "epyc.experiment.status2"]
    for name in names:
        lab[name] = [1]
    return lab.parameters(), len(lab), [name in lab for name in names]


@on_both
def test_the_range_that_was_given_is_copied(epyc):
    given = [1, 2]
    lab = epyc.Lab()
    lab["a"] = given
    given.append(3)
    return lab["a"]


@on_both
def test_one_parameter(epyc, labs):
    lab = labs.create()
    lab["a"] = range(6)
    labs.run(lab, adding(epyc))
    return outcomes(lab.results()), frame_in_any_order(lab.dataframe())


@on_both
def test_several_parameters(epyc, labs):
    lab = labs.create()
    lab["a"] = numpy.arange(2)
    lab["b"] = [10, 20]
    lab["c"] = 100
    size = len(lab)
    labs.run(lab, adding(epyc))
    nb = lab.notebook()
    return size, outcomes(lab.results()), nb.current().parameterNames(), nb.numberOfResults()


@on_both
def test_values_of_several_types(epyc, labs):
    class Echo(epyc.Experiment):
        def do(self, params):
            return {f"{k} again": v for k, v in params.items()} | {"list": [1, 2], "z": 1j}

    lab = labs.create()
    lab["text"] = ["one", "zwei", "три", ""]
    lab["number"] = [0.5, -1.5]
    lab["flag"] = [True, False]
    labs.run(lab, Echo())
    return outcomes(lab.results())


@on_both
def test_points_that_fail(epyc, labs):
    lab = labs.create()
    lab["a"] = range(6)
    labs.run(lab, failing_at(epyc, 2, 5))
    return {
        "results": outcomes(lab.results()),
        "successful": frame_in_any_order(lab.dataframe())["rows"],
        "all": frame_in_any_order(lab.dataframe(only_successful=False))["rows"],
        "count": lab.notebook().numberOfResults(),
    }


@on_both
def test_all_points_fail(epyc, labs):
    lab = labs.create()
    lab["a"] = range(3)
    labs.run(lab, failing_at(epyc, 0, 1, 2))
    names = lab.notebook().current().resultNames()
    return outcomes(lab.results()), len(lab.dataframe()), names


@on_both
def test_nothing_to_run(epyc, labs):
    lab = labs.create()
    labs.run(lab, adding(epyc))
    return len(lab), lab.results(), len(lab.dataframe()), lab.ready(), lab.readyFraction()


@on_both
def test_readiness(epyc, labs):
    lab = labs.create()
    before = lab.ready(), lab.readyFraction()
    lab["a"] = range(4)
    labs.run(lab, adding(epyc))
    default = epyc.LabNotebook.DEFAULT_RESULTSET
    after = lab.ready(), lab.readyFraction(), lab.ready(default), lab.readyFraction(default)
    return before, after, raised(lambda: lab.ready("nosuch"))


@on_both
def test_results_of_several_runs_add_up(epyc, labs):
    lab = labs.create()
    lab["a"] = range(3)
    labs.run(lab, adding(epyc))
    lab["a"] = [2, 10]
    labs.run(lab, adding(epyc))
    return outcomes(lab.results())


@on_both
def test_two_result_sets(epyc, labs):
    nb = epyc.LabNotebook()
    lab = labs.create(nb)
    lab["a"] = range(3)
    labs.run(lab, adding(epyc))
    nb.addResultSet("second", "another one")
    lab["b"] = [10, 20]
    labs.run(lab, adding(epyc))
    return {
        "current": outcomes(lab.results()),
        "tags": nb.resultSets(),
        "default": outcomes(nb.results(epyc.LabNotebook.DEFAULT_RESULTSET)),
        "names": [nb.resultSet(t).parameterNames() for t in nb.resultSets()],
    }


@on_both
def test_repeated_experiments(epyc, labs):
    lab = labs.create()
    lab["a"] = range(2)
    labs.run(lab, epyc.RepeatedExperiment(failing_at(epyc, 1), 3))
    return outcomes(lab.results())


@on_both
def test_summary_experiments(epyc, labs):
    lab = labs.create()
    lab["a"] = range(2)
    labs.run(lab, epyc.SummaryExperiment(epyc.RepeatedExperiment(adding(epyc), 3)))
    return outcomes(lab.results())


@on_both
def test_an_experiment_that_adds_a_parameter(epyc, labs):
    class Additional(epyc.Experiment):
        def setUp(self, params):
            params["additional"] = 10

        def do(self, params):
            return {"total": sum(params.values())}

    lab = labs.create()
    lab["k"] = range(3)
    labs.run(lab, Additional())
    return outcomes(lab.results()), lab.notebook().current().parameterNames()


@on_both
def test_an_experiment_that_adds_metadata(epyc, labs):
    class Reporting(epyc.Experiment):
        def do(self, params):
            self._metadata["in do"] = 1
            return {}

        def report(self, params, meta, res):
            rc = super().report(params, meta, res)
            rc[self.METADATA]["in report"] = "text"
            return rc

    lab = labs.create()
    lab["k"] = range(3)
    labs.run(lab, Reporting())
    return outcomes(lab.results()), lab.notebook().current().metadataNames()


@on_both
def test_an_experiment_with_arguments_and_state(epyc, labs):
    class Scaling(epyc.Experiment):
        def __init__(self, factor):
            super().__init__()
            self.factor = factor
            self.table = None

        def configure(self, params):
            super().configure(params)
            self.table = {k: v * self.factor for k, v in params.items()}

        def do(self, params):
            return {"scaled": self.table["k"]}

    lab = labs.create()
    lab["k"] = range(3)
    labs.run(lab, Scaling(5))
    return outcomes(lab.results())


@on_both
def test_results_for_some_parameters(epyc, labs):
    lab = labs.create()
    lab["a"] = range(3)
    lab["b"] = range(2)
    labs.run(lab, adding(epyc))
    nb = lab.notebook()
    return {
        "a": outcomes(nb.resultsFor({"a": 1})),
        "both": outcomes(nb.resultsFor({"a": 1, "b": 0})),
        "frame": frame_in_any_order(nb.dataframeFor({"b": 1})),
        "none": outcomes(nb.resultsFor({"a": 7})),
        "space": nb.current().parameterSpace(),
    }


@on_both
def test_the_experiment_itself_ran_in_a_sequential_lab(epyc):
    e = adding(epyc)
    lab = epyc.Lab()
    lab["a"] = [5]
    lab.runExperiment(e)
    return e.success(), e.parameters(), e["total"]


@on_both
def test_a_lab_in_a_notebook_of_each_kind(epyc, notebooks):
    lab = epyc.Lab(notebooks.create())
    lab["a"] = range(4)
    lab.runExperiment(failing_at(epyc, 2))
    nb = notebooks.reopen(lab.notebook())
    return outcomes(nb.results()), nb.numberOfResults(), nb.ready()


@on_both
def test_a_lab_commits_what_it_ran(epyc, kept_notebooks):
    nb = kept_notebooks.create()
    lab = epyc.Lab(nb)
    lab["a"] = range(4)
    lab.runExperiment(adding(epyc))
    if kept_notebooks.is_in_memory:
        return outcomes(nb.results())
    return outcomes(kept_notebooks.open().results())


@on_both
def test_a_lab_makes_its_own_notebook(epyc, labs):
    nb = labs.create().notebook()
    return type(nb), nb.resultSets(), nb.isPersistent(), len(nb.current())


@on_both
def test_opening_updating_and_closing_a_lab_changes_nothing(epyc, labs):
    lab = labs.create()
    lab["a"] = range(3)
    labs.run(lab, adding(epyc))
    lab.open()
    lab.updateResults()
    lab.close()
    return outcomes(lab.results()), lab.parameters()


@on_both
def test_a_lab_of_ones_own(epyc):
    class Even(epyc.Lab):
        def experiments(self, e):
            return [(ep, p) for ep, p in super().experiments(e) if p["a"] % 2 == 0]

    lab = Even()
    lab["a"] = range(6)
    lab.runExperiment(adding(epyc))
    return len(lab), outcomes(lab.results())


@on_both
def test_a_lab_that_catches_up_with_something(epyc):
    class Catching(epyc.Lab):
        calls = 0

        def updateResults(self):
            self.calls += 1

    lab = Catching()
    seen = []
    for ask in (lab.results, lab.dataframe, lab.ready, lab.readyFraction):
        ask()
        seen.append(lab.calls)
    return seen


@pytest.mark.parametrize("class_name", ["Lab", "ParallelLab"])
@on_both
def test_what_recreates_a_lab(epyc, class_name):
    name, arguments = getattr(epyc, class_name)().recreate()
    return name.rpartition(".")[2], type(arguments)


@on_both
def test_cores(epyc):
    from multiprocessing import cpu_count

    n = cpu_count()
    asked = [0, 1, n, n + 1, -1, -n, -(n + 1)]
    return {
        "default": epyc.ParallelLab().numberOfCores() == n,
        "asked": [epyc.ParallelLab(cores=c).numberOfCores() for c in asked],
        "in place": epyc.ParallelLab(epyc.LabNotebook(), 1).numberOfCores(),
    }


@pytest.mark.parametrize("cores", [0, 1, -1])
@on_both
def test_each_number_of_cores_runs(epyc, cores):
    lab = epyc.ParallelLab(cores=cores)
    lab["a"] = range(5)
    lab.runExperiment(adding(epyc))
    seen = outcomes(lab.results())
    lab.close()
    return seen


@on_both
def test_parameters_are_the_labs_not_the_points(epyc):
    lab = epyc.Lab()
    lab["a"] = range(3)
    points = lab.experiments(None)
    for _, point in points:
        point["a"] = 100
    return lab["a"], in_any_order([p["a"] for _, p in lab.experiments(None)])
