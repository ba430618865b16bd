"""Clusters on this machine alone: starts that fail, or are broken off."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from labkit.cluster import clusterfiles
from labkit.cluster.clusters import Cluster
from labkit.cluster.deliveries import Supplier
from labkit.cluster.links import Links
from labkit.cluster.local import LocalCluster
from labkit.cluster.standing import sessions
from labkit.errors import ClusterError, ClusterStartError

from .agents import wait_for, with_word

LABKIT = str(Path(sys.executable).with_name("labkit"))
SLOW = "#!/bin/sh\nexec sleep 30\n"


class Here:
    """The profile of this machine."""

    def __init__(self, folder):
        self.folder = folder
        self.profile = folder / "ipython" / "profile_here"

    def cluster(self, host="", controller=""):
        """Return a cluster that does not run yet; write its profile."""
        file = self.folder / "hosts.yaml"
        file.write_text(f"profile: here\n{controller}hosts:\n  localhost:\n{host}")
        return Cluster.from_inventory(file)

    def starts(self):
        """Have another process start it; return that when it waits for a host that is slow."""
        python = self.folder / "slow"
        python.write_text(SLOW)
        python.chmod(0o755)
        self.cluster(f"  slow: {{local: true, python: {python}}}\n")
        words = [LABKIT, "cluster", "start", "--profile", "here"]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        wait_for(lambda: {"sleep", "ipyparallel.engine"} <= self.words(), timeout_s=60)
        return process

    def words(self):
        """Return what is in the command lines of what runs of it."""
        found = set()
        for process in self.left():
            # it may have ended meanwhile
            with contextlib.suppress(psutil.Error):
                found |= {*process.cmdline()}
        return found

    def connections(self):
        """Return what clients and engines connect with."""
        return clusterfiles.connections("here", self.profile)

    def left(self):
        """Return what runs of it."""
        return with_word(str(self.folder))


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    yield Here(tmp_path)
    for process in with_word(str(tmp_path)):
        os.kill(process.pid, signal.SIGKILL)


def test_a_controller_that_ends_at_once_is_told(here):
    controller = f"controller: {{host: {socket.gethostname()}, interface: 192.0.2.1}}\n"
    with pytest.raises(ClusterStartError, match=r"(?s)of here has ended:.*requested address"):
        here.cluster(controller=controller).start_and_connect_sync()
    assert not here.words()


def test_a_controller_that_does_not_answer_is_told(here, monkeypatch):
    cluster = here.cluster()
    cluster.controller = SimpleNamespace(poll=lambda: None, connection_info_timeout=0)

    async def connect_client(**settings):
        raise TimeoutError("Hub connection request timed out")

    monkeypatch.setattr(cluster, "connect_client", connect_client)
    with pytest.raises(ClusterStartError, match="labkit cluster restart --profile here"):
        cluster._connect_engines_sync()
    cluster.controller = None


def test_a_start_of_which_nothing_comes_has_its_table_too(here):
    here.cluster("  other: {local: true}\n", "defaults: {python: /nowhere/python}\n")
    words = [LABKIT, "cluster", "start", "--profile", "here"]
    done = subprocess.run([*words, "--json"], capture_output=True, text=True, check=False)
    told = json.loads(done.stdout)
    assert (done.returncode, told["is_whole"], told["runs"]) == (1, False, False), done.stderr
    assert [(host["host"], host["engines"]) for host in told["hosts"]] == [
        ("localhost", 0),
        ("other", 0),
    ]
    assert all("/nowhere/python" in host["why"][0] for host in told["hosts"])
    assert not here.words()
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "other: " in done.stdout
    assert "0 engines, 0 of 2 hosts whole" in done.stdout
    assert done.stdout.endswith("nothing of it runs now\n")


def test_a_start_of_which_all_engines_end_is_an_error(here):
    broken = here.folder / "broken"
    broken.mkdir()
    (broken / "ipyparallel.py").write_text("raise SystemExit('no engines today')")
    cluster = here.cluster(controller=f"defaults: {{env: {{PYTHONPATH: {broken}}}}}\nrestarts: 0\n")
    with pytest.raises(
        ClusterStartError, match=r"(?s)no engine of here has come\nlocalhost: .*today"
    ):
        cluster.start_and_connect_sync()
    assert [arrival.engines for arrival in cluster.arrivals] == [0]
    assert not here.words()


def test_a_start_that_is_killed_is_found_by_a_stop(here):
    process = here.starts()
    process.kill()
    process.communicate()
    assert "ipyparallel.engine" in here.words()
    (here.folder / "slow").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    done = subprocess.run(
        [LABKIT, "cluster", "stop", "--profile", "here"], capture_output=True, text=True, check=True
    )
    assert "here has stopped, and nothing of it runs" in done.stdout
    assert here.words() <= {"sleep", "30"}


def test_a_start_that_is_interrupted_leaves_nothing(here):
    process = here.starts()
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130, out
    assert not here.words()


def test_what_clients_connect_with_outlives_a_restart_that_fails(here, monkeypatch):
    cluster = here.cluster()
    cluster.start_and_connect_sync().close()
    before = here.connections()
    files = list(here.profile.glob("security/ipcontroller-*.json"))
    assert [file.stat().st_mode & 0o077 for file in files] == [0, 0]

    async def fail(*arguments, **settings):
        raise ClusterStartError("no engine has come")

    monkeypatch.setattr(cluster, "start_engines", fail)
    with pytest.raises(ClusterStartError):
        cluster.restart_cluster_sync()
    assert not here.words()
    again = Cluster(profile_dir=str(here.profile))
    again.start_and_connect_sync().close()
    assert here.connections() == before
    again.stop_cluster_sync()
    assert not list(here.profile.glob("security/*.json"))


def test_a_cluster_file_that_is_just_written_is_waited_for(tmp_path):
    file = clusterfiles.path(tmp_path)
    file.parent.mkdir()
    told = {"cluster": {"machine": socket.gethostname()}}
    file.write_text(json.dumps(told)[:-1])
    threading.Timer(0.2, file.write_text, [json.dumps(told)]).start()
    assert clusterfiles.read("here", tmp_path) == told


def test_what_cannot_be_packed_here_is_told_of_the_hosts_that_need_it(tmp_path, monkeypatch):
    full = tmp_path / "full"
    full.touch()
    monkeypatch.setenv("LABKIT_CACHE", str(full))
    supplier = Supplier(Links({}, [], "python3"), [], 60)
    name = supplier.wanted()["wheels"][0]
    with pytest.raises(ClusterError, match=f"packed into {full}: .*set LABKIT_CACHE"):
        supplier._packed([name])


def test_a_connection_that_cannot_be_opened_is_told(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    told = Links({"h1": {}}, [], "python3").ask("h1", "labkit-none", do="ask", what={})
    assert "no connection can be opened from here" in told["failed"]


def test_engines_that_went_unheard_are_not_there():
    cluster = LocalCluster(2)
    try:
        client = cluster.connect()
        view = client[:]
        pids = view.apply_sync(os.getpid)
        # as when it has gone in the moment in which this client connected
        client._notification_handlers["unregistration_notification"] = lambda message: None
        os.kill(cluster._supervisor.pid, signal.SIGSTOP)
        os.kill(pids[0], signal.SIGKILL)
        wait_for(lambda: len(sessions(client)) == 1)
        client.close()
    finally:
        os.kill(cluster._supervisor.pid, signal.SIGCONT)
        cluster.stop()
