"""How attachments reach engines: a host is a store, as engines with a cache of their own have."""

import os
import subprocess
import sys
import textwrap
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import labkit
from labkit import attachment
from labkit.attachment import Attachment
from labkit.cluster.local import LocalCluster
from labkit.engine.store import Store, receive
from labkit.errors import AttachmentStoreError
from labkit.labs import parallellab, sweep
from labkit.labs.delivery import Courier, _Delivery
from labkit.labs.hub import Hub
from labkit.labs.parallellab import _begin_worker
from labkit.labs.sweep import pickled

ROOT = Path(__file__).parents[2]
MB = 2**20


class Mean(labkit.Experiment):
    """Looks at its attachment, and says where it lies; it may have to wait for a file first."""

    x = labkit.Parameter(range(6))

    def __init__(self, array, gate=None):
        super().__init__()
        self.series, self.gate = Attachment(array), gate

    def do(self, params):
        while self.gate is not None and not self.gate.exists():
            time.sleep(0.02)
        array = self.series.array
        return {"mean": array.mean(), "file": str(getattr(array.base, "filename", ""))}


def be_impatient():
    """Let a process wait less for attachments."""
    import labkit.engine.store

    labkit.engine.store.WAIT_S = 0.5


def begin_impatient(cache):
    """Begin a worker that does."""
    be_impatient()
    _begin_worker(cache)


ENGINE = """
from tests.labs.test_attachments import be_impatient
from ipyparallel.engine.app import main
be_impatient()
main()
"""


class Host:
    """Engines of a cluster that share a store."""

    def __init__(self, cluster, folder):
        self.cluster, self.cache = cluster, folder
        self.store = Store(folder / "attachments")
        self.engines = []

    def start_engine(self):
        self.engines.append(
            subprocess.Popen(
                [sys.executable, "-c", ENGINE, f"--profile-dir={self.cluster.folder}"],
                env={**os.environ, "LABKIT_CACHE": str(self.cache), "PYTHONPATH": str(ROOT)},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )

    def stop(self):
        for engine in self.engines:
            engine.kill()
            engine.wait()


@contextmanager
def two_engines(folder):
    """Two engines on the one host, whose store is in a folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABKIT_CACHE", str(folder))
        started = LocalCluster(2)
        started.one = Host(started, folder)
        started.connect().close()
    yield started
    started.stop()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with two_engines(tmp_path_factory.mktemp("one")) as started:
        yield started


@pytest.fixture
def host(cluster, tmp_path):
    """Another host, whose engines the test starts."""
    made = Host(cluster, tmp_path / "another")
    yield made
    made.stop()


@pytest.fixture
def lab(cluster, host, notebook, tmp_path, monkeypatch):
    """A lab on a host of its own, which ends the other host's engines."""
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path / "lab"))
    with labkit.ClusterLab(notebook, url_file=cluster.connection_file) as made:
        yield made
        host.stop()
        until(lambda: made.numberOfEngines() == 2)


