"""``labkit.Cluster`` and ``labkit cluster``, on real machines."""

import json
import os
import shutil
import signal
import sys
import time
from collections import Counter

import pytest

from .machines import CONTROLLER, DEFAULTS, STOP_S
from .testbed import ROOT

TWO = f"{CONTROLLER}defaults: {{{DEFAULTS}, engines: 2}}\nhosts:\n  h[1-2]:\n"

#: Sends the engines of the profile tasks, which wait for a file and then take a while; waits
#: until engines have them, and not for their ends.
SEND = """
import ipyparallel, time

def nap(file):
    import os, time
    while not os.path.exists(file):
        time.sleep(0.1)
    time.sleep(3)

client = ipyparallel.Client(profile="cluster")
client.load_balanced_view().map_async(nap, [{file!r}] * {count})
while sum(client.queue_status(number)["tasks"] for number in client.ids) < {count}:
    time.sleep(0.05)
client.close()
"""

#: An experiment whose lab tells when it has begun, and what has come of it.
SLOW = """
import json, os, pathlib, sys, time
import labkit

class Slow(labkit.Experiment):
    def do(self, params):
        time.sleep(0.2)
        return {"square": params["x"] ** 2}

if __name__ == "__main__":
    with labkit.ClusterLab(labkit.SQLiteLabNotebook(sys.argv[1]), profile="cluster") as lab:
        lab["x"] = range(100)
        lab.runExperiment(Slow())
        pathlib.Path(sys.argv[1] + ".begun").touch()
        while True:
            try:
                lab.wait()
                break
            except labkit.ClusterError:
                time.sleep(0.5)
        print(json.dumps(sorted(int(square) for square in lab.dataframe()["square"])))
"""


def hosts_of(status):
    """Return how many engines do well, by host."""
    return Counter(each["host"] for each in status if each["alive"] and each["registered"])


def wait_for(condition, timeout_s=60):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def missing_in(status):
    """Return the hosts that lack engines, and whether these live as far as is known."""
    return {each["host"]: each["alive"] for each in status if not each["alive"]}


def send(cluster, file, count):
    cluster.on_ctl(sys.executable, "-c", SEND.format(file=str(file), count=count))


class Sweep:
    """A lab that runs on ctl meanwhile."""

    def __init__(self, cluster, name="slow"):
        script, notebook = cluster.folder / f"{name}.py", cluster.folder / f"{name}.db"
        script.write_text(SLOW)
        begin = cluster.bed["ctl"].start
        self._process = begin(sys.executable, script, str(notebook), **cluster.environment)
        wait_for(cluster.folder.joinpath(f"{name}.db.begun").exists)

    def assert_whole(self):
        out, _ = self._process.communicate(timeout=90)
        assert out.splitlines()[-1] == json.dumps([x * x for x in range(100)]), out


@pytest.fixture
def two(cluster):
    """Return a cluster of two hosts with two engines each that runs."""
    running = cluster(TWO)
    told = running.told("start")
    assert told["is_whole"]
    return running


def test_start_status_wait_and_stop(two, bed):
    status = two.told("status")
    assert hosts_of(status) == {"h1": 2, "h2": 2}
    assert sorted(each["id"] for each in status) == [0, 1, 2, 3]
    assert len(bed["h1"].processes("ipyparallel.engine ")) == 2
    assert "h1         0" in two.labkit("status")
    two.labkit("wait", "--engines", "4", "--timeout", "1")
    out = two.labkit("wait", "--engines", "5", "--timeout", "0.5", exits=2)
    assert "cluster, after 0.5 s: 4 of 5 engines are there" in out
    file = two.folder / "go on"
    send(two, file, 4)
    assert "tasks are waiting or running" in two.labkit("wait", "--idle", "--timeout=0", exits=2)
    assert sum(each["busy"] for each in two.told("status")) == 4
    file.touch()
    two.labkit("wait", "--idle", "--timeout", "60")
    assert sum(each["done"] for each in two.told("status")) == 4
    began = time.monotonic()
    assert "cluster has stopped, and nothing of it runs" in two.labkit("stop")
    assert time.monotonic() - began < STOP_S
    assert two.left() == []


