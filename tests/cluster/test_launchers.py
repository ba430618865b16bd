"""labkit's launcher, on real machines."""

import json
import os
import signal
import sys
import time

import pytest

from .machines import CONTROLLER, DEFAULTS, STOP_S
from .testbed import OTHER, OTHERS_KEY, PORTS, ROOT

HOSTNAME = "os.uname().nodename"
TWO = f"{CONTROLLER}defaults: {{{DEFAULTS}, engines: 2}}\nhosts:\n  h[1-2]:\n"

RUN = """
import json, sys
import {package}

class Square({package}.Experiment):
    def do(self, params):
        return {{"area": params["x"] ** 2}}

if __name__ == "__main__":
    lab = {package}.ClusterLab(profile="cluster")
    # how often epyc looks
    lab.WaitingTime = 1
    lab["x"] = range(6)
    lab.runExperiment(Square())
    lab.wait()
    print(json.dumps(sorted(int(a) for a in lab.dataframe()["area"])))
"""


def assert_refused(running, bed, **wrong):
    """Start an engine that has the controller's file, but for a key."""
    file = running.folder / "ipython/profile_cluster/security/ipcontroller-engine.json"
    told = {**json.loads(file.read_text()), **wrong}
    words = sys.executable, "-m", "ipyparallel.engine", "--IPEngine.timeout=2"
    out = bed["h3"].execute(*words, exits=255, IPP_CONNECTION_INFO=json.dumps(told))
    assert "Registration timed out" in out


@pytest.mark.parametrize("shared", [True, False])
def test_engines_come_on_all_hosts_but_the_dead_ones(cluster, bed, shared):
    running = cluster(TWO + "  h9:\n", shared=shared)
    running.start()
    assert sorted(running.each(HOSTNAME, 4)) == ["h1", "h1", "h2", "h2"]
    assert "no engines on h9: ssh: Could not resolve hostname h9" in running.log()
    assert "4 engines on 2 of 3 hosts" in running.log()
    logs = "ls ~/.ipython/profile_cluster/log 2>/dev/null; true"
    own = bed["h1"].execute("sh", "-c", logs).split()
    assert own == ([] if shared else ["ipengine-h1-0.out", "ipengine-h1-1.out"])
    if shared:
        assert_refused(running, bed, key="0" * 36)
    os.kill(min(bed["h1"].processes("ipyparallel.engine ")), signal.SIGKILL)
    running.wait_for_log(" ended with status -9; it is started again in 1 s; log ")
    assert running.stop() < STOP_S
    running.wait_until_gone()


def test_labs_of_labkit_and_epyc_find_it_by_its_name(cluster):
    running = cluster(TWO, shared=False)
    running.start()
    assert len(running.each(HOSTNAME, 4)) == 4
    for package in ("labkit", "epyc"):
        script = running.folder / f"{package}s_square.py"
        script.write_text(RUN.format(package=package))
        out = running.on_ctl(sys.executable, script)
        assert out.splitlines()[-1] == "[0, 1, 4, 9, 16, 25]"
    # the hands beside the engines, too
    assert any("labkit.engine" in line for line in running.left())
    running.stop()
    running.wait_until_gone()


PACKED = """
import json
import labkit
from areas import area
from labkit.engine.store import complete
from labkit.labs.delivery import _Delivery

class Square(labkit.Experiment):
    def do(self, params):
        return {"area": area(params["x"])}

def send(delivery, function, arguments):
    sent.append(function)
    real(delivery, function, arguments)

if __name__ == "__main__":
    sent, real = [], _Delivery._send
    _Delivery._send = send
    lab = labkit.ClusterLab(profile="cluster")
    for points in (range(6), range(6, 12)):
        lab["x"] = points
        lab.runExperiment(Square())
        lab.wait()
    print(json.dumps([sorted(lab.dataframe()["area"]), sent.count(complete)]))
"""


def test_a_local_package_is_sent_once_to_each_host(cluster, bed):
    running = cluster(TWO, shared=False)
    running.start()
    assert len(running.each(HOSTNAME, 4)) == 4
    # where engines do not look for modules
    (running.folder / "areas.py").write_text("def area(x):\n    return x**2\n")
    script = running.folder / "packed.py"
    script.write_text(PACKED)
    areas, sent = json.loads(running.on_ctl(sys.executable, script).splitlines()[-1])
    assert areas == [x**2 for x in range(12)]
    assert sent == 2
    for name in ("h1", "h2"):
        unpacked = bed[name].execute("sh", "-c", "ls -d ~/.cache/labkit/attachments/*.code")
        assert len(unpacked.split()) == 1


