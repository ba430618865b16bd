"""Chunks that are under way, and how they are gathered."""

import pickle
import threading
import time
from concurrent.futures import Future

import pytest

from labkit.engine.messages import Answer, Chunk, Stop, new_name
from labkit.labs import traffic as under_way
from labkit.labs.delivery import ARRIVED
from labkit.labs.traffic import Traffic

OUTCOME = pickle.dumps(Answer(seconds=1.0))
STOPPED = pickle.dumps(Answer(stop=Stop("died", "died, signal 9", 0)))


@pytest.fixture
def traffic():
    made = Traffic()
    made.note_record()
    return made


@pytest.fixture
def send(traffic):
    """Have a chunk under way; give its future."""

    def add():
        future = Future()
        traffic.add(Chunk(new_name(), "sweep", 0, b"", {}, [("key", {"x": 1})]), future)
        return future

    return add


@pytest.fixture
def patient(monkeypatch):
    """Have what arrives gathered for a minute."""
    monkeypatch.setattr(under_way, "GATHER_S", 60.0)


def soon():
    return time.monotonic() + 10


def test_outcomes_that_follow_each_other_are_taken_together(traffic, send, monkeypatch):
    monkeypatch.setattr(under_way, "GATHER_S", 3.0)
    one, two, _ = send(), send(), send()
    one.set_result(OUTCOME)
    threading.Timer(0.05, two.set_result, [OUTCOME]).start()
    assert [sent.future for sent in traffic.arrivals(soon())] == [one, two]


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("what", [STOPPED, ARRIVED, OSError("engine lost")])
def test_what_needs_an_answer_does_not_wait_for_others(traffic, send, what):
    one, two, _ = send(), send(), send()
    one.set_exception(what) if isinstance(what, OSError) else one.set_result(what)
    started = time.monotonic()
    assert [sent.future for sent in traffic.arrivals(soon())] == [one]
    assert time.monotonic() - started < 5
    two.set_result(OUTCOME)
    assert traffic.outcomes() == [sent for sent in traffic if sent.future is two]


@pytest.mark.usefixtures("patient")
def test_the_last_does_not_wait(traffic, send):
    send().set_result(OUTCOME)
    started = time.monotonic()
    assert len(traffic.arrivals(soon())) == 1
    assert time.monotonic() - started < 5


def test_outcomes_are_taken_and_the_rest_is_left(traffic, send):
    one, two, three = send(), send(), send()
    three.set_exception(OSError("engine lost"))
    two.set_result(OUTCOME)
    one.set_result(STOPPED)
    taken = traffic.outcomes()
    assert [sent.future for sent in taken] == [two]
    assert {sent.future for sent in traffic.arrivals(soon())} == {one, three}
    traffic.put_back(taken)
    assert traffic.outcomes() == taken


def test_what_nobody_expects_any_more_is_ignored(traffic, send):
    one, two = send(), send()
    traffic.remove(next(iter(traffic)))
    one.set_result(OUTCOME)
    two.set_result(OUTCOME)
    assert [sent.future for sent in traffic.arrivals(soon())] == [two]
    traffic.clear()
    traffic.wake()
    assert traffic.arrivals(soon()) == []


class Counted:
    """Stands for an answer in a message, and counts how often it is read."""

    reads = 0

    def __reduce__(self):
        return _read, ()


def _read():
    Counted.reads += 1
    return Answer(seconds=1.0)


def test_an_answer_is_read_once(traffic, send):
    send().set_result(pickle.dumps(Counted()))
    send()
    (sent,) = traffic.outcomes()
    assert sent.answer().seconds == 1.0
    assert Counted.reads == 1
    assert sent.answer().seconds == 1.0, "what could not be recorded is read again"
