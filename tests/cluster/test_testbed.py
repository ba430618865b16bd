"""The machines of the tests are what they are taken for."""

import time

import pytest

from .testbed import python


def test_machines_have_names_addresses_homes_and_processes_of_their_own(bed):
    ctl, h1 = bed["ctl"], bed["h1"]
    assert ctl.execute("ssh", "h1", "hostname").strip() == "h1"
    ctl.execute("sh", "-c", "touch ~/of-ctl /tmp/of-ctl")
    assert "of-ctl" not in h1.execute("ls", bed.home, "/tmp")
    assert len(h1.processes("[listener]")) == 1


def test_a_power_cut_ends_all_and_the_machine_comes_back(bed):
    h3 = bed["h3"]
    h3.start("sleep", "1000")
    h3.power_off()
    h3.boot()
    h3.wait()
    assert not h3.processes("sleep 1000")
    assert bed["ctl"].execute("ssh", "h3", "hostname").strip() == "h3"


def test_a_laptop_reaches_ssh_of_ctl_and_nothing_else(bed):
    lap = bed["lap"]
    assert lap.execute("ssh", "ctl", "hostname").strip() == "ctl"
    listen = "import socket; s = socket.create_server(('10.77.0.100', 9999)); s.accept()"
    bed["ctl"].start(*python(listen))
    connect = "import socket; socket.create_connection(('{}', 9999), 2)"
    deadline = time.monotonic() + 20
    while not bed["ctl"].execute("ss", "-tlnH", "sport = 9999"):
        assert time.monotonic() < deadline
    for address in ("10.77.0.100", "10.78.0.1"):
        with pytest.raises(AssertionError, match=r"unreachable|refused"):
            lap.execute(*python(connect.format(address)))
    bed["h1"].execute(*python(connect.format("10.77.0.100")))
    lap.pull_cable()
    try:
        with pytest.raises(AssertionError, match=r"timed out|route"):
            lap.execute("ssh", "-o", "ConnectTimeout=1", "ctl", "hostname")
    finally:
        lap.put_cable_back()
    assert lap.execute("ssh", "ctl", "hostname").strip() == "ctl"


def test_those_that_need_machines_are_kept_together(request):
    if not hasattr(request.config, "workerinput"):
        pytest.skip("there is one process anyway")
    # xdist finds groups in these names, and without them starts all of these at once
    assert request.node.nodeid.endswith("@machines")
