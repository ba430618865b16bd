"""A lab on a laptop: it reaches its cluster by ssh only, and comes and goes."""

import contextlib
import json
import os
import signal
import time
from collections import Counter

import pytest

from ..cluster.machines import CONTROLLER, DEFAULTS, WORDS, Cluster, bed, cluster
from ..cluster.testbed import python

__all__ = ["bed", "cluster"]

INVENTORY = f"{CONTROLLER}defaults: {{{DEFAULTS}, engines: 2}}\nhosts: {{h1: , h2: }}\n"

#: What the laptop's scripts begin with. Each run leaves a line where the test can see it.
HEAD = """
import json, logging, os, time
from pathlib import Path
import numpy
import labkit

logging.basicConfig(level=logging.WARNING)

class Work(labkit.Experiment):
    def do(self, params):
        with open("{ran}", "a") as file:
            file.write(f"{{params['x']}}\\n")
        time.sleep(params["s"])
        return {{"area": params["x"] ** 2, "wave": numpy.full(1000, params["x"])}}

notebook = labkit.SQLiteLabNotebook(str(Path("~/squares.db").expanduser()))
"""
LAB = 'lab = labkit.ClusterLab(notebook, profile="shadow")\n'
SEND = "lab['x'] = range({points})\nlab['s'] = {seconds}\nlab.runExperiment(Work(), chunk=1)\n"
WAIT = """
assert lab.wait({timeout})
rows = lab.dataframe()
assert [int(w[0]) for w in rows["wave"]] == list(rows["x"])
print(sorted(int(area) for area in rows["area"]))
lab.close()
"""


class Desk:
    """A laptop with the shadow of a cluster that runs."""

    def __init__(self, running, lap, *, ran="ran"):
        self.running, self.lap = running, lap
        self.ran = running.folder / ran

    def begin(self):
        """Start the cluster, and shadow it."""
        self.running.start()
        self.running.ask("print(0)", 4)
        self.shadow()

    def shadow(self):
        self.lap.execute("labkit", "profile", "shadow", "root@ctl")

    def script(self, *parts, **values):
        values = {"points": 12, "seconds": 0.5, "timeout": 60, **values}
        code = HEAD.format(ran=self.ran) + "".join(part.format(**values) for part in parts)
        path = self.running.folder / f"at_the_desk_{self.ran.name}.py"
        path.write_text(code)
        return (python("")[0], path)

    def execute(self, *parts, **values):
        return self.lap.execute(*self.script(*parts, **values))

    def start(self, *parts, **values):
        return self.lap.start(*self.script(*parts, **values))

    def runs(self):
        """Return how often each point was run."""
        return Counter(map(int, self.ran.read_text().split())) if self.ran.exists() else Counter()

    def wait_for_runs(self, count, timeout_s=30):
        deadline = time.monotonic() + timeout_s
        while len(self.runs()) < count:
            assert time.monotonic() < deadline, self.runs()
            time.sleep(0.05)

    def wait_until_no_ssh(self, timeout_s=30):
        deadline = time.monotonic() + timeout_s
        while left := self.lap.processes("BatchMode", "labkit-tunnel"):
            assert time.monotonic() < deadline, left
            time.sleep(0.05)


@pytest.fixture
def desk(cluster, bed):
    """Set one up."""

    def make(more="", *, starts=True):
        made = Desk(cluster(INVENTORY + more, shared=False), bed["lap"])
        if starts:
            made.begin()
        return made

    yield make
    clear(bed)


def clear(bed):
    """Put back the cable, and remove what tests have left at the desk."""
    bed["lap"].put_cable_back()
    bed["lap"].end("at_the_desk", "labkit-tunnel", "BatchMode")
    for name in ("lap", "ctl"):
        bed[name].execute("sh", "-c", "rm -rf ~/squares* ~/.cache/labkit")


def squares(points):
    return str([x**2 for x in range(points)])


def once_each(points):
    return dict.fromkeys(range(points), 1)


