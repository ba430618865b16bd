"""The cut of a sweep, and another one when points cost something else."""

import pickle
from concurrent.futures import Future

import pytest

from labkit.engine.messages import Answer, Chunk
from labkit.labs.cutter import Cutter
from labkit.labs.traffic import Sent

POINTS = 1000


@pytest.fixture
def whole():
    points = [(f"key{x}", {"x": x}) for x in range(POINTS)]
    return Chunk("name", "sweep", 0, b"", {}, points)


class Engines:
    """Two engines that answer at once, as if a point had taken so long."""

    def __init__(self, seconds_a_point):
        self.seconds_a_point = seconds_a_point
        self.probes = []

    def width(self):
        return 2

    def send(self, chunk):
        self.probes.append(chunk)
        future = Future()
        future.set_result(pickle.dumps(Answer(seconds=len(chunk.points) * self.seconds_a_point)))
        return future


def nothing():
    """Prepare nothing: all is prepared."""
    return False


def covers(chunks, whole):
    """Test whether chunks have all points of another, each once."""
    numbers = sorted(n for chunk in chunks for n in range(chunk.first, chunk.stop))
    return numbers == list(range(whole.first, whole.stop))


def test_what_a_user_has_fixed_is_not_probed(whole):
    engines = Engines(1.0)
    parts = list(Cutter().parts(whole, 300, engines.width, engines.send, nothing))
    assert [len(part.points) for part in parts] == [300, 300, 300, 100]
    assert engines.probes == []
    assert covers(parts, whole)


def test_probes_grow_until_they_tell_what_a_point_costs(whole):
    engines = Engines(0.01)
    parts = list(Cutter().parts(whole, None, engines.width, engines.send, nothing))
    assert [len(probe.points) for probe in engines.probes] == [1, 1, 5, 5]
    assert {len(part.points) for part in parts[:2]} == {50}, "half a second"
    assert covers([*engines.probes, *parts], whole)


def test_while_engines_work_on_a_probe_the_rest_is_prepared(whole):
    engines, left, at_work = Engines(0.01), [3, 2, 1], []

    def send(chunk):
        future = Future()
        at_work.append((engines.send(chunk), future))
        return future

    def prepare():
        if not left:
            for answer, future in at_work:
                if not future.done():
                    future.set_result(answer.result())
            return False
        left.pop()
        return True

    parts = list(Cutter().parts(whole, None, engines.width, send, prepare))
    assert left == []
    assert covers([*engines.probes, *parts], whole)


def test_an_answer_that_is_there_waits_for_no_preparation(whole):
    engines = Engines(1.0)

    def prepare():
        raise AssertionError

    assert list(Cutter().parts(whole, None, engines.width, engines.send, prepare))


def test_what_is_taken_back_is_joined_and_cut_for_what_points_cost_now(whole):
    engines, cutter = Engines(0.001), Cutter()
    parts = list(cutter.parts(whole, None, engines.width, engines.send, nothing))
    traffic = [Sent(part, Future()) for part in parts]
    assert cutter.misfits(traffic, engines.width) == []
    for _ in range(5):
        cutter.note(parts[0], 0.1 * len(parts[0].points))
    assert cutter.misfits(traffic, engines.width) == [sent.future for sent in traffic]
    assert cutter.misfits(traffic, engines.width) == [], "they are cut for that now"
    cutter.take_back(reversed(parts))
    again = list(cutter.cut_again(engines.width))
    assert max(len(chunk.points) for chunk in again) < 10 < max(len(p.points) for p in parts)
    assert covers([*engines.probes, *again], whole)
    assert list(cutter.cut_again(engines.width)) == []


def test_points_that_are_tried_again_are_not_joined_with_others(whole):
    engines, cutter = Engines(0.0001), Cutter()
    list(cutter.parts(whole, None, engines.width, engines.send, nothing))
    again = whole.part(5, 6, attempt=2)
    cutter.take_back([whole.part(0, 5), again, whole.part(6, 9), whole.part(9, 12)])
    sent = [(c.first, len(c.points), c.attempt) for c in cutter.cut_again(engines.width)]
    assert sent == [(0, 5, 1), (5, 1, 2), (6, 6, 1)]


def test_chunks_that_a_user_has_fixed_stay_so(whole):
    engines, cutter = Engines(1.0), Cutter()
    parts = list(cutter.parts(whole, 300, engines.width, engines.send, nothing))
    assert cutter.misfits([Sent(part, Future()) for part in parts], engines.width) == []
    cutter.take_back(parts)
    assert list(cutter.cut_again(engines.width)) == parts
