"""What holds for all labs alike."""

import warnings

import numpy as np
import pandas as pd
import pytest

import labkit
from labkit import point
from labkit.errors import (
    DesignException,
    ExperimentError,
    LabNotebookLockedException,
    NotebookInUseError,
    ParameterError,
    ResultSetLockedException,
    SourceChangedWarning,
    UnhashableParameterError,
    UnknownParameterError,
)
from labkit.experiment import identity

from .experiments import Arrays, Custom, Fails, RaisesCustom, Returns, Shouts, Square, Talks

STATUS = labkit.Experiment.STATUS
EXCEPTION = labkit.Experiment.EXCEPTION


def run(lab, e, **how):
    lab.runExperiment(e, **how)
    assert lab.wait()
    return lab.notebook().dataframe(only_successful=False)


def test_the_declared_space_is_run(lab):
    frame = run(lab, Square())
    assert sorted(zip(frame["x"], frame["area"], strict=True)) == [(x, x * x) for x in range(6)]


def test_the_lab_overrides_and_adds_parameters(lab):
    lab["x"] = [10]
    lab["extra"] = ["a", "b"]
    frame = run(lab, Square())
    assert sorted(zip(frame["x"], frame["extra"], strict=True)) == [(10, "a"), (10, "b")]


def test_a_design_is_used(lab):
    lab._design = labkit.LatinHypercubeDesign(n=7, seed=1)
    lab["x"] = labkit.Range(0.0, 1.0)
    assert len(set(run(lab, Square())["x"])) == 7


def test_random_draws_depend_on_the_point_alone(lab):
    drawn = run(lab, Square()).set_index("x")["drawn"]
    again = {x: Square().set({"x": x}).run()["results"]["drawn"] for x in range(6)}
    assert drawn.to_dict() == again


def test_a_point_that_raises_is_a_failed_outcome_and_others_go_on(lab):
    frame = run(lab, Fails()).set_index("x")
    assert frame[STATUS].to_dict() == {x: x % 2 == 0 for x in range(6)}
    assert "odd: 3 ünïcode" in frame[EXCEPTION][3]
    assert "ValueError" in frame[labkit.Experiment.TRACEBACK][3]
    assert np.isnan(frame["half"][1]), "a missing value is never 0"


def test_an_exception_that_cannot_be_pickled_arrives_as_text(lab):
    frame = run(lab, RaisesCustom())
    assert str(Custom(1, 2)) in frame[EXCEPTION][0]


def test_what_is_no_results_dict_or_cannot_be_kept_fails_that_point_only(lab):
    frame = run(lab, Returns()).set_index("what")
    assert frame[STATUS].to_dict() == {
        w: w == "fine" for w in ("none", "lock", "lambda", "fine", "exit", "object")
    }
    assert "Returns.do returned NoneType" in frame[EXCEPTION]["none"]
    for what, name, kind in (
        ("lock", "held", "lock"),
        ("lambda", "function", "function"),
        ("object", "thing", "Range"),
    ):
        assert name in frame[EXCEPTION][what]
        assert kind in frame[EXCEPTION][what]


def test_missing_runs_only_what_has_no_success(lab):
    assert len(run(lab, Fails())) == 6
    assert sorted(p["x"] for p in lab.missing(Fails())) == [1, 3, 5]
    assert len(run(lab, Fails(), only="missing")) == 9
    lab["x"] = range(8)
    assert len(run(lab, Fails(), only="missing")) == 9 + 5
    assert len(run(lab, Fails(), only="failed")) == 14 + 4


def test_missing_costs_nothing_when_nothing_is(lab):
    run(lab, Square())
    assert len(run(lab, Square(), only="missing")) == 6
    assert lab.missing(Square()) == []


def test_another_version_makes_other_points(lab):
    run(lab, Square())

    class Newer(Square):
        version = 2

        def identity(self):
            return identity(Square())

    assert len(lab.missing(Newer())) == 6


def test_a_changed_source_is_said_once(lab):
    run(lab, Square())

    class Changed(Square):
        def identity(self):
            return identity(Square())

        def do(self, params):
            return {"area": -1}

    lab["x"] = [100]
    with pytest.warns(SourceChangedWarning, match="Square.*version 1"):
        run(lab, Changed())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(lab, Changed())


def test_a_changed_source_is_said_when_nothing_is_missing(lab):
    run(lab, Square())

    class Changed(Square):
        def identity(self):
            return identity(Square())

        def do(self, params):
            return {"area": -1}

    with pytest.warns(SourceChangedWarning):
        lab.runExperiment(Changed(), only="missing")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lab.runExperiment(Changed(), only="missing")
    assert lab.notebook().numberOfResults() == 6


def test_closing_a_lab_gives_its_notebook_free_and_leaves_nothing_but_it(lab, tmp_path):
    lab["megabytes"] = [1]
    run(lab, Arrays())
    lab.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lab.db", "lab.h5"]
    assert lab.notebook().numberOfResults() == 1


def test_each_run_tells_where_it_comes_from(lab):
    run(lab, Square())
    for rc in lab.results():
        meta = rc["metadata"]
        assert meta["labkit.key"] == point.key(identity(Square()), 1, rc["parameters"])
        assert meta["labkit.host"]
        assert meta["labkit.pid"] > 0
        assert meta["labkit.peak_memory"] > 2**20
        assert meta["labkit.cpu_time"] >= 0
        assert (meta["labkit.seed"], meta["labkit.attempt"]) == (0, 1)
        assert meta["labkit.numpy"] == np.__version__
        assert len(meta["labkit.git_commit"]) == 40
        assert meta["labkit.git_dirty"] in (True, False)
    assert isinstance(lab, labkit.ClusterLab) == (meta["labkit.engine"] is not None)


