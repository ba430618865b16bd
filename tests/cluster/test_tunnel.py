"""One ssh for several ports: how it opens, what it says, and that it ends."""

import os
import signal
import time

import pytest

from .testbed import python

SERVER = """
import zmq
context = zmq.Context()
sockets = [context.socket(zmq.REP) for _ in range(2)]
for socket, port in zip(sockets, (9001, 9002)):
    socket.bind(f"tcp://10.77.0.100:{port}")
poller = zmq.Poller()
for socket in sockets:
    poller.register(socket, zmq.POLLIN)
while True:
    for socket, _ in poller.poll():
        socket.send(socket.recv().upper())
"""

OPEN = """
import gc, os, sys, time, zmq
from labkit.cluster.tunnel import Tunnel
tunnel = Tunnel("root@ctl", "10.77.0.100", [9001, 9002])
"""

ASK = """
for port in (9001, 9002):
    socket = zmq.Context.instance().socket(zmq.REQ)
    socket.linger = 0
    socket.connect(f"tcp://127.0.0.1:{tunnel.local[port]}")
    socket.send(b"hello")
    print(socket.recv().decode())
"""


@pytest.fixture
def lap(bed):
    """The laptop; on ctl, there are two sockets to speak with."""
    server = bed["ctl"].start(*python(SERVER))
    deadline = time.monotonic() + 20
    while "9002" not in bed["ctl"].execute("ss", "-tlnH"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    yield bed["lap"]
    os.killpg(server.pid, signal.SIGKILL)
    bed["ctl"].end("zmq.REP")


def gone(lap, timeout_s=15):
    deadline = time.monotonic() + timeout_s
    while lap.processes("labkit-tunnel", "BatchMode"):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_messages_go_through_all_ports_of_one_ssh(lap):
    count = "print(os.popen('ps -eo args').read().count('\\nssh '))\n"
    out = lap.execute(*python(OPEN + ASK + count + "tunnel.close()\n" + count))
    assert out.split() == ["HELLO", "HELLO", "1", "0"]
    assert gone(lap)


@pytest.mark.parametrize(
    "end",
    [
        "os.kill(os.getpid(), 9)",
        "os.fork() and os.kill(os.getpid(), 9); os.close(1); os.close(2); time.sleep(60)",
        "del tunnel; gc.collect(); time.sleep(0.1)",
        "pass",
    ],
)
def test_it_ends_with_whatever_has_opened_it(lap, end):
    lap.start(*python(f"{OPEN}\n{end}")).communicate(timeout=20)
    assert gone(lap)
    lap.end("labkit.cluster.tunnel")


def test_one_that_is_opened_again_has_the_same_ports_unless_somebody_has_them(lap):
    again = """
before = tunnel.local
tunnel.close()
tunnel = Tunnel("root@ctl", "10.77.0.100", [9001, 9002], before)
print(tunnel.local == before)
tunnel.close()
import socket
while True:
    try:
        taken = socket.create_server(("127.0.0.1", before[9001]))
        break
    except OSError:
        time.sleep(0.05)
tunnel = Tunnel("root@ctl", "10.77.0.100", [9001, 9002], before)
print(tunnel.local[9001] != before[9001], tunnel.local[9002] == before[9002])
"""
    out = lap.execute(*python(OPEN + again + ASK))
    assert out.split() == ["True", "True", "True", "HELLO", "HELLO"]
    assert gone(lap)


def test_a_forked_child_does_not_end_it(lap):
    fork = "\nif os.fork() == 0:\n    sys.exit()\nos.wait()\n"
    assert lap.execute(*python(OPEN + fork + ASK)).split() == ["HELLO", "HELLO"]


def test_a_loss_is_noticed(lap):
    loss = "\nprint(tunnel.is_open(), flush=True)\nwhile tunnel.is_open(): time.sleep(0.1)\n"
    waiting = lap.start(*python(OPEN + loss))
    assert waiting.stdout.readline() == "True\n"
    lap.pull_cable()
    began = time.monotonic()
    try:
        waiting.wait(timeout=30)
    finally:
        lap.put_cable_back()
    assert 3 < time.monotonic() - began < 20


@pytest.mark.parametrize("ports", ["[9003]", "[9001, 22]"])
def test_what_does_not_listen_or_is_something_else_is_told(lap, ports):
    code = OPEN.replace("[9001, 9002]", ports)
    with pytest.raises(AssertionError, match=r"ClusterStartError: nothing that is a controller's"):
        lap.execute(*python(code))
    assert gone(lap)


def test_what_the_users_settings_forward_is_not_in_the_way(lap):
    config = lap.folder / "home" / ".ssh" / "config"
    right = config.read_text()
    more = "ExitOnForwardFailure yes\nRemoteCommand true\nControlMaster auto\nControlPath ~/mux\n"
    try:
        config.write_text(f"{more}LocalForward 9009 ctl:9001\n{right}")
        taken = "import socket; s = socket.create_server(('127.0.0.1', 9009))\n"
        out = lap.execute(*python(taken + OPEN + ASK))
    finally:
        config.write_text(right)
    assert out.split() == ["HELLO", "HELLO"]
    assert gone(lap)