REFUSED = """
began = time.monotonic()
try:
    labkit.ClusterLab(profile="shadow")
except labkit.errors.LabkitError as e:
    print(json.dumps([str(e), time.monotonic() - began]))
"""


def refused(there):
    """Open a lab that cannot be opened; return the error. It takes 10 s at most."""
    message, seconds = json.loads(there.execute(REFUSED).splitlines()[-1])
    assert seconds < 10
    there.wait_until_no_ssh()
    return message


# ---------- a cluster that runs all the time ----------


@pytest.fixture(scope="class")
def standing(request, bed):
    """Start a cluster that no test of a class does anything to, and let the laptop shadow it."""
    running = Cluster(bed, bed.folder / f"for-{request.cls.__name__}", shared=False)
    running.folder.mkdir()
    running.generate(INVENTORY + request.cls.encryption)
    made = Desk(running, bed["lap"])
    try:
        made.begin()
        yield made
    finally:
        for machine in bed.machines.values():
            machine.end(*WORDS)
            machine.execute("sh", "-c", "rm -rf ~/.ipython")


class AnyCluster:
    """What holds with and without encryption."""

    encryption = ""

    @pytest.fixture
    def there(self, standing, bed, tmp_path):
        """Clear the desk afterwards."""
        yield Desk(standing.running, standing.lap, ran=f"ran-{tmp_path.name}")
        clear(bed)

    def test_a_lab_opens_a_tunnel_and_closes_it(self, there):
        out = there.execute(
            LAB,
            "print(bool(json.load(open(os.path.expanduser('~/.ipython/profile_shadow/security/"
            "ipcontroller-client.json'))).get('curve_serverkey')))\n",
            SEND,
            WAIT,
            seconds=0.01,
        )
        assert out.split("\n")[-3:-1] == [str(bool(self.encryption)), squares(12)]
        there.wait_until_no_ssh()
        assert there.runs() == once_each(12)

    def test_a_wrong_key_is_refused(self, there):
        file = there.lap.folder / "home/.ipython/profile_shadow/security/ipcontroller-client.json"
        said = json.loads(file.read_text())
        wrong = {"curve_serverkey": "0" * 39 + "1"} if self.encryption else {"key": "0" * 36}
        file.write_text(json.dumps(said | wrong))
        try:
            assert "labkit profile refresh shadow" in refused(there)
        finally:
            file.write_text(json.dumps(said))


class TestEncryptedCluster(AnyCluster):
    encryption = "encryption: yes\n"


