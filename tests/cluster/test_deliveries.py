"""Environments that hosts get from wheels, ``python: bundle``, on real machines."""

import json
import os
import re
import signal
import sys
import textwrap
import time
from pathlib import Path

import pytest

from .machines import CONTROLLER
from .testbed import ROOT, python

#: An interpreter that has no packages itself; machines see the whole disk.
BASE = getattr(sys, "_base_executable", sys.executable)

#: Wheels are packed once for all runs of these tests, as kernels are compiled.
CACHE = {"LABKIT_CACHE": str(ROOT / ".cache" / "labkit")}

HERE = "{}.{}".format(*sys.version_info)

#: An experiment that tells by what it is run, and has something to import.
LAB = """
import json, sys
import labkit

class Where(labkit.Experiment):
    def do(self, params):
        import iniconfig, numba, os
        return {"where": json.dumps([os.uname().nodename, sys.prefix, iniconfig.__file__])}

if __name__ == "__main__":
    with labkit.ClusterLab(profile="cluster") as lab:
        lab["x"] = range(4)
        lab.runExperiment(Where())
        lab.wait()
        print(json.dumps(lab.dataframe()["where"].tolist()))
"""


def interpreter(path, code):
    """Write an interpreter that executes some code before all else."""
    lines = ("#!/bin/sh", "shift; code=$1; shift", f'exec {BASE} -c "{code}; $code" "$@"', "")
    path.write_text("\n".join(lines))
    path.chmod(0o755)
    return path


#: Executes a command at a terminal.
AT_A_TERMINAL = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"


def wait_for_restarts(running, hosts):
    """Wait until the engines of some hosts were started again, and have come."""
    deadline = time.monotonic() + 60
    while True:
        found = running.told("status", exits=None)
        if {each["host"] for each in found if each["registered"] and each["restarts"]} == hosts:
            return
        assert time.monotonic() < deadline, found
        time.sleep(0.2)


# the wheels are packed when these tests run for the first time
@pytest.mark.timeout(400)
def test_a_cluster_on_hosts_that_have_nothing_but_python(cluster, bed):
    bare = interpreter(bed.folder / "python-bare", "import sys; sys.modules['venv'] = None")
    old = interpreter(bed.folder / "python-old", "import sys; sys.version_info = (3, 9, 2)")
    running = cluster(
        f"{CONTROLLER}packages: iniconfig\n"
        # in memory, and gone with the machine
        f"defaults: {{engines: 1, python: 'bundle:{BASE}', env: {{LABKIT_CACHE: /tmp/labkit}}}}\n"
        f"hosts:\n  ctl:\n  h1:\n  h2: {{python: 'bundle:{bare}'}}\n"
        f"  h3: {{python: 'bundle:{old}'}}\n",
        shared=False,
    )
    running.environment |= CACHE
    # no way to any index
    assert "default" not in bed["h1"].execute("ip", "route")
    doctor = ("labkit", "doctor", "--profile", "cluster")
    told = running.on_ctl(*doctor, exits=1)
    assert "h1          environment  ok  is made when the cluster starts" in told
    assert "h2          environment  --  " in told
    assert " is Python 3.9.2, and engines need " in told

    start = ("labkit", "cluster", "start", "--profile", "cluster")
    terminal = (sys.executable, "-c", AT_A_TERMINAL)
    text = running.on_ctl(*terminal, *start, timeout_s=300, exits=1)
    # what goes on, and then the table
    progress, _, table = text.partition("host  wanted  there")
    told = [line for line in progress.splitlines() if not line.startswith("packing ")]
    assert [re.sub(r"[\d.]+ ", "N ", line) for line in told] == [
        "h1: gets N wheels, N MB",
        "h1: makes an environment of what it has got",
        "h1: has its environment, after N s",
    ]
    assert " MB, and an environment of them, in " in table
    (sent,) = [line for line in table.splitlines() if " wheels, " in line]
    assert sent.startswith("h1: has got ")
    assert f"h2: {BASE} has no module venv: install python3-venv there, or say" in text
    assert f"h3: {BASE} is Python 3.9.2, and engines need {HERE}, as here: install" in text
    assert "2 engines, 2 of 4 hosts whole" in text

    environments = f"/tmp/labkit/environments/python{HERE}-"
    script = running.folder / "where.py"
    script.write_text(LAB)
    points = json.loads(running.on_ctl(sys.executable, script).splitlines()[-1])
    for host, prefix, package in map(json.loads, points):
        # on the controller's machine, what started the cluster has all of it
        assert prefix.startswith(environments if host == "h1" else sys.prefix)
        assert package.startswith(prefix)
    assert "h1" in {json.loads(point)[0] for point in points}

    # again, after a death, and one more: nothing is sent
    os.kill(min(bed["h1"].processes("ipyparallel.engine ")), signal.SIGKILL)
    os.kill(min(bed["ctl"].processes("ipyparallel.engine ")), signal.SIGKILL)
    wait_for_restarts(running, {"ctl", "h1"})
    assert running.told("scale", "h1=2")["hosts"][0]["delivery"] is None
    lines = bed["h1"].processes("ipyparallel.engine ").values()
    assert [line.startswith(environments) for line in lines] == [True] * 2
    # nobody is at a terminal: nothing but JSON
    again = running.told("restart", exits=1)
    assert [host["delivery"] for host in again["hosts"]] == [None] * 4
    assert "h1          environment  ok  is there" in running.on_ctl(*doctor, exits=1)
    running.labkit("stop")
    running.wait_until_gone()
    bed["h1"].execute("rm", "-r", "/tmp/labkit")


