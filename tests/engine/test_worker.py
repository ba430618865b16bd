"""Chunks and answers, without an engine."""

import pickle
import time

import cloudpickle
import numpy as np
import pytest

import labkit
from labkit.engine import spool, worker
from labkit.engine.hand import run_chunk
from labkit.engine.messages import Answer, Chunk

from ..labs.experiments import Arrays, Square
from .answers import runs_in


def chunk_of(e, points, **more):
    return Chunk("c", "sweep", 5, cloudpickle.dumps(e), {"labkit.experiment": "x"}, points, **more)


def answer_to(chunk):
    answer = pickle.loads(run_chunk(chunk.order, pickle.dumps(chunk)))
    assert isinstance(answer, Answer)
    return answer


def test_points_are_run_in_order_as_their_jobs():
    answer = answer_to(chunk_of(Square(), [("k1", {"x": 1}), ("k2", {"x": 2})], attempt=3))
    runs = dict(runs_in(answer.records))
    assert list(runs) == ["sweep-5", "sweep-6"]
    meta = runs["sweep-6"]["metadata"]
    assert (meta["labkit.key"], meta["labkit.attempt"], meta["labkit.experiment"]) == ("k2", 3, "x")
    assert runs["sweep-6"]["results"]["area"] == 4
    assert answer.spooled is None
    assert answer.seconds > 0


def test_an_engine_that_sees_the_probe_leaves_a_spool(tmp_path):
    probe = tmp_path / "probe"
    probe.touch()
    answer = answer_to(chunk_of(Square(), [("k", {"x": 1})], probe=str(probe)))
    assert answer.spooled == "c.spool"
    assert list(spool.read(tmp_path / "c.spool")) == answer.records


def test_an_engine_that_does_not_see_it_leaves_none(tmp_path):
    answer = answer_to(
        chunk_of(Square(), [("k", {"x": 1})], probe=str(tmp_path / "absent" / "probe"))
    )
    assert answer.spooled is None
    assert len(answer.records) == 1


def test_a_long_answer_stays_in_the_spool(tmp_path):
    probe = tmp_path / "probe"
    probe.touch()
    answer = answer_to(chunk_of(Arrays(), [("k", {"megabytes": 3})], probe=str(probe)))
    assert answer.records == []
    ((_, run),) = runs_in(list(spool.read(tmp_path / answer.spooled)))
    assert run["results"]["array"].nbytes == 3 * 2**20


def test_parts_keep_their_jobs():
    chunk = chunk_of(Square(), [(str(i), {"x": i}) for i in range(6)])
    part = chunk.part(2, 4, attempt=2)
    assert [part.job(i) for i in range(2)] == ["sweep-7", "sweep-8"]
    assert (part.stop, part.attempt) == (9, 2)
    assert part.name != chunk.name
    assert [p.job(0) for p in chunk.singles(4)] == ["sweep-9", "sweep-10"]


def test_an_experiment_is_loaded_once():
    worker.load_experiment.cache_clear()
    data = cloudpickle.dumps(Square())
    assert worker.load_experiment(data) is worker.load_experiment(bytes(bytearray(data)))


def test_what_set_raises_is_a_failed_outcome():
    class NotSettable(labkit.Experiment):
        def configure(self, params):
            raise RuntimeError("not here")

    ((_, run),) = runs_in(answer_to(chunk_of(NotSettable(), [("k", {"x": 1})])).records)
    assert not run["metadata"][labkit.Experiment.STATUS]
    assert run["parameters"] == {"x": 1}
    assert "not here" in str(run["metadata"][labkit.Experiment.EXCEPTION])


@pytest.mark.parametrize("reported", [None, 3, {"a": 1}, [{"a": 1}]])
def test_a_report_that_is_no_results_dict_is_a_failed_outcome(reported):
    class Reports(labkit.Experiment):
        def report(self, params, meta, res):
            return reported

    ((_, run),) = runs_in(answer_to(chunk_of(Reports(), [("k", {"x": 1})])).records)
    assert not run["metadata"][labkit.Experiment.STATUS]


class Reuses(labkit.Experiment):
    """Returns an array that the next point overwrites."""

    def __init__(self):
        super().__init__()
        self.buffer = np.zeros(3)

    def do(self, params):
        self.buffer[:] = params["x"]
        return {"buffer": self.buffer, "scalar": self.buffer[0]}


def test_an_array_is_as_it_was_when_its_point_returned_it():
    answer = answer_to(chunk_of(Reuses(), [(f"k{x}", {"x": x}) for x in range(5)]))
    results = [run["results"] for _, run in runs_in(answer.records)]
    assert [r["buffer"].tolist() for r in results] == [[float(x)] * 3 for x in range(5)]


class QuickThenSlow(labkit.Experiment):
    """The last point takes its time."""

    def do(self, params):
        time.sleep(params["seconds"])
        return {}


def test_quick_points_before_a_slow_one_are_in_the_spool_within_a_second(tmp_path):
    (tmp_path / "probe").touch()
    points = [("a", {"seconds": 0}), ("b", {"seconds": 0}), ("c", {"seconds": 60})]
    chunk = chunk_of(QuickThenSlow(), points, probe=str(tmp_path / "probe"), timeout_s=3.0)
    answer = pickle.loads(run_chunk(chunk.order, pickle.dumps(chunk)))
    assert [job for job, _ in runs_in(answer.records)] == ["sweep-5", "sweep-6"]