class TestCluster(AnyCluster):
    @pytest.mark.parametrize("end", ["lab.close()\n", "os.kill(os.getpid(), 9)\n"])
    def test_one_sends_and_leaves_and_another_lab_gets_the_rest(self, there, end):
        there.start(LAB, SEND, end, points=24, seconds=1).communicate()
        there.wait_until_no_ssh()
        assert len(there.runs()) < 24
        assert there.execute(LAB, WAIT).endswith(f"{squares(24)}\n")
        assert there.runs() == once_each(24)

    def test_a_lab_outlasts_the_loss_of_its_connection(self, there):
        ports = "print('ports', lab._connection._tunnel.local)\n"
        at_work = there.start(
            LAB, ports, SEND, "assert lab.wait(60)\n", ports, WAIT, points=40, seconds=1
        )
        there.wait_for_runs(6)
        # ssh dies
        there.lap.end("BatchMode")
        there.wait_for_runs(12)
        # the network is gone for longer than ssh waits
        there.lap.pull_cable()
        time.sleep(12)
        there.lap.put_cable_back()
        out, _ = at_work.communicate(timeout=60)
        assert out.endswith(f"{squares(40)}\n"), out
        assert "trying again until it is back" in out
        assert "profile shadow is back" in out
        first, last = (line for line in out.splitlines() if line.startswith("ports"))
        assert first == last, "whoever knows the ports may go on"
        assert there.runs() == once_each(40)
        there.wait_until_no_ssh()

    def test_a_lab_outlasts_an_ssh_that_hangs_and_a_loss_while_it_sends(self, there):
        at_work = there.start(LAB, SEND, WAIT, points=900, seconds=0.01, timeout=90)
        there.wait_for_runs(1)
        there.lap.pull_cable()
        time.sleep(3)
        there.lap.put_cable_back()
        for number in there.lap.processes("BatchMode"):
            os.kill(number, signal.SIGSTOP)
        out, _ = at_work.communicate(timeout=120)
        assert out.endswith(f"{squares(900)}\n"), out
        assert there.runs() == once_each(900)
        there.wait_until_no_ssh()

    def test_a_lab_outlasts_the_sleep_of_its_laptop(self, there):
        at_work = there.start(LAB, SEND, WAIT, points=48, seconds=1)
        there.wait_for_runs(6)
        asleep = there.lap.processes("at_the_desk", "BatchMode", "labkit-tunnel")
        assert len(asleep) >= 3
        for number in asleep:
            os.kill(number, signal.SIGSTOP)
        there.lap.pull_cable()
        time.sleep(12)
        there.lap.put_cable_back()
        # what looks after a command on a machine stops with it
        for number in (*asleep, at_work.pid):
            os.kill(number, signal.SIGCONT)
        out, _ = at_work.communicate(timeout=60)
        assert out.endswith(f"{squares(48)}\n"), out
        assert there.runs() == once_each(48)
        there.wait_until_no_ssh()

    def test_what_is_there_can_be_read_without_a_network(self, there):
        at_work = there.start(
            LAB,
            SEND,
            "while not len(lab.dataframe()): time.sleep(0.1)\n"
            "print('begun', flush=True)\n"
            "while lab._connection.is_open: len(lab.dataframe())\n"
            "print(len(lab.dataframe()) > 0)\n"
            "lab.close()\n",
            seconds=2,
        )
        assert at_work.stdout.readline() == "begun\n"
        there.lap.pull_cable()
        out, _ = at_work.communicate(timeout=60)
        assert out.endswith("True\n"), out
        there.lap.put_cable_back()
        assert there.execute(LAB, WAIT).endswith(f"{squares(12)}\n")
        assert there.runs() == once_each(12)

    def test_without_a_network_a_new_lab_says_so(self, there):
        there.lap.pull_cable()
        assert "root@ctl cannot be reached" in refused(there)


# ---------- tunnels ----------


def test_no_tunnel_outlives_what_it_is_for(desk):
    there = desk()
    there.lap.end("ipcluster")
    out = there.execute(
        """
import gc, multiprocessing, subprocess
def tunnels():
    lines = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    return sum(line.startswith("ssh ") for line in lines.splitlines())
lab = labkit.ClusterLab(profile="shadow")
child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,), daemon=True)
child.start()
print(tunnels(), lab.numberOfEngines())
del lab
gc.collect()
print(tunnels())
lab = labkit.ClusterLab(profile="shadow")
child.kill()
"""
    )
    assert out.splitlines() == ["1 4", "0"]
    there.wait_until_no_ssh()


# ---------- a controller's machine that is switched off ----------

#: A lab that goes on when its cluster was started again, which it cannot do itself.
PERSIST = """
while True:
    try:
        assert lab.wait(60)
        break
    except labkit.ClusterError:
        time.sleep(0.2)
"""

#: How often an engine listens in vain; by default for 50 seconds.
IMPATIENT = "\nc.IPEngine.max_heartbeat_misses = 4\nc.IPEngine.timeout = 2\n"