def versions(folder, **packages):
    """Return a folder that makes a host believe that it has these versions."""
    for name, version in packages.items():
        place = folder / f"{name}-{version}.dist-info"
        place.mkdir(parents=True)
        place.joinpath("METADATA").write_text(f"Name: {name}\nVersion: {version}\n")
    return folder


def test_hosts_that_cannot_are_told_and_the_others_run(cluster, bed):
    broken = bed.folder / "broken"
    broken.mkdir(exist_ok=True)
    (broken / "ipyparallel.py").write_text("raise ImportError('one must have it')")
    slow = bed.folder / "slow-python"
    slow.write_text(f'#!/bin/sh\nsleep 3; exec {sys.executable} "$@"\n')
    slow.chmod(0o755)
    old = versions(bed.folder / "old", labkit="0.0.1")
    older = versions(bed.folder / "older", ipyparallel="8.8.0")
    odd = versions(bed.folder / "odd", numpy="1.26.4", ipyparallel="9.99.0")
    running = cluster(
        TWO + f"  h9:\n  late: {{address: h3, engines: 1, python: {slow}}}\n"
        "  none: {address: h3, python: /no/python}\n"
        f"  lame: {{address: h3, env: {{PYTHONPATH: {broken}}}}}\n"
        f"  old: {{address: h3, env: {{PYTHONPATH: {old}}}}}\n"
        f"  older: {{address: h3, env: {{PYTHONPATH: {older}}}}}\n"
        f"  odd: {{address: h3, engines: 1, env: {{PYTHONPATH: {odd}:{ROOT}}}}}\n"
    )
    out = running.labkit("start", exits=1)
    assert "h9: ssh: Could not resolve hostname h9" in out
    assert "/no/python: No such file or directory" in out
    assert "lame: engine 0 ended with status 1; it had not registered, and is not started" in out
    assert "ImportError: one must have it" in out
    assert "old: labkit 0.0.1 is there, and " in out
    assert "older: ipyparallel 8.8.0 is there, and " in out
    # what need not matter is told, too
    assert "odd: ipyparallel 9.99.0 is there, and " in out
    assert "odd: numpy 1.26.4 is there, and " in out
    assert "6 engines, 4 of 9 hosts whole" in out
    assert out.splitlines()[0].split() == ["host", "wanted", "there", "seconds"]
    assert ["h9", "2", "0", "-"] in map(str.split, out.splitlines())
    status = running.told("status", exits=1)
    assert hosts_of(status) == {"h1": 2, "h2": 2, "late": 1, "odd": 1}
    # of a host that was not reached, nobody knows; but the watcher may just be trying it again
    expected = {"h9": None, "none": None, "lame": False, "old": None, "older": None}
    wait_for(lambda: missing_in(running.told("status", exits=1)) == expected)
    logs = running.told("logs", "lame", "--lines=1")["lame"].values()
    assert ["ImportError: one must have it"] in logs
    assert "no host lamé; did you mean lame?" in running.labkit("logs", "lamé", exits=2)
    running.labkit("stop")
    assert running.left() == []


def test_errors_say_what_to_do(two, bed):
    out = two.on_ctl("labkit", "cluster", "start", "--profile", "clutser", exits=2)
    assert "there is no profile clutser" in out
    assert "did you mean cluster?" in out
    out = two.labkit("start", exits=2)
    assert "a cluster with the profile cluster runs already: labkit cluster stop" in out
    assert hosts_of(two.told("status")) == {"h1": 2, "h2": 2}
    controllers = bed["ctl"].processes("ipyparallel.controller")
    for pid in controllers:
        os.kill(pid, signal.SIGSTOP)
    assert "does not answer" in two.labkit("status", exits=2)
    for pid in controllers:
        os.kill(pid, signal.SIGKILL)
    for command in ("status", "wait"):
        assert "has died: labkit cluster restart" in two.labkit(command, exits=2)
    # the watcher ends with the controller
    wait_for(lambda: not bed["ctl"].processes("labkit.cluster"))
    # a start goes on where it was, and leaves nothing of it behind
    assert two.told("start")["is_whole"]
    assert hosts_of(two.told("status")) == {"h1": 2, "h2": 2}
    assert len(bed["h1"].processes("ipyparallel.engine ")) == 2
    two.labkit("stop")
    assert two.left() == []
    for command in ("status", "stop", "restart"):
        out = two.labkit(command, exits=2)
        assert "no cluster runs with the profile cluster; labkit cluster start" in out


