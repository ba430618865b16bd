"""What the files of clusters tell."""

import contextlib
import json
import os
import socket
import subprocess
import sys

import pytest

from labkit.cluster import clusterfiles, doctor
from labkit.cluster.profiles import Profile


@pytest.fixture
def found(tmp_path):
    """A profile with the file of a cluster, whose controller this process might be."""
    (tmp_path / "security").mkdir()
    made = Profile("night", tmp_path, None, stock=False)
    record(made, os.getpid(), socket.gethostname())
    return made


def record(found, pid, machine):
    told = {"cluster": {"machine": machine}, "controller": {"state": {"pid": pid}}}
    clusterfiles.path(found.folder).write_text(json.dumps(told))


def examined(found):
    """Return what the doctor says of the ports, and whether hosts are to try one."""
    with contextlib.ExitStack() as stack:
        (finding,), open_ = doctor._listen(found, stack)
    return finding.is_ok, finding.told, bool(open_)


def test_a_controller_that_runs_has_died_or_is_elsewhere(found):
    file = clusterfiles.path(found.folder)
    connect = {"interface": "tcp://127.0.0.1", "location": "here", "registration": 4711}
    file.with_name("ipcontroller-engine.json").write_text(json.dumps(connect))
    code = "import sys; sys.stdin.read()"
    words = (sys.executable, "-c", code, "ipyparallel.controller")
    with subprocess.Popen(words, stdin=subprocess.PIPE) as controller:
        record(found, controller.pid, "")
        assert clusterfiles.standing(file) == "running"
        assert examined(found) == (True, "a cluster runs, at 127.0.0.1:4711", True)
    assert clusterfiles.standing(file) == "died"
    told = "the cluster's controller has died; labkit cluster restart --profile night starts it"
    assert examined(found) == (False, f"{told} again", False)
    record(found, os.getpid(), "cl-0")
    assert clusterfiles.standing(file) == "on cl-0"
    assert examined(found) == (False, "its cluster was started on cl-0: examine it there", False)


def test_a_number_that_is_another_ones_by_now(found):
    assert clusterfiles.standing(clusterfiles.path(found.folder)) == "died"


def test_what_another_launcher_has_written_is_left_to_others(found):
    file = clusterfiles.path(found.folder)
    file.write_text(json.dumps({"cluster": {}, "controller": {"state": {"job_id": 7}}}))
    assert clusterfiles.standing(file) == "running"
