"""The life of an experiment: its phases, what it returns and what it keeps."""

import pytest

from .both import on_both
from .observation import in_any_order, outcome, plain, raised


def recording(epyc, fails_in=()):
    """Make an experiment that records its phases and fails in some of them."""

    class Recording(epyc.Experiment):
        def __init__(self):
            super().__init__()
            self.phases = []

        def phase(self, name):
            self.phases.append(name)
            if name in fails_in:
                raise ValueError(f"failed in {name}")

        def setUp(self, params):
            self.phase("setUp")

        def do(self, params):
            self.phase("do")
            return {"sum": params["a"] + params["b"]}

        def tearDown(self):
            self.phase("tearDown")

    return Recording()


FAILURES = [(), ("setUp",), ("do",), ("tearDown",), ("do", "tearDown")]


@pytest.mark.parametrize("fails_in", FAILURES, ids="+".join)
@on_both
def test_phases_and_failures_in_them(epyc, fails_in):
    e = recording(epyc, fails_in)
    rc = e.set({"a": 1, "b": 2}).run()
    return {
        "phases": e.phases,
        "outcome": outcome(rc),
        "succeeded": e.success(),
        "failed": e.failed(),
        "results": e.experimentalResults(),
        "recorded": sorted(k for k in e.metadata() if not k.startswith("labkit.")),
    }


@pytest.mark.parametrize("fails_in", FAILURES, ids="+".join)
@on_both
def test_fatal_raises_what_failed(epyc, fails_in):
    e = recording(epyc, fails_in)
    error = raised(lambda: e.set({"a": 1, "b": 2}).run(fatal=True))
    metadata = outcome(e.results())[epyc.Experiment.METADATA]
    return error, e.phases, e.success(), e.failed(), metadata


@on_both
def test_the_exception_itself_is_in_the_metadata(epyc):
    e = recording(epyc, ("do",))
    rc = e.set({"a": 1, "b": 2}).run()
    error = rc[epyc.Experiment.METADATA][epyc.Experiment.EXCEPTION]
    text = rc[epyc.Experiment.METADATA][epyc.Experiment.TRACEBACK]
    return type(error), error.args, text.startswith("Traceback"), "in do" in text


@pytest.mark.parametrize("error", [KeyboardInterrupt, GeneratorExit])
@on_both
def test_what_is_no_exception_is_not_an_outcome(epyc, error):
    class Interrupted(epyc.Experiment):
        def do(self, params):
            raise error

    e = Interrupted()
    return raised(lambda: e.set({}).run()), e.success(), e.failed()


@on_both
def test_before_it_ran(epyc):
    e = epyc.Experiment()
    return {
        "succeeded": e.success(),
        "failed": e.failed(),
        "parameters": e.parameters(),
        "metadata": e.metadata(),
        "experimental results": e.experimentalResults(),
        "results": e.results(),
        "item": raised(lambda: e["sum"]),
    }


@on_both
def test_the_base_class_does_nothing(epyc):
    return outcome(epyc.Experiment().set({"a": 1}).run())


@on_both
def test_results_by_name(epyc):
    e = recording(epyc)
    e.set({"a": 1, "b": 2}).run()
    return e["sum"], raised(lambda: e["a"]), raised(lambda: e["status"])


@on_both
def test_results_are_what_run_returned(epyc):
    e = recording(epyc)
    rc = e.set({"a": 1, "b": 2}).run()
    return rc == e.results(), rc is e.results(), sorted(rc)


@on_both
def test_a_second_run_replaces_the_first(epyc):
    e = recording(epyc)
    first = e.set({"a": 1, "b": 2}).run()
    second = e.set({"a": 10, "b": 20}).run()
    third = e.set({"a": 1}).run()
    return [outcome(rc) for rc in (first, second, third)], e.experimentalResults(), e.failed()


