"""What a controller tells of its work, without what is over."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time

import ipyparallel
import psutil
import pytest

from labkit.cluster import standing
from labkit.cluster.launchers import HostsLauncher
from labkit.cluster.roster import Agent
from labkit.cluster.standing import Standing, sessions
from labkit.cluster.workload import Workload, workload

#: A controller that keeps messages, as those of labkit's profiles do.
CONTROLLER = (
    "--ip=127.0.0.1",
    "--IPController.db_class=labkit.cluster.taskdatabase.TaskDatabase",
    "--HeartMonitor.period=200",
    "--HeartMonitor.max_heartmonitor_misses=40",
    "--IPController.registration_timeout=15",
    "--TaskScheduler.hwm=1",
)


def wait_for(condition, timeout_s=30):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="module")
def controller(tmp_path_factory):
    """A controller, and the folder of its profile."""
    place = tmp_path_factory.mktemp("profile")
    words = (sys.executable, "-m", "ipyparallel.controller", f"--profile-dir={place}")
    with (place / "log.txt").open("wb") as log:
        process = subprocess.Popen([*words, *CONTROLLER], stdout=log, stderr=log)
    process.folder = place
    yield process
    family = psutil.Process(process.pid).children(recursive=True)
    for each in (process, *family):
        each.kill()
    process.wait()


class Engines:
    """Engines of that controller, and a client."""

    def __init__(self, folder):
        self._folder = folder
        file = folder / "security" / "ipcontroller-client.json"
        wait_for(lambda: file.exists() and _is_json(file))
        self.client = ipyparallel.Client(str(file), timeout=20)
        self.processes = []

    def start(self):
        """Start one; return its id."""
        before = set(self.client.ids)
        words = (sys.executable, "-m", "ipyparallel.engine", f"--profile-dir={self._folder}")
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.processes.append(subprocess.Popen(words, **quiet))
        wait_for(lambda: set(self.client.ids) - before)
        (number,) = set(self.client.ids) - before
        return number

    def end(self):
        for process in self.processes:
            process.kill()
            process.wait()
        wait_for(lambda: not self.client.ids)
        self.client.close()


def _is_json(file):
    try:
        return bool(json.loads(file.read_text()))
    except ValueError:
        return False


@pytest.fixture
def engines(controller):
    made = Engines(controller.folder)
    yield made
    made.end()


def pass_on():
    from ipyparallel.error import UnmetDependency

    raise UnmetDependency("somebody else can do it")


def wait_or_pass_on(lame, file):
    import os
    import time

    if os.getpid() == lame:
        pass_on()
    while not file.exists():
        time.sleep(0.05)
    file.unlink()


def nap():
    import time

    time.sleep(60)


def look(client):
    return workload(client, sessions(client), lambda question: question())


def test_what_an_engine_has_passed_on_is_not_its_own_any_more(engines, tmp_path):
    lame, able = engines.start(), engines.start()
    pid = engines.client[lame].apply_sync(lambda: __import__("os").getpid())
    view = engines.client.load_balanced_view()
    # each that ends takes it away, so that the other one waits
    file = tmp_path / "go on"
    # both have got some, and the lame one has given it back
    results = [view.apply_async(wait_or_pass_on, pid, file) for _ in range(2)]
    wait_for(lambda: engines.client.queue_status()[lame]["tasks"])
    file.touch()
    wait_for(lambda: look(engines.client).busy == {able})
    assert look(engines.client).left >= 1
    file.touch()
    for result in results:
        result.get(timeout=60)
    assert engines.client.queue_status()[lame]["tasks"], "the controller has not forgotten it"
    wait_for(lambda: look(engines.client).left == 0)
    assert not look(engines.client).busy
    assert Standing(None, engines.client).missing(None, idle=True, limit_s=1) == ""
    assert not any(each.busy for each in Standing(None, engines.client).engines())


def test_what_an_engine_has_died_with_is_over(engines):
    number = engines.start()
    result = engines.client.load_balanced_view().apply_async(nap)
    direct = engines.client[number].apply_async(nap)
    wait_for(lambda: look(engines.client).left == 2)
    assert look(engines.client).busy == {number}
    engines.processes[0].kill()
    wait_for(lambda: Standing(None, engines.client).missing(None, idle=True, limit_s=1) == "", 60)
    assert result.exception(timeout=10) is not None
    assert direct.exception(timeout=10) is not None
    has = engines.client.queue_status()[number]
    assert has["tasks"] + has["queue"] == 2, "the controller has not forgotten them"


def test_without_a_database_those_count_that_are_registered(engines):
    number = engines.start()
    engines.client.load_balanced_view().apply_async(nap)
    wait_for(lambda: engines.client.queue_status()[number]["tasks"])

    def without(query, keys):
        raise ipyparallel.error.RemoteError("NoData", "none is kept", [])

    engines.client.db_query = without
    found = look(engines.client)
    assert (found.left, found.busy) == (1, {number})
    engines.processes[0].kill()
    wait_for(lambda: not engines.client.ids)
    assert look(engines.client).left == 0


def test_a_controller_that_is_silent_for_a_while_is_waited_for(engines, controller, monkeypatch):
    engines.start()
    waited = Standing(None, engines.client)
    monkeypatch.setattr(standing, "_ANSWER_S", 0.3)
    os.kill(controller.pid, signal.SIGSTOP)
    try:
        for is_idle in (True, False):
            assert (
                waited.missing(1, idle=is_idle, limit_s=1)
                == "the controller has not answered for 0 s"
            )
    finally:
        os.kill(controller.pid, signal.SIGCONT)
    wait_for(
        lambda: (
            waited.missing(1, idle=True, limit_s=1)
            == waited.missing(1, idle=False, limit_s=1)
            == ""
        )
    )


@pytest.fixture
def standing_of(tmp_path, monkeypatch):
    """Make the standing of one host, of what it tells and who is registered, before and after."""

    def make(told, *registered):
        launcher = HostsLauncher(engines={"h1": 2}, profile_dir=str(tmp_path))
        launcher._running["h1"] = Agent(5, "labkit-token", 2)
        when = itertools.cycle(registered)
        monkeypatch.setattr(launcher, "report", lambda limit_s=None: {"h1": told})
        monkeypatch.setattr(standing, "sessions", lambda client: next(when))
        monkeypatch.setattr(
            Standing, "_work", lambda self, registered: Workload({}, frozenset(), 0)
        )
        return Standing(launcher, None)

    return make


def test_what_ssh_has_said_of_a_host_is_told_of_its_engines(standing_of):
    told = {"failed": "ssh: connect to host h1 port 22: No route to host"}
    found = standing_of(told, {3: "labkit-token-0-17", 4: "somebody-else"}).engines()
    assert [(each.host, each.why) for each in found] == [
        ("h1", "its host cannot be asked: ssh: connect to host h1 port 22: No route to host"),
        (None, ""),
    ]


def test_an_engine_that_has_gone_is_waited_for_though_it_is_registered(standing_of):
    registered = {3: "labkit-token-0-1", 4: "labkit-token-1-0", 5: "somebody-else"}
    known = standing_of(TOLD, registered)
    assert [(each.id, each.alive) for each in known.engines()] == [
        (3, True),
        (None, True),
        (4, False),
        (5, None),
    ]
    assert known.missing(3, idle=False, limit_s=1) == "2 of 3 engines are there"
    assert known.missing(2, idle=False, limit_s=1) == ""


def test_an_engine_that_has_come_since_its_host_was_asked_is_not_gone(standing_of):
    before = {3: "labkit-token-0-1"}
    known = standing_of(TOLD, before, {**before, 4: "labkit-token-1-2"})
    assert [(each.id, each.alive, each.why) for each in known.engines()] == [
        (3, True, ""),
        (None, True, "it has not registered"),
        (4, None, ""),
    ]


ENGINE = {"pid": 7, "alive": True, "restarts": 0, "status": None}
TOLD = {"engines": [{**ENGINE, "number": n, "session": f"labkit-token-{n}-1"} for n in (0, 1)]}