@pytest.mark.parametrize("encryption", ["", "encryption: yes\n"])
def test_labs_finish_when_the_controllers_machine_was_rebooted(desk, bed, encryption):
    there = desk(encryption, starts=False)
    running = there.running
    assert running.told("start")["is_whole"]
    there.shadow()
    # one lab has left, and one stays
    left = Desk(running, bed["ctl"], ran="ran-too")
    left.execute(LAB.replace("shadow", "cluster"), SEND, "lab.close()\n", points=40)
    at_work = there.start(LAB, SEND, PERSIST, WAIT, points=60)
    # what was sent first has run for five seconds; the controller writes its database every two
    there.wait_for_runs(1)
    file = bed["lap"].folder / "home/.ipython/profile_shadow/security/ipcontroller-client.json"
    before = file.read_text()
    bed["ctl"].power_off()
    bed["ctl"].boot()
    bed["ctl"].wait()
    assert running.told("start")["is_whole"]
    out, _ = at_work.communicate(timeout=60)
    assert out.endswith(f"{squares(60)}\n"), out
    assert set(there.runs()) == set(range(60))
    out = left.execute(
        LAB.replace("shadow", "cluster"),
        "lab.wait(60)\n"
        "there = len(lab.dataframe())\n"
        "lab['x'] = range(40)\nlab['s'] = 0.5\n"
        "lab.runExperiment(Work(), only='missing')\n",
        WAIT.replace("print(", "print(there, "),
    )
    rescued, _, found = out.splitlines()[-1].partition(" ")
    assert found == squares(40)
    assert int(rescued) > 0, "what was finished before is in the controller's database"
    there.lap.execute("labkit", "profile", "refresh", "shadow")
    assert file.read_text() == before
    for host in ("h1", "h2"):
        assert len(bed[host].processes("ipyparallel.engine ")) == 2


def test_engines_do_not_outlive_a_controllers_machine(cluster, bed):
    running = cluster(INVENTORY, shared=False)
    profile = bed["ctl"].folder / "home/.ipython/profile_cluster/ipengine_config.py"
    profile.write_text(profile.read_text() + IMPATIENT)
    assert running.told("start")["is_whole"]
    bed["ctl"].power_off()
    deadline = time.monotonic() + 30
    while left := [*bed["h1"].processes(*WORDS), *bed["h2"].processes(*WORDS)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)
    bed["ctl"].boot()
    bed["ctl"].wait()
    assert "has died: labkit cluster restart" in running.labkit("status", exits=2)
    assert running.told("start")["is_whole"]
    running.labkit("stop")
    assert running.left() == []


# ---------- what does not answer ----------


SLOWLY = """
import socket, sys, time
time.sleep(2)
reached = socket.create_connection((sys.argv[1], int(sys.argv[2])))
socket.send_fds(socket.socket(fileno=1), [b"."], [reached.fileno()])
"""


@contextlib.contextmanager
def slow_logins(lap):
    """Have each login to ctl take two seconds more."""
    slowly = lap.folder / "slowly.py"
    slowly.write_text(SLOWLY)
    config = lap.folder / "home/.ssh/config"
    before = config.read_text()
    proxy = f"ProxyUseFdpass yes\n ProxyCommand {python('')[0]} {slowly} %h %p"
    config.write_text(f"Host ctl\n {proxy}\n{before}")
    try:
        yield
    finally:
        config.write_text(before)


def test_a_stale_a_foreign_and_a_useless_connection_file(desk):
    there = desk()
    file = there.lap.folder / "home/.ipython/profile_shadow/security/ipcontroller-client.json"
    right = json.loads(file.read_text())
    file.write_text(json.dumps({**right, "key": "another"}))
    assert "is not that of the cluster" in refused(there)
    with slow_logins(there.lap):
        assert "is not that of the cluster" in refused(there)
    file.write_text("{")
    assert "is no connection file" in refused(there)
    file.write_text(json.dumps(right))
    os.kill(there.running.bed["ctl"].root("ipyparallel.controller"), signal.SIGSTOP)
    assert "does not answer, though its connection file is there" in refused(there)
    for name in ("ctl", "h1", "h2"):
        there.running.bed[name].end(*WORDS)
    there.running.wait_until_gone()
    there.running.on_ctl("sh", "-c", "rm -f ~/.ipython/profile_cluster/*/*.json")
    assert "does not run on root@ctl; start it there" in refused(there)
    there.running.start()
    there.running.ask("print(0)", 4)
    assert refused(there).endswith("labkit profile refresh shadow")
    there.lap.execute("labkit", "profile", "refresh", "shadow")
    assert there.execute(LAB, SEND, WAIT, seconds=0.01).endswith(f"{squares(12)}\n")
