"""From runs to the notebook."""

import numpy as np

import labkit
from labkit.engine.capture import Capture
from labkit.engine.runner import Runner
from labkit.labs.recording import Recorder, failures, record

from .experiments import Fails, Returns, Square


def runs_of(e, name, values):
    with Capture(echo=False) as capture:
        runner = Runner(e, {})
        return [(f"job{v}", runner.run({name: v}, f"key{v}", capture)) for v in values]


def test_one_bad_value_does_not_stop_the_others(notebook):
    record(notebook, runs_of(Returns(), "what", ["fine", "object", "none"]), notebook.currentTag())
    frame = notebook.dataframe(only_successful=False).set_index("what")
    assert frame[labkit.Experiment.STATUS].to_dict() == {
        "fine": True,
        "object": False,
        "none": False,
    }
    assert frame["labkit.key"]["object"] == "keyobject"


def test_a_run_is_recorded_once(notebook):
    runs = runs_of(Square(), "x", [1, 2])
    record(notebook, runs, notebook.currentTag())
    record(notebook, runs[:1], notebook.currentTag())
    assert notebook.numberOfResults() == 2


def test_a_recorder_writes_what_it_has_when_it_is_interrupted(notebook):
    try:
        with Recorder(notebook, notebook.currentTag()) as recorder:
            for job, run in runs_of(Square(), "x", [1, 2]):
                recorder.add(job, run)
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert notebook.numberOfResults() == 2


def test_failures_are_counted():
    assert failures(runs_of(Fails(), "x", range(5))) == 2


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
