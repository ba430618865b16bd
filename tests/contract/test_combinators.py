"""Repeated and summary experiments, alone, nested and in a lab."""

import pytest

from .both import on_both
from .experiments import adding, failing_at
from .observation import frame_in_any_order, outcome, outcomes, raised


def counting(epyc):
    """Make an experiment that counts its runs, and fails at every third."""

    class Counting(epyc.Experiment):
        runs = 0

        def do(self, params):
            self.runs += 1
            if self.runs % 3 == 0:
                raise RuntimeError(f"run {self.runs}")
            return {"run": self.runs, "half": self.runs / 2, "name": "text"}

    return Counting()


@pytest.mark.parametrize("n", [0, 1, 3])
@on_both
def test_repetitions(epyc, n):
    e = epyc.RepeatedExperiment(adding(epyc), n)
    rc = e.set({"a": 1, "b": 2}).run()
    return outcome(rc), e.repetitions(), e.success(), len(e.experimentalResults())


@on_both
def test_repetitions_that_fail(epyc):
    e = epyc.RepeatedExperiment(counting(epyc), 6)
    return outcome(e.set({"a": 1}).run()), e.success(), e.failed()


@pytest.mark.parametrize("n", [0, 1, 4])
@on_both
def test_repetitions_in_a_lab(epyc, n):
    lab = epyc.Lab()
    lab["a"] = range(3)
    lab["b"] = 10
    lab.runExperiment(epyc.RepeatedExperiment(adding(epyc), n))
    nb = lab.notebook()
    return outcomes(lab.results()), nb.numberOfResults(), frame_in_any_order(lab.dataframe())


@on_both
def test_repetitions_are_numbered_in_the_dataframe(epyc):
    lab = epyc.Lab()
    lab["a"] = [5, 10]
    lab.runExperiment(epyc.RepeatedExperiment(adding(epyc), 3))
    df = lab.dataframe()
    numbers, totals = epyc.RepeatedExperiment.I, epyc.RepeatedExperiment.REPETITIONS
    return sorted(zip(df["a"].tolist(), df[numbers].tolist(), df[totals].tolist(), strict=True))


@on_both
def test_repetitions_that_a_subclass_counts(epyc):
    class Twice(epyc.RepeatedExperiment):
        def repetitions(self):
            return 2

    e = Twice(adding(epyc), 7)
    return outcome(e.set({"a": 1}).run())


@on_both
def test_repeated_repetitions(epyc):
    e = epyc.RepeatedExperiment(epyc.RepeatedExperiment(adding(epyc), 2), 3)
    return outcome(e.set({"a": 1}).run())


@on_both
def test_a_combinator_has_its_experiments_parameters(epyc):
    inner = adding(epyc)
    e = epyc.ExperimentCombinator(inner)
    same = e.set({"a": 1}) is e
    shared = e.parameters() is inner.parameters()
    return same, e.experiment() is inner, e.parameters(), inner.parameters(), shared


@on_both
def test_a_summary(epyc):
    e = epyc.SummaryExperiment(epyc.RepeatedExperiment(counting(epyc), 7), ["run", "half"])
    rc = e.set({"a": 1}).run()
    m = rc[epyc.Experiment.METADATA]
    return {
        "outcome": outcome(rc),
        "all": m[epyc.SummaryExperiment.UNDERLYING_RESULTS],
        "good": m[epyc.SummaryExperiment.UNDERLYING_SUCCESSFUL_RESULTS],
        "mean": e["run" + epyc.SummaryExperiment.MEAN_SUFFIX],
    }


@pytest.mark.parametrize("names", [None, [], ["run"], ["half", "nosuch"]])
@on_both
def test_a_summary_of_some_results(epyc, names):
    e = epyc.SummaryExperiment(epyc.RepeatedExperiment(counting(epyc), 2), names)
    return outcome(e.set({"a": 1}).run()), e.success()


@on_both
def test_a_summary_of_one_run(epyc):
    return outcome(epyc.SummaryExperiment(adding(epyc)).set({"a": 1, "b": 2}).run())


@on_both
def test_a_summary_of_failures(epyc):
    e = epyc.SummaryExperiment(epyc.RepeatedExperiment(failing_at(epyc, 1), 3))
    return outcome(e.set({"a": 1}).run()), e.success()


@on_both
def test_a_summary_in_a_lab(epyc):
    lab = epyc.Lab()
    lab["a"] = range(4)
    lab.runExperiment(epyc.SummaryExperiment(epyc.RepeatedExperiment(failing_at(epyc), 3)))
    return outcomes(lab.results()), frame_in_any_order(lab.dataframe())


@on_both
def test_repeated_summaries(epyc):
    inner = epyc.SummaryExperiment(epyc.RepeatedExperiment(adding(epyc), 2))
    lab = epyc.Lab()
    lab["a"] = [1, 2]
    lab.runExperiment(epyc.RepeatedExperiment(inner, 3))
    return outcomes(lab.results())


@on_both
def test_a_summary_of_summaries(epyc):
    inner = epyc.SummaryExperiment(epyc.RepeatedExperiment(adding(epyc), 2))
    e = epyc.SummaryExperiment(epyc.RepeatedExperiment(inner, 3), ["total_mean"])
    return outcome(e.set({"a": 4}).run())


@on_both
def test_a_summary_of_repeated_repetitions(epyc):
    inner = epyc.RepeatedExperiment(epyc.RepeatedExperiment(counting(epyc), 2), 3)
    return outcome(epyc.SummaryExperiment(inner, ["run"]).set({"a": 4}).run())


@on_both
def test_a_summary_of_ones_own(epyc):
    class Spread(epyc.SummaryExperiment):
        def summarise(self, results):
            values = [rc[epyc.Experiment.RESULTS]["run"] for rc in results]
            return {"spread": max(values) - min(values)}

    e = Spread(epyc.RepeatedExperiment(counting(epyc), 5))
    return outcome(e.set({"a": 1}).run())


@on_both
def test_an_empty_summary(epyc):
    return epyc.SummaryExperiment(adding(epyc)).summarise([])


@on_both
def test_combinators_pass_fatal_failures_on(epyc):
    class Broken(epyc.SummaryExperiment):
        def summarise(self, results):
            raise ZeroDivisionError

    e = Broken(adding(epyc)).set({"a": 1})
    return raised(lambda: e.run(fatal=True)), outcome(e.run())
