"""``labkit doctor``, on real machines."""

import json
import re
import sys
from collections import defaultdict

import labkit

from .machines import CONTROLLER, DEFAULTS
from .testbed import ROOT


def examine(cluster, *, exits=0):
    """Return what the doctor says, by host and check."""
    out = cluster.on_ctl("labkit", "doctor", "--profile", "cluster", "--json", exits=exits)
    found = defaultdict(dict)
    for each in json.loads(out):
        found[each["host"]][each["check"]] = each["is_ok"], each["told"]
    return found


def test_machines_that_are_well(cluster):
    running = cluster(f"{CONTROLLER}defaults: {{{DEFAULTS}, engines: 1}}\nhosts: {{ctl: , h1: }}\n")
    found = examine(running)
    checks = ["ssh", "Python", "ipyparallel", "numpy", "numba", "labkit"]
    assert list(found["h1"]) == [*checks, "clock", "files", "ports", "threads"]
    assert list(found["ctl"]) == list(found["h1"])
    assert list(found["controller"]) == ["profile", "ssh", "ports"]
    assert found["h1"]["labkit"] == (True, labkit.__version__)
    assert found["h1"]["ports"] == (True, "reaches the controller")
    running.labkit("start")
    assert "a cluster runs, at 10.77.0.100:" in str(examine(running))
    running.labkit("stop")
    text = running.on_ctl("labkit", "doctor", "--profile", "cluster")
    assert "h1          clock        ok  as here" in text
    text = running.on_ctl("labkit", "doctor", "--profile", "cluster", "--problems")
    assert text == f"all is well: {sum(map(len, found.values()))} checks\n"


def test_machines_that_are_not(cluster, bed):
    old = bed.folder / "old"
    # what it finds there is older, and its clock is fast
    (old / "numpy-1.26.0.dist-info").mkdir(parents=True, exist_ok=True)
    (old / "numpy-1.26.0.dist-info" / "METADATA").write_text("Name: numpy\nVersion: 1.26.0\n")
    (old / "sitecustomize.py").write_text(
        "import time; t = time.time; time.time = lambda: t() + 90"
    )
    slow = bed.folder / "slow"
    slow.write_text(f'#!/bin/sh\nsleep 2; PYTHONPATH={old} exec {sys.executable} "$@"\n')
    slow.chmod(0o755)
    known = bed.folder / "known_hosts"
    right = known.read_text()
    try:
        known.write_text(right.replace("\nh3,", "\nx,"))
        running = cluster(
            f"{CONTROLLER}shared_filesystem: yes\ndefaults: {{{DEFAULTS}, engines: 1}}\nhosts:\n"
            f"  h1: {{python: {slow}, directory: ~/gone, engines: 1000, env: {{PYTHONPATH: {old}:"
            f"{ROOT}}}}}\n"
            "  h2: {python: /no/python}\n  h3:\n  h9:\n",
            shared=False,
        )
        found = examine(running, exits=1)
        words = ("labkit", "doctor", "--profile", "cluster", "--problems")
        text = running.on_ctl(*words, exits=1)
        told = json.loads(running.on_ctl(*words, "--json", exits=1))
    finally:
        known.write_text(right)
    assert found["h1"]["numpy"][1].startswith("1.26.0; install numpy==")
    is_ok, told_of_clock = found["h1"]["clock"]
    assert not is_ok
    # on its way here, what it says grows old
    late = r"(8[5-9]|90) s ahead; have both machines keep time by NTP"
    assert re.fullmatch(late, told_of_clock)
    assert found["h1"]["files"] == (False, "there is no folder ~/gone to work in; make it")
    assert found["h1"]["threads"][1].endswith("say fewer engines, or engines: cores")
    assert found["h2"]["ssh"][1].endswith("say the right python or directory in the inventory")
    remedy = "Host key verification failed; connect by hand once, or mend ~/.ssh/known_hosts"
    assert found["h3"]["ssh"][1].endswith(remedy)
    assert found["h9"]["ssh"][1].endswith("; say its address in the inventory")
    assert set(found["h9"]) == {"ssh"}
    problems = {
        (h, c) for h, checks in found.items() for c, (is_ok, _) in checks.items() if not is_ok
    }
    assert {tuple(line.split()[:2]) for line in text.splitlines()} == problems
    assert {(each["host"], each["check"]) for each in told} == problems


def test_a_folder_that_is_not_shared_and_ports_that_are_shut(cluster, bed):
    running = cluster(
        "controller: {host: ctl, interface: 127.0.0.1, ports: 20000-20017}\n"
        f"shared_filesystem: yes\ndefaults: {{{DEFAULTS}, engines: 1}}\nhosts: {{h1: }}\n",
        shared=False,
    )
    code = "import socket, time; s = socket.create_server(('', 20003)); print(1); time.sleep(60)"
    taker = bed["ctl"].start(sys.executable, "-uc", code)
    assert taker.stdout.readline() == "1\n"
    found = examine(running, exits=1)
    bed["ctl"].end("create_server")
    assert found["controller"]["ports"][1].startswith("127.0.0.1:20003: Address already in use")
    assert found["h1"]["ports"][1].startswith("127.0.0.1:20000: Connection refused; mend")
    assert found["h1"]["files"][1].endswith("mount it, or say shared_filesystem: no")


def test_a_profile_of_ipyparallels_launcher_is_refused(cluster):
    running = cluster(
        f"{CONTROLLER}defaults: {{{DEFAULTS}, engines: 1}}\nhosts: {{h1: }}\n", "--stock"
    )
    out = running.on_ctl("labkit", "doctor", "--profile", "cluster", exits=2)
    assert "write it without --stock" in out
