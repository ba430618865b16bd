"""The watcher: what it hears of engines, and what it makes of that."""

import json
import logging
import os
import sys
import threading
import time

import pytest

from labkit.cluster import watcher as module
from labkit.cluster.local import LocalCluster
from labkit.cluster.roster import Agent
from labkit.cluster.standing import sessions
from labkit.cluster.watcher import Watcher, watch
from labkit.cluster.watcherprocess import WatcherProcess


class FakeLauncher:
    """Stands for a launcher with one host, and for the agent there."""

    wanted = ("h1",)

    def __init__(self, engines, answer):
        self._engines, self._answer = engines, answer
        self.reached = 0

    def update(self):
        pass

    def started(self):
        return {"h1": self._engines}

    def owed(self):
        return {}

    def host_of(self, session):
        return "h1"

    def agent_of(self, host):
        return Agent(1, "token", self._engines)

    def reach(self, hosts):
        self.reached += 1
        return dict.fromkeys(hosts, self._answer)


@pytest.fixture(scope="module")
def cluster():
    """A controller and one engine, which is started again when it is killed."""
    started = LocalCluster(1)
    started.connect().close()
    yield started
    started.stop()


@pytest.fixture
def client(cluster):
    """A client of it."""
    client = cluster.connect()
    yield client
    client.close()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(module, "_LOOK_S", 0.01)
    monkeypatch.setattr(module, "_ASK_S", 0.1)
    monkeypatch.setattr(module, "_BACK_OFF_S", (0, 0))


def test_it_hears_of_engines_that_went_while_it_connected(client):
    # it was told of by the controller, and went before the client was subscribed
    client._engines[99] = "gone"
    launcher = FakeLauncher(2, {"failed": "it is switched off"})
    Watcher(launcher, client).look()
    assert launcher.reached == 1


def test_it_hears_of_engines_that_came_while_it_connected(client):
    launcher = FakeLauncher(1, {"engines": []})
    client._engines.pop(*client.ids)
    watcher = Watcher(launcher, client)
    for _ in range(3):
        watcher.look()
    assert launcher.reached == 0


def test_it_asks_from_time_to_time(client, monkeypatch):
    launcher = FakeLauncher(1, {"failed": "it is switched off"})
    watcher = Watcher(launcher, client)
    watcher.look()
    monkeypatch.setattr(module, "sessions", lambda client: {})
    deadline = time.monotonic() + 5
    while not launcher.reached:
        assert time.monotonic() < deadline
        watcher.look()


def engine(session, *, given_up):
    return {"session": session, "registered": True, "given_up": given_up}


def test_a_host_that_lacks_nothing_is_not_given_up(client):
    # the engine has come while the host was asked
    (session,) = sessions(client).values()
    launcher = FakeLauncher(2, {"engines": [engine(session, given_up=False)]})
    watcher = Watcher(launcher, client)
    for _ in range(3):
        watcher.look()
    assert launcher.reached == 3


def test_a_host_whose_engines_have_died_for_good_is_left_alone(client):
    (session,) = sessions(client).values()
    dead = {**engine("dead", given_up=True), "registered": False}
    launcher = FakeLauncher(2, {"engines": [engine(session, given_up=False), dead]})
    watcher = Watcher(launcher, client)
    for _ in range(3):
        watcher.look()
    assert launcher.reached == 1


class Broken:
    """Stands for a watcher on a full disk, which is cleared in the end."""

    def __init__(self):
        self.looks = 0

    def look(self):
        self.looks += 1
        if self.looks < 4:
            raise OSError(28, "No space left on device")


def test_it_goes_on_whatever_goes_wrong(caplog):
    broken = Broken()
    with caplog.at_level(logging.INFO, "labkit"):
        watch(broken, lambda: broken.looks < 5)
    assert broken.looks == 5
    (told,) = [record.message for record in caplog.records]
    assert told == "[Errno 28] No space left on device; nothing is done"


def test_engines_of_this_machine_inherit_no_module_path_of_the_watcher(monkeypatch, tmp_path):
    (tmp_path / "pid").mkdir()
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\ncat >{tmp_path}/told\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    for own in ("/mine", None):
        monkeypatch.delenv("PYTHONPATH", raising=False)
        if own is not None:
            monkeypatch.setenv("PYTHONPATH", own)
        process = WatcherProcess(str(tmp_path), "engines")
        process.start(controller=1)
        process._child.wait()
        told = json.loads((tmp_path / "told").read_text())
        assert told == {"controller": 1, "module_path": own}
        # so it is there
        monkeypatch.setenv("PYTHONPATH", "/of:/the:/watcher")
        module._restore(told["module_path"])
        assert os.environ.get("PYTHONPATH") == own


class FakeSupplier:
    """Stands for a launcher that sends a host what takes minutes."""

    def __init__(self):
        self.calls = 0
        self.done = threading.Event()

    def provide(self):
        self.calls += 1
        self.done.wait(20)


def test_it_looks_after_others_while_a_host_gets_its_environment(client):
    launcher = FakeLauncher(2, {"gone": True, "given_up": False})
    launcher.failures = {"h1": "it has no environment yet, and gets one"}
    launcher.bring_back = lambda agents: [*agents]
    supplier = FakeSupplier()
    watcher = Watcher(launcher, client, supplier)
    for _ in range(3):
        watcher.look()
    supplier.done.set()
    assert (launcher.reached, supplier.calls) == (3, 1)