@on_both
def test_setting_deconfigures_then_configures(epyc):
    calls = []

    class Configured(epyc.Experiment):
        def configure(self, params):
            calls.append(("configure", dict(params)))
            super().configure(params)

        def deconfigure(self):
            calls.append("deconfigure")
            super().deconfigure()

    e = Configured()
    params = {"a": 1}
    same = e.set(params) is e, e.parameters() is params
    e.set({"a": 2})
    seen = e.parameters()
    e.deconfigure()
    return same, seen, e.parameters(), calls


@pytest.mark.parametrize("phase", ["setUp", "do"])
@on_both
def test_parameters_that_a_phase_adds_are_recorded(epyc, phase):
    def add(self, params):
        params["added"] = 20
        return {}

    adding = type("Adding", (epyc.Experiment,), {phase: add})
    given = {"a": 1}
    return outcome(adding().set(given).run()), given


@on_both
def test_the_outcome_is_detached_from_the_parameters(epyc):
    given = {"a": 1}
    rc = epyc.Experiment().set(given).run()
    given["a"] = 2
    return rc[epyc.Experiment.PARAMETERS]


@on_both
def test_a_body_that_returns_results_dicts(epyc):
    class Several(epyc.Experiment):
        def do(self, params):
            rcs = [self.resultsdict() for _ in range(2)]
            for i, rc in enumerate(rcs):
                rc[self.RESULTS] = {"i": i, "c": params["c"]}
            return rcs

    return outcome(Several().set({"c": "text"}).run())


@on_both
def test_a_report_that_adds_metadata(epyc):
    class Reporting(epyc.Experiment):
        def report(self, params, meta, res):
            rc = super().report(params, meta, res)
            rc[self.METADATA]["mine"] = sorted(params)
            return rc

    return outcome(Reporting().set({"a": 1, "b": 2}).run())


@on_both
def test_metadata_written_while_running_stays(epyc):
    class Writing(epyc.Experiment):
        def do(self, params):
            self._metadata["mine"] = 5
            return {}

    return outcome(Writing().set({}).run())


@on_both
def test_the_times_fit_together(epyc):
    e = epyc.Experiment()
    m = e.set({}).run()[e.METADATA]
    phases = m[e.SETUP_TIME] + m[e.EXPERIMENT_TIME] + m[e.TEARDOWN_TIME]
    return {
        "sum": abs(m[e.ELAPSED_TIME] - phases) < 1e-3,
        "order": m[e.START_TIME] <= m[e.END_TIME],
        "types": [type(m[k]) for k in (e.START_TIME, e.END_TIME, e.ELAPSED_TIME, e.STATUS)],
    }


@on_both
def test_an_empty_results_dict(epyc):
    rc = epyc.Experiment.resultsdict()
    return rc, epyc.Experiment.resultsdict() is rc


@on_both
def test_the_standard_metadata(epyc):
    types = epyc.Experiment.StandardMetadataTypes
    return sorted(epyc.Experiment.StandardMetadata), {k: t.__name__ for k, t in types.items()}


@on_both
def test_any_parameter_may_be_given_to_an_experiment(epyc):
    given = {"n": None, "l": [1, [2.5]], "d": {"a": (1, 2)}, "s": {1, 2}, "u": "é", "b": b"\x00"}

    class Echo(epyc.Experiment):
        def do(self, params):
            return dict(params)

    rc = Echo().set(given).run()
    return in_any_order([plain(rc[epyc.Experiment.RESULTS])]), rc[epyc.Experiment.RESULTS] == given


OWN = ["rng", "_rng", "seed", "version", "identity", "key", "log", "_check", "_phases", "_key"]


@pytest.mark.parametrize("name", OWN)
@on_both
def test_an_attribute_of_ones_own(epyc, name):
    class Own(epyc.Experiment):
        def __init__(self):
            super().__init__()
            setattr(self, name, 5)

        def do(self, params):
            return {"mine": getattr(self, name), "point": params["a"]}

    lab = epyc.Lab()
    lab["a"] = [1]
    lab.runExperiment(epyc.RepeatedExperiment(Own(), 2))
    return outcome(Own().set({"a": 2}).run()), [outcome(rc) for rc in lab.results()]
