"""What a lab does with what another one has left in its notebook."""

import pytest

import labkit
from labkit import point
from labkit.engine.hand import run_chunk
from labkit.engine.messages import Chunk
from labkit.engine.spool import Spool
from labkit.experiment import identity
from labkit.labs.leftovers import ALIVE, OWN, Leftovers
from labkit.labs.sweep import pickled
from labkit.notebook.labnotebook import SentChunk

from .experiments import Square

POINTS = [(f"key{x}", {"x": x}) for x in range(4)]


class Hub:
    """Stands for a controller's hub that has kept, or lost, what it is asked for."""

    def __init__(self, answers):
        self.answers = answers
        self.purged = []

    def keeps(self, messages):
        return {m for m in messages if m in self.answers}

    def completed(self, messages):
        return {m: self.answers[m] is not None for m in messages if m in self.answers}

    def result(self, message):
        if isinstance(self.answers[message], Exception):
            raise self.answers[message]
        return self.answers[message]

    def purge(self, messages):
        self.purged += messages


@pytest.fixture(params=[labkit.LabNotebook, labkit.SQLiteLabNotebook, labkit.JSONLabNotebook])
def left(request, tmp_path):
    """A notebook with four points pending, in chunks of two, on a cluster called c."""
    nb = request.param(str(tmp_path / "nb"))
    nb.current().addPendingResults("sweep", POINTS)
    nb.recordChunks(
        [SentChunk("one", "sweep", 0, 2, "c", "m1"), SentChunk("two", "sweep", 2, 4, "c", "m2")]
    )
    nb.commit()
    if nb.isPersistent():
        nb.close()
        nb = request.param(str(tmp_path / "nb"))
    return nb


def answer(first):
    import pickle

    chunk = Chunk("x", "sweep", first, pickled(Square()), {}, POINTS[first : first + 2])
    return run_chunk(chunk.order, pickle.dumps(chunk))


def test_what_the_hub_has_kept_is_taken(left):
    leftovers = Leftovers(left, "c", set())
    hub = Hub({"m1": answer(0), "m2": None})
    assert leftovers.collect(hub) == 2
    assert hub.purged == ["m1"]
    assert bool(leftovers), "the second is still running"
    assert left.numberOfPendingResults() == 2
    hub.answers["m2"] = answer(2)
    assert leftovers.collect(hub) == 2
    assert not leftovers
    assert sorted(rc["results"]["area"] for rc in left.results()) == [0, 1, 4, 9]
    assert left.outstandingChunks() == []


def test_what_the_hub_has_lost_is_missing_again(left, caplog):
    Leftovers(left, "c", set()).collect(Hub({"m1": answer(0)}))
    assert left.numberOfResults() == 2
    assert not left.anyPending()
    assert "missing again, no longer pending: 2" in caplog.text


def test_what_was_aborted_is_missing_again(left):
    Leftovers(left, "c", set()).collect(Hub({"m1": KeyError("ename"), "m2": answer(2)}))
    assert left.numberOfResults() == 2
    assert not left.anyPending()


def test_what_is_on_another_cluster_stays_pending(left):
    leftovers = Leftovers(left, "d", set())
    assert not leftovers
    assert left.numberOfPendingResults() == 4


def test_what_was_on_a_cluster_of_a_lab_that_ended_is_missing_again(left):
    left.dropPendingResults([f"sweep-{i}" for i in range(4)])
    left.current().addPendingResults("again", POINTS)
    left.recordChunks([SentChunk("three", "again", 0, 4, OWN + "x", "m3")])
    assert not Leftovers(left, "c", set())
    assert not left.anyPending()


def test_what_was_never_sent_is_missing_again(left):
    left.current().addPendingResults("unsent", POINTS)
    Leftovers(left, "c", set())
    assert left.numberOfPendingResults() == 4


def test_what_the_lab_has_sent_itself_is_not_touched(left):
    assert not Leftovers(left, "c", {"one", "two"})
    assert left.numberOfPendingResults() == 4


def test_pending_results_of_others_are_left_alone(left):
    left.addPendingResult({"x": 9}, "by hand")
    Leftovers(left, "c", set()).collect(Hub({}))
    assert left.pendingResults() == ["by hand"]


def test_spools_are_read(tmp_path):
    import pickle

    nb = labkit.SQLiteLabNotebook(tmp_path / "nb.db")
    nb.current().addPendingResults("sweep", POINTS)
    nb.recordChunks([SentChunk("one", "sweep", 0, 4, OWN + "gone", "m1")])
    nb.spoolFolder().mkdir()
    spool = Spool(nb.spoolFolder(), "one")
    spool.append(pickle.loads(answer(0)).records[0])
    spool.finish()
    Leftovers(nb, "c", set())
    assert sorted(rc["results"]["area"] for rc in nb.results()) == [0, 1]
    assert not nb.anyPending()
    nb.close()


def test_what_an_interrupted_submission_left_is_missing(tmp_path):
    nb = labkit.SQLiteLabNotebook(tmp_path / "nb.db")
    nb.current().addPendingResults("sweep", POINTS)
    nb.recordChunks([SentChunk("one", "sweep", 1, 3, "c", "m1")])
    assert sorted(nb.unsentResults()) == ["sweep-0", "sweep-3"]
    Leftovers(nb, "c", set())
    assert sorted(nb.pendingResults()) == ["sweep-1", "sweep-2"]
    nb.close()


def test_any_lab_settles_what_a_dead_cluster_has_left(tmp_path):
    nb = labkit.SQLiteLabNotebook(tmp_path / "nb.db")
    keyed = [(point.key(identity(Square()), 1, p), p) for _, p in POINTS]
    nb.current().addPendingResults("sweep", keyed)
    nb.recordChunks([SentChunk("one", "sweep", 0, 4, OWN + "gone", "m1")])
    lab = labkit.Lab(nb)
    assert len(lab.missing(Square())) == 6
    lab.runExperiment(Square(), only="missing")
    assert nb.numberOfResults() == 6
    nb.close()


def test_a_cluster_of_another_lab_in_this_process_is_not_dead(left):
    left.dropPendingResults([f"sweep-{i}" for i in range(4)])
    left.current().addPendingResults("again", POINTS)
    left.recordChunks([SentChunk("three", "again", 0, 4, OWN + "x", "m3")])
    ALIVE.add(OWN + "x")
    try:
        labkit.Lab(left).missing(Square())
    finally:
        ALIVE.discard(OWN + "x")
    assert left.numberOfPendingResults() == 4


def test_what_was_on_a_controller_that_was_started_again_is_missing(left):
    left.dropPendingResults([f"sweep-{i}" for i in range(4)])
    left.current().addPendingResults("again", POINTS)
    left.recordChunks([SentChunk("three", "again", 0, 4, "key1 at profile lab", "m3")])
    Leftovers(left, "key2 at profile other", set())
    assert left.numberOfPendingResults() == 4
    Leftovers(left, "key2 at profile lab", set())
    assert not left.anyPending()