def test_ipyparallels_cluster_starts_it_from_python(cluster):
    running = cluster(TWO + "  h9:\n")
    code = (
        "import ipyparallel\n"
        "with ipyparallel.Cluster(profile='cluster') as client:\n"
        "    print(sorted(client[:].apply_sync(lambda: __import__('os').uname().nodename)))"
    )
    out = running.on_ctl(sys.executable, "-c", code)
    assert "['h1', 'h1', 'h2', 'h2']" in out
    running.wait_until_gone()


def test_from_python_a_start_without_engines_is_an_error(cluster):
    running = cluster(CONTROLLER + "hosts: {h8: , h9: }\n")
    code = (
        "import ipyparallel, labkit.errors\n"
        "cluster = ipyparallel.Cluster(profile='cluster')\n"
        "try:\n"
        "    cluster.start_cluster_sync()\n"
        "except labkit.errors.ClusterStartError as e:\n"
        "    print(e)\n"
        "    cluster.stop_cluster_sync()\n"
    )
    out = running.on_ctl(sys.executable, "-c", code)
    assert "no host has started an engine: h8: ssh: Could not resolve hostname h8" in out
    running.wait_until_gone()


def test_ipcluster_without_any_engine_ends(cluster):
    running = cluster(CONTROLLER + "hosts: {h8: , h9: }\n")
    running.start()
    running.wait_for_log("no engines on h9")
    running.wait_until_gone()