def test_what_is_printed_and_logged_is_kept_with_its_run(lab):
    run(lab, Talks())
    for x in range(3):
        key = point.key(identity(Talks()), 1, {"x": x})
        assert lab.notebook().log(key) == f"printed {x}\nINFO talks: logged {x}\n"


def test_of_a_long_log_the_end_is_kept(lab, capsys):
    run(lab, Shouts())
    log = lab.notebook().log(point.key(identity(Shouts()), 1, {"x": 1}))
    assert len(log) <= 2**20
    assert log.endswith("line 299999\n")


def test_repetitions_are_rows(lab):
    lab["x"] = [1, 2]
    frame = run(lab, labkit.RepeatedExperiment(Square(), 3))
    assert len(frame) == 6
    assert len(set(frame["drawn"])) == 6
    assert lab.missing(labkit.RepeatedExperiment(Square(), 3)) == []


def test_a_large_result_arrives_whole(lab):
    lab["megabytes"] = [200]
    run(lab, Arrays())
    array = lab.notebook().results()[0]["results"]["array"]
    assert array.nbytes == 200 * 2**20
    assert (array == 200).all()


def test_units_go_into_the_notebook(lab):
    run(lab, Square())
    assert lab.notebook().current()["labkit.units"] == {"x": "m"}
    assert lab.notebook().current()["labkit.docs"] == {"x": "side"}


def test_an_experiment_of_epyc_runs(lab):
    import epyc

    lab["a"] = [1, 2]
    frame = run(lab, epyc.RepeatedExperiment(epyc.Experiment(), 2))
    assert len(frame) == 4


def test_explicit_points(lab):
    lab._design = labkit.PointsDesign(pd.DataFrame({"x": [1, 5]}))
    assert sorted(run(lab, Square())["area"]) == [1, 25]


def test_a_result_of_a_parameters_name_does_not_hide_it(lab):
    class Echo(labkit.Experiment):
        x = labkit.Parameter([1, 2, 3])

        def do(self, params):
            if params["x"] == 2:
                raise ValueError
            return {"x": params["x"] * 10} if params["x"] == 3 else {"y": 1}

    frame = run(lab, Echo())
    assert sorted(frame["x"]) == [1, 2, 30]


def test_an_undeclared_parameter_that_looks_like_a_declared_one_is_said(lab):
    class Walk(labkit.Experiment):
        steps = labkit.Parameter([1])

    lab["stps"] = [1]
    said = r"Walk declares steps, and the lab has stps.*del lab\['stps'\]"
    with pytest.warns(UserWarning, match=said) as caught:
        lab.runExperiment(Walk())
    assert [warning.filename for warning in caught] == [__file__]
    with pytest.warns(UserWarning, match=said):
        exec("lab.experiments(e)", {"lab": lab, "e": Walk()})
    assert lab.wait()


def test_an_experiment_without_parameters_is_said(lab, caplog):
    lab.runExperiment(labkit.Experiment())
    assert "Experiment has no parameters" in caplog.text


@pytest.mark.parametrize("made", [labkit.Lab, labkit.ParallelLab])
def test_a_lab_of_something_else(made):
    with pytest.raises(ParameterError, match=r"not 'x.db': for example labkit.SQLiteLabNotebook"):
        made("x.db")
    with pytest.raises(DesignException, match=r"is no design"):
        made(design=labkit.SobolDesign)


class TestBadInput:
    """Each is an error of ours that names thing, place and remedy, before any work starts."""

    def refuses(self, lab, error, match, e=None, **how):
        with pytest.raises(error, match=match):
            lab.runExperiment(e or Square(), **how)
        assert lab.notebook().numberOfResults() == 0
        assert lab.notebook().numberOfAllPendingResults() == 0

    def test_empty_range(self, lab):
        with pytest.raises(ParameterError, match="parameter x is empty"):
            lab["x"] = []

    def test_unknown_parameter(self, lab):
        lab["window"] = [1]
        with pytest.raises(UnknownParameterError, match="did you mean window"):
            lab["wndow"]

    def test_unhashable_parameter(self, lab):
        lab["x"] = [object()]
        self.refuses(
            lab, UnhashableParameterError, r"parameter x of .*Square cannot be hashed: an? object"
        )

    def test_design_that_does_not_fit(self, lab):
        lab["x"] = labkit.Range(0, 1)
        self.refuses(lab, DesignException, "x.*LatinHypercubeDesign")

    def test_a_class_instead_of_an_experiment(self, lab):
        with pytest.raises(ExperimentError, match=r"make one: Square\(\)"):
            lab.runExperiment(Square)

    def test_unknown_only(self, lab):
        self.refuses(lab, ParameterError, "did you mean missing", only="mising")

    def test_locked_result_set(self, lab):
        lab.notebook().current().finish()
        self.refuses(lab, ResultSetLockedException, "default")

    def test_locked_notebook(self, lab):
        lab.notebook().finish()
        self.refuses(lab, LabNotebookLockedException, "lab.db")

    def test_notebook_of_another_writer(self, lab, tmp_path):
        import subprocess
        import sys

        lab.notebook().close()
        script = (
            "import labkit, sys; nb = labkit.SQLiteLabNotebook(sys.argv[1]);"
            "nb.setDescription('mine'); print('ready', flush=True); sys.stdin.read()"
        )
        arguments = [sys.executable, "-c", script, lab.notebook().name()]
        with subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as other:
            assert other.stdout.readline() == "ready\n"
            with pytest.raises(NotebookInUseError, match=f"process {other.pid} on"):
                lab.runExperiment(Square())
            other.stdin.close()