def test_packages_that_are_not_here_keep_off_only_those_that_are_to_get_them(cluster):
    running = cluster(
        f"{CONTROLLER}packages: no-such-package\ndefaults: {{engines: 1, python: bundle}}\n"
        "hosts:\n  ctl:\n  h1:\n"
    )
    told = "the inventory requires no-such-package, which is not installed here: pip install"
    assert f"h1          environment  --  {told}" in running.on_ctl(
        "labkit", "doctor", "--profile", "cluster", exits=1
    )
    text = running.labkit("start", exits=1)
    assert f"h1: {told}" in text
    assert "1 engine, 1 of 2 hosts whole" in text
    running.labkit("stop")


# ---------- a small environment, so that it can be sent often ----------

SEND = """
import json, sys, threading
from labkit.cluster import deliveries
from labkit.cluster.links import Links
from labkit.errors import ClusterError

deliveries._ALWAYS, deliveries._IMPORTS = ("requests",), ("requests",)

def send(*hosts, limit_s=30, environment={}, python="bundle:BASE"):
    told = {"python": python, "environment": environment}
    links = Links(dict.fromkeys(hosts, told), [], "python3")
    supplier = deliveries.Supplier(links, [], limit_s)
    def work(host):
        try:
            return supplier.deliver(host, environment).wheels
        except ClusterError as e:
            return str(e)
    return links.at_once(work, hosts)
""".replace("BASE", BASE)

#: ``requests`` and what it requires.
WHEELS = 5


@pytest.fixture
def begin(bed):
    """Have ctl begin to send hosts an environment; code may change how before."""

    def begun(*hosts, code="", **settings):
        lines = [SEND, textwrap.dedent(code), f"found = send(*{hosts!r}, **{settings!r})"]
        call = "\n".join([*lines, "print(json.dumps(found))"])
        return bed["ctl"].start(*python(call), **CACHE)

    yield begun
    for machine in bed.machines.values():
        machine.execute("sh", "-c", "rm -rf ~/.cache/labkit")


@pytest.fixture
def send(begin):
    """Have ctl send hosts an environment; return how many wheels each got, or why none."""

    def sent(*hosts, **settings):
        out, _ = begin(*hosts, **settings).communicate(timeout=60)
        return json.loads(out.splitlines()[-1])

    return sent


def there(bed, folder):
    """Return what is there of wheels, or of environments."""
    return (
        bed["h1"].execute("sh", "-c", f"ls -A ~/.cache/labkit/{folder} 2>/dev/null; true").split()
    )


def wait_until(condition, timeout_s=60):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


#: The third wheel does not come to its end, until the connection has.
BROKEN = """
import time
whole = deliveries.Channel.send_file
def send_file(self, path):
    if path.name.startswith("idna"):
        self._ssh.stdin.write(b'{"name": "idna", "size": 1000}\\n0123456789')
        self._ssh.stdin.flush()
        while self._ssh.poll() is None:
            time.sleep(0.05)
    return whole(self, path)
deliveries.Channel.send_file = send_file
"""


def test_a_transfer_that_breaks_off_leaves_only_what_is_whole(send, bed):
    (why,) = send("h1", code=BROKEN, limit_s=10).values()
    assert why.startswith("h1: its environment was not there after 10 s: start again")
    wait_until(lambda: "unfinished" not in str(there(bed, "wheels")))
    begun = sorted(name.partition("-")[0] for name in there(bed, "wheels"))
    assert begun == ["certifi", "charset_normalizer"]
    assert there(bed, "environments") == [".lock"]
    assert send("h1") == {"h1": WHEELS - 2}
    assert send("h1") == {"h1": 0}