def test_settings_of_hosts(cluster, bed):
    for name in ("h1", "h2"):
        bed[name].execute(
            "sh", "-c", f"mkdir -p ~/work ~/bin; ln -sf {sys.executable} ~/bin/python"
        )
    running = cluster(
        CONTROLLER + "defaults: {user: root, engines: 1, threads_per_engine: 3,\n"
        f"  python: {sys.executable}, env: {{PYTHONPATH: {ROOT}, A: all}}}}\n"
        "hosts:\n"
        f"  ctl: {{}}\n"
        f"  first: {{address: h1, directory: ~/work, env: {{A: own, 'OMP_NUM_THREADS': 5}}}}\n"
        f"  h2: {{user: {OTHER}, ssh: {{jump: first, port: {PORTS[1]}, "
        f"identity: {bed.folder}/{OTHERS_KEY}}}}}\n"
        "  h3: {ssh: {jump: root@h1}, engines: cores-1}\n"
    )
    running.start()
    cores = len(os.sched_getaffinity(0))
    names = ("A", "LABKIT_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    asked = f"[{HOSTNAME}, os.getcwd(), os.environ.get('USER', ''), "
    asked += "*os.environ.get('SSH_CONNECTION', '   ').split(' ')[::3], "
    asked += ", ".join(f"os.environ['{name}']" for name in names) + "]"
    each = max(1, (cores - 1) // 3)
    home = str(bed.home)
    assert sorted(running.each(asked, 3 + each)) == [
        ["ctl", home, "", "", "", "all", "3", "3", "3"],
        ["h1", f"{home}/work", "root", "10.77.0.100", "22", "own", "3", "5", "3"],
        ["h2", home, OTHER, "10.77.0.1", str(PORTS[1]), "all", "3", "3", "3"],
        *([["h3", home, "root", "10.77.0.1", "22", "all", "3", "3", "3"]] * each),
    ]


def test_an_interpreter_in_the_home_and_at_most_so_many_engines(cluster, bed):
    for name in ("h1", "h2"):
        bed[name].execute("sh", "-c", f"mkdir -p ~/'my bin'; ln -sf {sys.executable} ~/'my bin/py'")
    running = cluster(TWO.replace(sys.executable, "~/my bin/py"), shared=False)
    running.start("--n=3")
    # where the interpreter is only linked, it does not find its packages
    running.wait_for_log("ModuleNotFoundError")
    running.wait_for_log("3 engines on 2 of 2 hosts")
    running.wait_until_gone()


def test_encryption_and_ports_and_nothing_listens_elsewhere(cluster, bed):
    running = cluster(
        TWO.replace("interface: 10.77.0.100", "interface: 10.77.0.100, ports: 20000-20019")
        + "encryption: yes\n"
    )
    running.start()
    assert sorted(running.each(HOSTNAME, 4)) == ["h1", "h1", "h2", "h2"]
    found, *on_hosts = running.ask(
        f"""
        def listening():
            import psutil
            return sorted(
                (c.laddr.ip, c.laddr.port)
                for c in psutil.net_connections("inet")
                if c.status in (psutil.CONN_LISTEN, psutil.CONN_NONE)
                and c.laddr.port not in {PORTS}
            )
        print(json.dumps([listening(), *client[:].apply_sync(listening)]))
        """,
        4,
    )
    assert {address for each in on_hosts for address, _ in each} <= {"127.0.0.1"}
    far = [port for address, port in found if address == "10.77.0.100"]
    assert {address for address, _ in found} <= {"10.77.0.100", "127.0.0.1"}
    assert len(far) >= 15
    assert all(20000 <= port <= 20019 for port in far)
    files = running.folder.glob("ipython/profile_cluster/security/ipcontroller-*.json")
    assert [f.stat().st_mode & 0o077 for f in files] == [0, 0, 0]
    (roster,) = running.folder.glob("ipython/profile_cluster/pid/engines-*.json")
    assert roster.stat().st_mode & 0o077 == 0, "whoever knows a token may end engines"
    assert_refused(running, bed, curve_serverkey="0" * 39 + "1")


def test_agents_that_are_killed_and_power_cuts(cluster, bed):
    running = cluster(TWO)
    running.start()
    before = running.each("os.getpid()", 4)
    bed["h1"].end("labkit-")
    # the watcher starts them again, and a stop knows those, too
    watcher = running.folder / "ipython" / "profile_cluster" / "log" / "watcher.log"
    deadline = time.monotonic() + 90
    while "h1: all 2 engines are there" not in watcher.read_text():
        assert time.monotonic() < deadline, running.log() + watcher.read_text()
        time.sleep(0.05)
    assert len(set(running.each("os.getpid()", 4)) - set(before)) == 2
    bed["h2"].power_off()
    assert running.stop() < 10
    running.wait_until_gone()


def test_engines_outlive_their_connection_and_are_found_by_a_stop(cluster, bed):
    running = cluster(TWO)
    running.start()
    before = sorted(running.each("os.getpid()", 4))
    bed["h1"].end("root@notty")
    running.wait_for_log("h1: the connection has ended; its engines may go on")
    # the one that has started the cluster is killed, too, and no ssh stays behind
    bed["ctl"].end("ipcluster start")
    deadline = time.monotonic() + 10
    while bed["ctl"].processes("BatchMode"):
        assert time.monotonic() < deadline, "ssh stays"
        time.sleep(0.05)
    assert sorted(running.each("os.getpid()", 4)) == before
    assert running.stop() < STOP_S
    running.wait_until_gone()


def test_hosts_with_another_key_or_without_python_are_told(cluster, bed):
    known = bed.folder / "known_hosts"
    right = known.read_text()
    wrong = right.replace("\nh2,", "\nx,").replace("\nh3,", "\nh2,h3,")
    try:
        known.write_text(wrong)
        running = cluster(TWO + "  h3: {python: /no/python}\n")
        running.start()
        assert running.each(HOSTNAME, 2) == ["h1", "h1"]
    finally:
        known.write_text(right)
    assert "no engines on h2: Host key verification failed." in running.log()
    assert "/no/python: No such file or directory" in running.log()


def test_stock_needs_no_labkit(cluster):
    inventory = TWO.replace("engines: 2", "engines: 1").replace("h[1-2]", "h1")
    running = cluster(inventory, "--stock")
    assert "labkit.cluster" not in "".join(
        p.read_text() for p in running.folder.glob("ipython/profile_cluster/*.py")
    )
    running.start()
    assert running.each(HOSTNAME, 1) == ["h1"]


def test_a_controller_that_was_killed_leaves_no_family(cluster, bed):
    running = cluster(TWO)
    running.start()
    running.each(HOSTNAME, 4)
    # the first one is the controller, the others are its schedulers
    os.kill(bed["ctl"].root("ipyparallel.controller"), signal.SIGKILL)
    running.wait_until_gone(20)
