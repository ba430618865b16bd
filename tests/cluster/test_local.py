"""The cluster that a lab has for itself."""

import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from labkit.cluster.local import LocalCluster
from labkit.errors import ClusterStartError, ParameterError


def processes_of(cluster):
    """Return the cluster's processes: all that name its folder, and their children."""
    found = set()
    for process in psutil.process_iter():
        try:
            if str(cluster.folder) in " ".join(process.cmdline()):
                found |= {process, *process.children(recursive=True)}
        except psutil.Error:
            continue
    return found


def assert_gone(processes, folder):
    _, alive = psutil.wait_procs(list(processes), timeout=10)
    assert not alive, f"{alive} still run"
    deadline = time.monotonic() + 10
    while folder.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def cluster():
    started = LocalCluster(2)
    yield started
    started.stop()


def test_engines_come_up_and_stop_leaves_nothing(cluster):
    client = cluster.connect()
    assert client.ids == [0, 1]
    assert len(set(client[:].apply_sync(os.getpid))) == 2
    client.close()
    processes = processes_of(cluster)
    assert len(processes) > 4
    cluster.stop()
    assert_gone(processes, cluster.folder)


def place_of_hand():
    import os

    from labkit.engine.hand import _hand

    return str(_hand(os.getpid()).folder)


def test_stop_removes_what_hands_have_left(cluster):
    client = cluster.connect()
    places = [Path(place) for place in client[:].apply_sync(place_of_hand)]
    assert all(place.is_dir() for place in places)
    client.close()
    cluster.stop()
    assert not any(place.exists() for place in places)


def test_only_the_owner_can_read_the_key(cluster):
    cluster.connect().close()
    assert cluster.connection_file.stat().st_mode & 0o077 == 0
    assert cluster.folder.stat().st_mode & 0o077 == 0


def test_nothing_listens_beyond_this_machine(cluster):
    cluster.connect().close()
    listening = [
        connection.laddr.ip
        for process in processes_of(cluster)
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert listening
    assert set(listening) == {"127.0.0.1"}


def test_a_supervisor_that_is_killed_takes_engines_and_controller_with_it(cluster):
    cluster.connect().close()
    processes = processes_of(cluster)
    os.kill(cluster._supervisor.pid, signal.SIGKILL)
    psutil.wait_procs(list(processes), timeout=20)
    assert not [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def test_an_engine_that_is_killed_comes_back(cluster):
    client = cluster.connect()
    before = client[:].apply_sync(os.getpid)
    os.kill(before[0], signal.SIGKILL)
    deadline = time.monotonic() + 30
    while client.ids != [1, 2]:
        assert time.monotonic() < deadline, "no engine came in its place"
        time.sleep(0.2)
    assert before[0] not in client[:].apply_sync(os.getpid)
    client.close()


def test_a_controller_without_one_of_its_schedulers_is_started_again(cluster):
    client = cluster.connect()
    named = [p for p in processes_of(cluster) if "ipyparallel.controller" in p.cmdline()]
    [scheduler, *_] = [p for p in named if p.parent() in named]
    scheduler.kill()
    deadline = time.monotonic() + 30
    while not cluster.is_another():
        assert time.monotonic() < deadline, "tasks would wait for ever"
        time.sleep(0.1)
    client.close(linger=0)
    client = cluster.connect()
    assert client.load_balanced_view().apply_sync(abs, -1) == 1
    client.close()


def test_a_cluster_that_does_not_come_up_is_said_with_its_logs(tmp_path, monkeypatch):
    (tmp_path / "ipyparallel").mkdir()
    (tmp_path / "ipyparallel" / "__init__.py").write_text("raise RuntimeError('no ports today')")
    monkeypatch.syspath_prepend(tmp_path)
    cluster = LocalCluster(1)
    with pytest.raises(ClusterStartError, match=r"(?s)did not come up.*status 1.*no ports today"):
        cluster.connect(timeout_s=30)
    assert not cluster.folder.exists()


def test_engines_that_do_not_come_in_time_are_counted():
    cluster = LocalCluster(1)
    cluster.connect().close()
    cluster.engines = 2
    with pytest.raises(ClusterStartError, match="1 of 2 engines registered, and time ran out"):
        cluster.connect(timeout_s=5)


@pytest.mark.parametrize("engines", [0, -1, 1.0, True, None])
def test_a_number_that_is_none(engines):
    with pytest.raises(ParameterError, match="1 or more"):
        LocalCluster(engines)
