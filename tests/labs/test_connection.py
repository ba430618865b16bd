"""How a lab is connected to its cluster."""

import gc
import threading
import time
from types import SimpleNamespace

import psutil
import pytest

from labkit.cluster.asking import begin
from labkit.errors import ClusterError, ClusterStartError, HostUnreachableError
from labkit.labs import connection as connections
from labkit.labs.connection import Connection, _asking_why
from labkit.labs.leftovers import ALIVE, OWN

NOWHERE = {"url_file": None, "profile": None, "profile_dir": None, "cluster_id": None}


def nothing():
    """Wake nobody."""


def test_another_cluster_has_the_same_name_again(cluster):
    connection = Connection(None, {**NOWHERE, "url_file": cluster.connection_file}, nothing)
    with pytest.raises(ClusterError, match="is closed: open it"):
        connection.hub.idle()
    connection.open()
    client, name = connection.client, connection.name
    connection.open()
    assert connection.client is client, "it was open"
    assert connection.hub.idle() == client.ids
    assert str(cluster.connection_file) in name
    assert not connection.is_lost()
    connection.end()
    assert not connection.is_open
    connection.open()
    assert connection.name == name
    connection.close()


def test_an_own_cluster_ends_with_it_or_when_nobody_holds_it():
    connection = Connection(1, NOWHERE, nothing)
    assert connection.own is None, "it is started when it is needed"
    connection.open()
    assert {connection.name} & ALIVE
    assert connection.name.startswith(OWN)
    first, name = psutil.Process(connection.own._supervisor.pid), connection.name
    connection.end()
    assert not first.is_running()
    assert name not in ALIVE
    connection.open()
    second = psutil.Process(connection.own._supervisor.pid)
    del connection
    gc.collect()
    assert not second.is_running()


# ---------- what may pass ----------


def test_a_controller_may_be_started_after_its_machine_is_back(monkeypatch, caplog):
    monkeypatch.setattr(connections, "_PAUSE_S", 0)
    connection = Connection(None, {**NOWHERE, "profile": "shadow"}, nothing)

    def meet(e):
        with connection.outlasting():
            raise e

    silence = ClusterStartError("its controller does not answer", may_pass=True)
    with pytest.raises(ClusterStartError):
        meet(silence)
    for e in (HostUnreachableError("ctl cannot be reached: no route"), silence, silence):
        meet(e)
    assert [record.message for record in caplog.records] == [
        "ctl cannot be reached; trying again until it is back. What runs there goes on",
        "trying again for 60 s, as it may be about to start: its controller does not answer",
    ]
    for e in (
        ClusterStartError("the connection file is another's"),
        HostUnreachableError("ctl lets nobody in", may_pass=False),
    ):
        with pytest.raises(ClusterError):
            meet(e)
    monkeypatch.setattr(connections, "_START_S", 0)
    meet(HostUnreachableError("ctl cannot be reached: no route"))
    with pytest.raises(ClusterStartError):
        meet(silence)


def test_a_tunnel_that_ends_may_be_the_end_of_a_machine(monkeypatch):
    monkeypatch.setattr(connections, "_PAUSE_S", 0)
    connection = Connection(None, {**NOWHERE, "profile": "shadow"}, nothing)
    silence = ClusterStartError("its controller does not answer", may_pass=True)
    connection._tunnel = SimpleNamespace(is_open=lambda: False, close=nothing)
    with connection.outlasting():
        raise ClusterError("it has not answered for 7 s")
    connection._end_tunnel()
    with connection.outlasting():
        raise silence


# ---------- why a shadow's controller is silent ----------


class Asked:
    """A shadow whose machine notes that it was asked."""

    def __init__(self):
        self.was_asked = threading.Event()

    def why_silent(self, limit_s):
        self.was_asked.set()
        return ClusterStartError("it was stopped")


def test_a_machine_is_asked_while_its_controller_may_still_answer(monkeypatch):
    monkeypatch.setattr(connections, "_PATIENCE_S", 0.05)
    shadow = Asked()
    with pytest.raises(ClusterStartError, match="it was stopped"), _asking_why(shadow, 0.1):
        silent_until(shadow.was_asked)


def silent_until(event):
    """Time out after something has happened."""
    assert event.wait(10)
    raise TimeoutError


@pytest.fixture
def patient(monkeypatch):
    """Have a machine asked by itself only after a minute."""
    monkeypatch.setattr(connections, "_PATIENCE_S", 60.0)
    monkeypatch.setattr(connections, "_LIMIT_S", 1000.0)


@pytest.mark.usefixtures("patient")
def test_a_machine_is_asked_at_once_when_nothing_is_there():
    shadow = Asked()
    began = time.monotonic()
    with pytest.raises(ClusterStartError, match="it was stopped"), _asking_why(shadow, 0.1):
        raise TimeoutError
    assert time.monotonic() - began < 30


@pytest.mark.usefixtures("patient")
def test_a_machine_whose_controller_answers_is_not_asked(monkeypatch):
    def begin_noted(question):
        begun.append(begin(question))
        return begun[-1]

    begun = []
    monkeypatch.setattr(connections, "begin", begin_noted)
    shadow = Asked()
    with _asking_why(shadow, 0.1):
        pass
    with pytest.raises(KeyError), _asking_why(shadow, 0.1):
        raise KeyError
    assert [question.result(30) for question in begun] == [None, None]
    assert not shadow.was_asked.is_set()