def test_a_cluster_file_that_is_stale_damaged_or_of_another_machine(two, bed):
    file = two.folder / "ipython" / "profile_cluster" / "security" / "cluster-.json"
    told = json.loads(file.read_text())
    # the controller's number belongs to another process now
    told["controller"]["state"]["pid"] = 1
    told["engines"]["sets"] = {}
    kept = file.read_text()
    file.write_text(json.dumps(told))
    assert "runs with the profile cluster any more" in two.labkit("status", exits=2)
    file.write_text("{")
    assert "is damaged" in two.labkit("status", exits=2)
    file.write_text(kept)
    out = bed["h1"].execute(
        "labkit", "cluster", "status", "--profile=cluster", exits=2, **two.environment
    )
    assert "was started on ctl: look after it there" in out
    two.labkit("stop")
    assert two.left() == []


def test_from_python(cluster):
    running = cluster(TWO + "  h9:\n")
    shutil.rmtree(running.folder / "ipython")
    code = (
        "import labkit, os\n"
        f"with labkit.Cluster.from_inventory({str(running.folder / 'hosts.yaml')!r}) as client:\n"
        "    print(sorted(client[:].apply_sync(lambda: __import__('os').uname().nodename)))\n"
        "    lab = labkit.ClusterLab(profile='cluster')\n"
        "    print(lab.numberOfEngines(), [s.busy for s in client.cluster.status()])\n"
        "    lab.close()\n"
    )
    out = running.on_ctl(sys.executable, "-c", code)
    assert "['h1', 'h1', 'h2', 'h2']\n4 [False, False, False, False, False]" in out
    assert running.left() == []
    code = "import labkit\nwith labkit.Cluster(profile='cluster'): raise OSError('mine')"
    assert "OSError: mine" in running.on_ctl(sys.executable, "-c", code, exits=1)
    assert running.left() == []


def test_the_cluster_is_ipyparallels_too(two):
    out = two.on_ctl("ipcluster", "list")
    assert "cluster" in out
    assert two.stop() < STOP_S
    two.wait_until_gone()
    assert "no cluster runs" in two.labkit("status", exits=2)
    two.start()
    wait_for(lambda: "4 engines on 2 of 2 hosts" in two.log())
    two.labkit("wait", "--timeout", "60")
    assert hosts_of(two.told("status")) == {"h1": 2, "h2": 2}
    assert "was started by ipcluster" in two.labkit("restart", exits=2)
    two.labkit("stop")
    two.wait_until_gone()


def test_a_profile_of_ipyparallels_launcher(cluster):
    running = cluster(TWO.replace("h[1-2]", "h1"), "--stock")
    assert "2 engines, 1 of 1 host whole" in running.labkit("start")
    status = running.told("status", exits=None)
    assert [(each["host"], each["registered"]) for each in status] == [(None, True)] * 2
    assert "write the profile without --stock" in running.labkit("scale", "h1=1", exits=2)
    running.labkit("stop")
    running.wait_until_gone()