def test_what_a_kill_leaves_is_tidied(begin, send, bed):
    sender = begin("h1", code=BROKEN)
    wait_until(lambda: "unfinished" in str(there(bed, "wheels")) and len(there(bed, "wheels")) == 3)
    bed["h1"].end("labkit-")
    out, _ = sender.communicate(timeout=60)
    assert '"h1": "h1: ' in out
    assert "unfinished" in str(there(bed, "wheels"))
    assert send("h1") == {"h1": WHEELS - 2}
    assert len(there(bed, "wheels")) == WHEELS
    assert len(there(bed, "environments")) == 2


def test_hosts_that_share_a_folder_are_sent_it_once(send, bed, tmp_path):
    cache = {"LABKIT_CACHE": str(bed.folder / tmp_path.name)}
    counts = send("h1", "h2", "h3", environment=cache)
    assert sorted(counts.values()) == [0, 0, WHEELS]


def test_hosts_that_share_a_folder_and_have_python_elsewhere(send, bed, tmp_path):
    bed["h1"].execute("sh", "-c", f"mkdir /tmp/py && mount --bind {sys.base_prefix} /tmp/py")
    own = f"bundle:/tmp/py/bin/{Path(BASE).resolve().name}"
    folder = bed.folder / tmp_path.name
    cache = {"LABKIT_CACHE": str(folder)}
    try:
        assert send("h1", environment=cache, python=own) == {"h1": WHEELS}
        (used,) = folder.glob("environments/python*")
        number = used.stat().st_ino
        # there is nothing at /tmp/py
        assert send("h2", environment=cache) == {"h2": 0}
        assert used.stat().st_ino == number, "h1 may use it"
        assert len(list(folder.glob("environments/python*"))) == 2
    finally:
        bed["h1"].execute("sh", "-c", "umount /tmp/py && rmdir /tmp/py")


def test_what_changes_is_sent_and_the_rest_stays(send, bed):
    assert send("h1") == {"h1": WHEELS}
    assert send("h1", code="deliveries._ALWAYS = ('requests', 'iniconfig')") == {"h1": 1}
    assert len(there(bed, "environments")) == 3
    found = bed["h1"].execute(
        "sh", "-c", "cd ~/.cache/labkit && stat -c %h wheels/idna-*/idna/core.py"
    )
    # the files of both are links to one
    assert found.strip() == "3"


def test_commands_of_packages_are_there(send, bed):
    send("h1")
    command = f"~/.cache/labkit/environments/python{HERE}-*/bin/normalizer"
    assert "Charset-Normalizer" in bed["h1"].execute("sh", "-c", f"{command} --version")


def test_an_environment_that_does_not_work_is_none(send, bed):
    (why,) = send("h1", code="deliveries._IMPORTS = ('requests', 'no_such')").values()
    assert why.startswith("h1: what was sent does not work there, status 1:\n  Traceback")
    assert why.endswith("\n  ModuleNotFoundError: No module named 'no_such'")
    assert there(bed, "environments") == [".lock"]


def test_a_disk_that_is_full(send, bed):
    bed["h1"].execute("sh", "-c", "mkdir -p ~/small && mount -t tmpfs -o size=64k tmpfs ~/small")
    try:
        (why,) = send("h1", environment={"LABKIT_CACHE": "~/small"}).values()
    finally:
        bed["h1"].execute("sh", "-c", "umount ~/small")
    assert "No space left on device" in why


def test_what_is_built_for_other_machines_is_not_sent(send, bed):
    code = "deliveries.sysconfig.get_config_var = lambda name: 'cpython-311-sparc'"
    (why,) = send("h1", code=code).values()
    assert why.startswith(f"h1: {BASE} is cpython-")
    assert "and the packages are for cpython-311-sparc: say python: bundle:/path/" in why
    assert there(bed, "wheels") == []


def test_an_environment_whose_python_has_gone_is_made_again(send, bed):
    send("h1")
    bed["h1"].execute("sh", "-c", "ln -sfn /gone ~/.cache/labkit/environments/python*/bin/python")
    assert send("h1") == {"h1": 0}
    command = f"~/.cache/labkit/environments/python{HERE}-*/bin/python -c 'import requests'"
    bed["h1"].execute("sh", "-c", command)
