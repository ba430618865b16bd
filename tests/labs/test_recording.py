"""From runs to the notebook."""

import numpy as np
import pytest

import labkit
from labkit.batch import Batch
from labkit.engine.capture import Capture
from labkit.engine.runner import Runner
from labkit.labs.recording import Recorder, record

from .experiments import Fails, Returns, Square


def runs_of(e, name, values):
    with Capture(echo=False) as capture:
        runner = Runner(e)
        return [(i, runner.run({name: v}, f"key{v}", capture)) for i, v in enumerate(values)]


def batch_of(runs):
    return Batch.of("sweep", [(number, run.outcomes) for number, run in runs], {"host": "here"})


def test_one_bad_value_does_not_stop_the_others(notebook):
    runs = runs_of(Returns(), "what", ["fine", "object", "none"])
    record(notebook, [batch_of(runs)], notebook.currentTag())
    frame = notebook.dataframe(only_successful=False).set_index("what")
    assert frame[labkit.Experiment.STATUS].to_dict() == {
        "fine": True,
        "object": False,
        "none": False,
    }
    assert frame["labkit.key"]["object"] == "keyobject"


class Sized:
    """No array, and its size is none."""

    def nbytes(self):
        """Return what nobody has asked for."""


class Unsized:
    """No array, and it does not even tell its size."""

    @property
    def nbytes(self):
        """Refuse to tell."""
        raise RuntimeError


@pytest.mark.parametrize("odd", [Sized(), Unsized()])
def test_a_value_that_only_looks_like_an_array_stops_nothing(notebook, odd):
    runs = runs_of(Square(), "x", [1, 2, 3])
    runs[1][1].outcomes[0]["results"]["odd"] = odd
    with Recorder(notebook, notebook.currentTag(), "sweep", {}) as recorder:
        for number, run in runs:
            recorder.add(number, run)
    assert notebook.numberOfResults() == 3
    assert len(notebook.dataframe()) == 2


def test_a_run_is_recorded_once(notebook):
    runs = runs_of(Square(), "x", [1, 2])
    record(notebook, [batch_of(runs), batch_of(runs[1:])], notebook.currentTag())
    record(notebook, [batch_of(runs[:1])], notebook.currentTag())
    assert notebook.numberOfResults() == 2


def test_a_recorder_writes_what_it_has_when_it_is_interrupted(notebook):
    try:
        with Recorder(notebook, notebook.currentTag(), "sweep", {}) as recorder:
            for number, run in runs_of(Square(), "x", [1, 2]):
                recorder.add(number, run)
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert notebook.numberOfResults() == 2


def test_failures_are_counted():
    runs = runs_of(Fails(), "x", range(5))
    assert sum(run.has_failed for _, run in runs) == batch_of(runs).failures() == 2


class Reuses(labkit.Experiment):
    """Returns an array that the next point overwrites."""

    x = labkit.Parameter(range(5))
    buffer = np.zeros(3)

    def do(self, params):
        self.buffer[:] = params["x"]
        return {"buffer": self.buffer}


def test_an_array_is_as_it_was_when_its_point_returned_it(tmp_path):
    with labkit.SQLiteLabNotebook(tmp_path / "nb.db").open() as nb:
        labkit.Lab(nb).runExperiment(Reuses())
        for outcome in nb.results():
            assert set(outcome["results"]["buffer"]) == {outcome["parameters"]["x"]}