#: A client that stays connected while its cluster is started again.
STAY = """
import ipyparallel, json, operator, os, subprocess, time
client = ipyparallel.Client(profile="cluster")
view = client.load_balanced_view()
(message,) = view.apply_async(operator.add, 1, 2).msg_ids
client.get_result(message).get()
before = set(client[:].apply_sync(os.getpid))
{kill}
subprocess.run(["labkit", "cluster", "restart", "--profile", "cluster"], check=True)
deadline = time.monotonic() + 60
while len(client.ids) != 4 and time.monotonic() < deadline:
    time.sleep(0.1)
after = client.load_balanced_view().map_sync(operator.neg, range(4))
client.purge_local_results("all")
(known,) = client.db_query({{"msg_id": message}}, keys=["msg_id", "completed"])
print(json.dumps([len(client.ids), after, known["completed"] is not None]))
"""


@pytest.mark.parametrize("encryption", ["no", "yes"])
def test_restart_keeps_clients_and_the_database(cluster, encryption):
    running = cluster(f"{TWO}encryption: {encryption}\n")
    running.labkit("start")
    out = running.on_ctl(sys.executable, "-c", STAY.format(kill=""))
    assert json.loads(out.splitlines()[-1]) == [4, [0, -1, -2, -3], True]
    running.labkit("stop")
    assert running.left() == []
    assert not list(running.folder.glob("ipython/profile_cluster/security/ipcontroller-*.json"))


#: Kills the controller as soon as its database has on the disk what has come of the message.
KILL = """
import sqlite3
file = os.environ["IPYTHONDIR"] + "/profile_cluster/tasks.db"
tasks = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
query = 'SELECT completed FROM "ipython-tasks" WHERE msg_id = ? AND completed IS NOT NULL'
while tasks.execute(query, [message]).fetchone() is None:
    time.sleep(0.1)
tasks.close()
subprocess.run(["pkill", "-9", "-f", "-m ipyparallel.controlle[r]"])
"""


def test_restart_brings_back_a_controller_that_was_killed(two):
    out = two.on_ctl(sys.executable, "-c", STAY.format(kill=KILL))
    assert json.loads(out.splitlines()[-1]) == [4, [0, -1, -2, -3], True]


def test_a_lab_goes_on_when_its_cluster_is_started_again(two):
    sweep = Sweep(two)
    assert two.told("restart")["is_whole"]
    sweep.assert_whole()


def test_scale(two, bed):
    told = two.told("scale", "h1=3", "h2=0")
    counts = [(each["host"], each["wanted"], each["engines"]) for each in told["hosts"]]
    assert counts == [("h1", 3, 3), ("h2", 0, 0)]
    assert hosts_of(two.told("status")) == {"h1": 3}
    assert not bed["h2"].processes("labkit-", "ipyparallel")
    assert two.told("restart")["is_whole"]
    assert hosts_of(two.told("status")) == {"h1": 3}
    lines = two.labkit("scale", "h1=1", "h2=0").splitlines()
    assert lines[3].split() == ["h2", "0", "0", "-"]
    assert lines[-1].startswith("1 engine, 2 of 2 hosts whole, ")
    two.labkit("scale", "h1=1", "h2=1")
    assert hosts_of(two.told("status")) == {"h1": 1, "h2": 1}
    assert "no host h3" in two.labkit("scale", "h3=1", exits=2)
    assert "'h1=-1': write a host and a number" in two.labkit("scale", "h1=-1", exits=2)
    two.labkit("stop")
    assert two.left() == []


def test_engines_that_die_are_started_again_and_not_for_ever(cluster, bed):
    running = cluster(TWO.replace("h[1-2]", "h1") + "restarts: 1\n")
    running.labkit("start")
    first = running.told("status")

    def kill():
        os.kill(min(bed["h1"].processes("ipyparallel.engine ")), signal.SIGKILL)

    kill()
    wait_for(lambda: hosts_of(running.told("status", exits=None)) == {"h1": 2})
    status = running.told("status")
    assert sorted(each["restarts"] for each in status) == [0, 1]
    assert {each["pid"] for each in status} != {each["pid"] for each in first}
    log = "\n".join(line for tail in running.told("logs", "h1")["h1"].values() for line in tail)
    assert "engine 0 ended with status -9; it is started again in 1 s" in log
    running.labkit("scale", "h1=1")
    kill()
    wait_for(lambda: "it is not started again (restarts: 1)" in str(running.told("logs", "h1")))
    # nor by the watcher
    wait_for(lambda: "h1: its engines have died for good" in str(running.told("logs")))
    assert hosts_of(running.told("status", exits=1)) == {}
    # whoever asks for it gets it
    running.labkit("scale", "h1=2")
    assert hosts_of(running.told("status")) == {"h1": 2}