def until(condition, timeout_s=90.0):
    """Wait for a condition."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.05)


def numbers(megabytes=1, seed=None):
    """Return an array that no other test has attached."""
    return np.random.default_rng(seed).random(int(megabytes * MB) // 8)


def test_each_store_gets_it_once(lab, host, cluster, sent, monkeypatch):
    monkeypatch.setattr(attachment, "PART_BYTES", MB)
    host.start_engine()
    until(lambda: lab.numberOfEngines() == 3)
    e = Mean(numbers(3.5))
    lab.runExperiment(e)
    parts = Counter(engine for engine, function in sent if function == "receive")
    assert sorted(parts.values()) == [4, 4], "one engine of two hosts each"
    assert max(parts) == max(lab._client.ids)
    assert cluster.one.store.has(e.series)
    assert host.store.has(e.series)
    assert not Store().has(e.series), "the lab has its array"
    assert lab.wait()
    assert set(lab.dataframe()["mean"]) == {e.series.array.mean()}
    assert set(lab.dataframe()["file"]) <= {
        str(s.folder / e.series.filename) for s in (cluster.one.store, host.store)
    }
    sent.clear()
    lab.runExperiment(labkit.RepeatedExperiment(e, 2))
    assert lab.wait()
    assert sent == []
    assert lab.notebook().numberOfResults() == 18


def test_messages_stay_small(lab, monkeypatch):
    lengths = []

    def submit(chunk, message):
        lengths.append(len(message))
        return real(chunk, message)

    real = lab._submit
    monkeypatch.setattr(lab, "_submit", submit)
    lab.runExperiment(Mean(numbers(8)))
    assert lab.wait()
    assert max(lengths) < 5000


def test_an_experiment_is_pickled_once(lab, monkeypatch):
    pickles = []
    monkeypatch.setattr(sweep, "pickled", lambda e: pickles.append(e) or pickled(e))
    e = Mean(numbers())
    lab.runExperiment(e)
    assert pickles == [e]
    assert lab.wait()


def test_in_the_labs_own_store_nothing_travels(lab, cluster, sent, monkeypatch):
    monkeypatch.setenv("LABKIT_CACHE", str(cluster.one.cache))
    e = Mean(numbers())
    lab.runExperiment(e)
    assert sent == []
    assert cluster.one.store.has(e.series)
    assert lab.wait()
    assert lab.notebook().numberOfResults() == 6


def test_a_host_that_comes_later_gets_it(lab, host, sent, tmp_path):
    lab["x"] = range(100)
    e = Mean(numbers(), gate=tmp_path / "go")
    lab.runExperiment(e, chunk=5)
    sent.clear()
    host.start_engine()
    until(lambda: lab.numberOfEngines() == 3)
    e.gate.touch()
    assert lab.wait(timeout=60)
    frame = lab.dataframe().set_index("x")
    assert sorted(frame.index) == list(range(100))
    assert set(frame["mean"]) == {e.series.array.mean()}
    assert str(host.store.folder / e.series.filename) in set(frame["file"])
    assert set(frame["labkit.attempt"]) == {1}, "that is no retry"
    assert [function for _, function in sent] == ["lacks", "receive", "complete"]


def test_a_host_that_can_keep_nothing_is_said(lab, host, monkeypatch):
    host.cache.touch()
    host.start_engine()
    until(lambda: lab.numberOfEngines() == 3)
    with pytest.raises(
        AttachmentStoreError, match=rf"engine \d+ on .*{host.store.folder}.*set LABKIT_CACHE"
    ):
        lab.runExperiment(Mean(numbers()))
    assert not lab.notebook().anyPending(), "that comes before any work starts"
    # as if the host had come later: what runs there is a recorded failure
    monkeypatch.setattr(Courier, "supply", lambda *_: None)
    newest = lab._client.load_balanced_view(targets=[max(lab._client.ids)])
    monkeypatch.setattr(lab._client, "load_balanced_view", lambda: newest)
    lab["x"] = [1]
    lab.runExperiment(Mean(numbers()))
    assert lab.wait(timeout=60)
    (text,) = lab.notebook().dataframe(only_successful=False)[labkit.Experiment.EXCEPTION]
    assert "could not take an attachment" in text
    assert "LABKIT_CACHE" in text


def test_an_engine_gets_it_whose_answers_the_hub_has_not_noted(lab, sent, monkeypatch):
    def idle(hub):
        # as if it had not come to the engines' last answers
        return [] if asked else asked.append(hub) or real(hub)

    asked, real = [], Hub.idle
    monkeypatch.setattr(Hub, "idle", idle)
    lab["x"] = [1]
    lab.runExperiment(Mean(numbers()))
    assert "complete" in {function for _, function in sent}, "that comes before any work starts"
    assert lab.wait()


def test_an_engine_that_ends_while_it_receives_holds_up_nobody(lab, host, sent, monkeypatch):
    monkeypatch.setattr(attachment, "PART_BYTES", MB)
    host.start_engine()
    until(lambda: len(lab._connection.hub.idle()) == lab.numberOfEngines() == 3)

    def send(self, function, arguments):
        if function is receive and self.engine == newest:
            host.stop()
        return real(self, function, arguments)

    newest, real = max(lab._client.ids), _Delivery._send
    monkeypatch.setattr(_Delivery, "_send", send)
    lab.runExperiment(Mean(numbers(4)))
    assert (newest, "receive") in sent
    assert lab.wait(timeout=60)
    assert lab.notebook().numberOfResults() == 6


def test_drain_gives_back_what_waits_for_an_attachment(lab, monkeypatch):
    monkeypatch.setattr(Courier, "supply", lambda *_: None)
    monkeypatch.setattr(Courier, "advance", lambda *_: None)
    lab._client[:].apply_sync(be_impatient)
    lab["x"] = [1]
    lab.runExperiment(Mean(numbers()))
    until(lambda: lab.updateResults() or lab._connection.courier._deliveries)
    assert lab.notebook().anyPending()
    lab.drain()
    assert lab.wait(timeout=5)
    assert lab.notebook().numberOfResults() == 0
    assert len(lab.missing(Mean([0.0]))) == 1


def test_processes_of_this_machine_map_the_labs_file(notebook, tmp_path, monkeypatch):
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(parallellab, "_begin_worker", begin_impatient)
    e = Mean(numbers())
    with labkit.ParallelLab(notebook, cores=2) as lab:
        lab.runExperiment(e)
        assert set(lab.dataframe()["file"]) == {str(Store().folder / e.series.filename)}
        # somebody clears the cache when the lab has just looked
        monkeypatch.setattr(lab, "_attach", lambda plan: type(lab)._attach(lab, plan) and [])
        lost = Mean(numbers())
        lab["x"] = [7]
        lab.runExperiment(lost)
        assert lost.series.array.mean() in set(lab.dataframe()["mean"])


LARGE = """
    import resource, sys
    sys.path.insert(0, {root!r})
    import numpy as np
    import labkit
    from tests.labs.test_attachments import Mean
    lab = labkit.ClusterLab(url_file={url!r})
    lab["x"] = [1]
    lab.runExperiment(Mean([0.0]))
    lab.wait()
    with open("/proc/self/status") as status:
        now = next(int(line.split()[1]) for line in status if line.startswith("VmData")) * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (now + 128 * 2**20,) * 2)
    lab.runExperiment(Mean(np.load({path!r}, mmap_mode="r")))
    print(lab.wait(), lab.notebook().numberOfResults())
"""


def test_a_large_array_passes_through_little_memory(cluster, tmp_path):
    path = tmp_path / "large.npy"
    np.lib.format.open_memmap(path, "w+", float, (32 * MB,))
    script = LARGE.format(root=str(ROOT), url=str(cluster.connection_file), path=str(path))
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={**os.environ, "LABKIT_CACHE": str(tmp_path / "lab")},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.split() == ["True", "2"], done.stderr