def engines_on(cluster, host):
    """Return how many engines of a host the controller knows."""
    status = cluster.told("status", exits=None)
    return sum(each["registered"] for each in status if each["host"] == host)


def test_a_host_that_is_not_reached_when_it_is_to_have_none_is_told(two, bed):
    bed["h2"].power_off()
    told = two.told("scale", "h2=0", exits=1)
    ((host, wanted, why),) = [(each["host"], each["wanted"], each["why"]) for each in told["hosts"]]
    assert (host, wanted, len(why)) == ("h2", 0, 1)


@pytest.mark.timeout(400)
def test_a_power_cut_and_a_cable_pulled_in_the_middle_of_an_experiment(two, bed):
    sweep = Sweep(two)
    bed["h2"].power_off()
    wait_for(lambda: engines_on(two, "h2") == 0)
    status = two.told("status", exits=1)
    assert {each["alive"] for each in status if each["host"] == "h2"} == {None}
    log = two.folder / "ipython/profile_cluster/log/watcher.log"
    wait_for(lambda: "h2: engines are missing, and it is out of reach: ssh: " in log.read_text())
    bed["h2"].boot()
    # nobody asks for it
    wait_for(lambda: engines_on(two, "h2") == 2, 100)
    bed["h2"].pull_the_cable()
    wait_for(lambda: engines_on(two, "h2") == 0)
    bed["h2"].plug_in()
    # its engines live, and would not register again
    wait_for(lambda: engines_on(two, "h2") == 2, 100)
    sweep.assert_whole()
    told = two.labkit("logs", "--lines=99")
    assert "h2: it is back, and 2 engines are started" in told
    # both at once, or one after the other
    assert "of its engines were lost to the controller: started anew" in told
    assert {each["restarts"] for each in two.told("status")} == {0}
    two.labkit("stop")
    assert two.left() == []


@pytest.mark.timeout(400)
def test_a_host_that_comes_late_gets_engines_and_one_that_is_not_wanted_gets_none(cluster, bed):
    bed["h3"].power_off()
    running = cluster(TWO.replace("h[1-2]", "h[1-3]"))
    running.labkit("start", exits=1)
    running.labkit("scale", "h2=0")
    bed["h1"].end("labkit-")
    # the watcher and somebody who asks for it come at once
    running.labkit("scale", "h1=2")
    bed["h3"].boot()
    wait_for(lambda: hosts_of(running.told("status", exits=None)) == {"h1": 2, "h3": 2}, 100)
    agents = {line.split()[-1] for line in bed["h1"].processes(" labkit-").values()}
    assert len(agents) == 1, "both have started some"
    assert len(bed["h1"].processes("ipyparallel.engine ")) == 2
    # who comes later finds that somebody has started it
    code = "import labkit; launcher = labkit.Cluster.running('cluster').launcher; "
    code += "print(launcher.bring_back(dict.fromkeys(['h1', 'h2', 'h3'])))"
    assert running.on_ctl(sys.executable, "-c", code) == "[]\n"
    assert not bed["h2"].processes("labkit-", "ipyparallel")
    # one that is killed while it starts hosts has not learnt the numbers of their agents
    (roster,) = running.folder.glob("ipython/profile_cluster/pid/engines-*.json")
    told = json.loads(roster.read_text())
    told["agents"] = {host: [0, *rest] for host, (_, *rest) in told["agents"].items()}
    roster.write_text(json.dumps(told))
    running.labkit("stop")
    assert running.left() == []
