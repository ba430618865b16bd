"""Points that take too long, that are cancelled, and controllers that die."""

import ctypes
import os
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

import labkit
from labkit.errors import ClusterError, ParameterError

from .experiments import Kills, Sleeps, Waits
from .test_clusterlab import until

STATUS, EXCEPTION = labkit.Experiment.STATUS, labkit.Experiment.EXCEPTION


class SleepsInC(labkit.Experiment):
    """Holds the interpreter's lock while it does not return."""

    x = labkit.Parameter(range(8))

    def __init__(self, seconds=60.0, at=(3,)):
        super().__init__()
        self.seconds, self.at = seconds, at

    def do(self, params):
        if params["x"] in self.at:
            ctypes.PyDLL(None).usleep(int(self.seconds * 1e6))
        return {"pid": os.getpid()}


class Lasts(labkit.Experiment):
    """Leaves a file with its process when it has begun, and one when it has ended."""

    x = labkit.Parameter(range(12))

    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def do(self, params):
        Path(self.folder, f"began-{params['x']}-{os.getpid()}").touch()
        time.sleep(600)
        Path(self.folder, f"ended-{params['x']}").touch()
        return {}


@pytest.fixture(params=["ParallelLab", "ClusterLab"])
def lab(request, cluster, notebook):
    if request.param == "ParallelLab":
        made = labkit.ParallelLab(notebook, cores=2)
    else:
        made = labkit.ClusterLab(notebook, url_file=cluster.connection_file)
    with made:
        yield made


def table(lab):
    return lab.notebook().dataframe(only_successful=False).set_index("x").sort_index()


class TestTimeout:
    """A point that runs for too long is stopped, and only it."""

    def test_inside_c_code(self, lab):
        lab.runExperiment(SleepsInC(), timeout=5.0)
        assert lab.wait(timeout=60)
        found = table(lab)
        assert list(found.index) == list(range(8))
        assert list(found.index[~found[STATUS]]) == [3]
        assert found[EXCEPTION][3] == "stopped after 5 s, its time limit"
        assert found["labkit.attempt"][3] == 1, "it would take as long again"

    @pytest.mark.parametrize("timeout", [0, -1.0, "1", True])
    def test_what_is_no_time(self, lab, timeout):
        with pytest.raises(ParameterError, match="timeout="):
            lab.runExperiment(SleepsInC(), timeout=timeout)

    def test_a_lab_in_this_process_says_that_it_cannot(self, notebook):
        with pytest.raises(ParameterError, match=r"ParallelLab and ClusterLab can"):
            labkit.Lab(notebook).runExperiment(SleepsInC(), timeout=1.0)


@pytest.mark.parametrize("chunk", [1, 3])
def test_chunks_that_a_user_has_fixed(lab, chunk, sizes_sent):
    sent = sizes_sent(lab)
    lab.runExperiment(SleepsInC(at=()), chunk=chunk)
    assert lab.wait(timeout=60)
    assert max(sent) == chunk
    assert sum(sent) == 8


@pytest.mark.parametrize("chunk", [0, 1.5, True, "all"])
def test_what_is_no_chunk(lab, chunk):
    with pytest.raises(ParameterError, match="chunk="):
        lab.runExperiment(SleepsInC(), chunk=chunk)


def test_a_point_that_kills_each_engine_tells_how_with_one_engine_too(notebook, tmp_path):
    with labkit.ClusterLab(notebook, n=1) as lab:
        (pid,) = lab._client[:].apply_sync(os.getpid)
        lab["x"] = range(6)
        lab.runExperiment(Kills(tmp_path, at=(4,)))
        assert lab.wait(timeout=60)
        found = table(lab)
        assert list(found.index[~found[STATUS]]) == [4]
        assert found[EXCEPTION][4] == "engine died, signal 9, 3 attempts"
        assert lab._client[:].apply_sync(os.getpid) == [pid], "the engine lives on"


class TestCancel:
    """What waits never begins, what runs is stopped."""

    @pytest.fixture
    def lab(self, cluster, notebook):
        with labkit.ClusterLab(notebook, url_file=cluster.connection_file) as made:
            yield made

    def test_all(self, lab):
        lab["x"] = range(40)
        lab.runExperiment(SleepsInC(at=range(40)), chunk=2)
        time.sleep(1)
        assert lab.cancel() == 40
        started = time.monotonic()
        assert lab.wait(timeout=10)
        assert set(table(lab)[EXCEPTION]) == {"Cancelled"}
        lab["x"] = [100]
        lab.runExperiment(SleepsInC())
        assert lab.wait(timeout=30), "the engines were stopped in the middle of a minute's sleep"
        assert time.monotonic() - started < 30

    def test_what_is_queued_never_begins_and_what_runs_is_stopped(self, lab, tmp_path):
        def begun():
            return sorted(tmp_path.glob("began-*"))

        lab.runExperiment(Lasts(tmp_path), chunk=1)
        # both engines are at work, and a chunk waits at each
        until(lambda: len(begun()) == 2)
        began = begun()
        hands = [psutil.Process(int(file.name.split("-")[2])) for file in began]
        assert lab.cancel() == 12
        assert not psutil.wait_procs(hands, timeout=20)[1], "what runs is stopped"
        assert lab.wait(timeout=60)
        assert list(table(lab).index) == list(range(12))
        assert set(table(lab)[EXCEPTION]) == {"Cancelled"}
        # the engines have come to the end of all that was ever queued
        until(lambda: not any(map(_length, lab._client.queue_status().values())))
        lab["x"] = range(100, 108)
        lab.runExperiment(Sleeps(0.1), chunk=1)
        assert lab.wait(timeout=60)
        assert begun() == began, "what is queued never begins"
        assert not list(tmp_path.glob("ended-*"))

    def test_some_parameters_and_the_others_go_on(self, lab, tmp_path):
        lab["x"] = range(12)
        lab["side"] = ["left", "right"]
        lab.runExperiment(Waits(tmp_path, free=4), chunk=6)
        assert 6 <= lab.cancel(params={"side": "left"}) <= 12
        (tmp_path / "go").touch()
        assert lab.wait(timeout=60)
        found = lab.notebook().dataframe(only_successful=False)
        assert len(found) == 24
        assert found[found["side"] == "right"][STATUS].all()
        assert (~found[found["side"] == "left"][STATUS]).sum() >= 6

    def test_chunks_that_a_user_has_fixed_stay_so(self, lab, sizes_sent, tmp_path):
        sent = sizes_sent(lab)
        lab["x"] = range(12)
        lab["side"] = ["left", "right"]
        lab.runExperiment(Waits(tmp_path), chunk=3)
        lab.cancel(params={"side": "left"})
        (tmp_path / "go").touch()
        assert lab.wait(timeout=60)
        assert len(sent) > 8, "some were sent again"
        assert max(sent) == 3

    def test_a_result_set(self, lab, tmp_path):
        nb = lab.notebook()
        lab["x"] = range(10)
        for tag, experiment in (("stays", Sleeps(0.1)), ("goes", Waits(tmp_path))):
            nb.addResultSet(tag)
            lab.runExperiment(experiment)
        assert lab.cancel("goes") == 10
        assert lab.wait(timeout=60)
        assert nb.dataframe("stays")["x"].size == 10
        assert not nb.dataframe("goes", only_successful=False)[STATUS].any()

    def test_nothing_is_pending_where_points_run_at_once(self, notebook):
        assert labkit.Lab(notebook).cancel() == 0


def _length(queue):
    """Return how much waits or runs at an engine, or for one, of what the hub tells."""
    return queue if isinstance(queue, int) else queue["queue"] + queue["tasks"]


def test_outcomes_are_recorded_while_nobody_waits(cluster, notebook, tmp_path):
    with labkit.ClusterLab(notebook, url_file=cluster.connection_file) as lab:
        lab["x"] = range(20)
        lab.runExperiment(Waits(tmp_path, free=5), chunk=1)
        reader = labkit.SQLiteLabNotebook(notebook.name())
        until(lambda: reader.numberOfResults() == 5)
        (tmp_path / "go").touch()
        until(lambda: reader.numberOfResults() == 20)
        assert not reader.anyPending()
        lab.close()


LAB_THAT_SLEEPS = """
    import sys
    sys.path.insert(0, {root!r})
    import labkit
    from tests.labs.experiments import Sleeps
    with (
        labkit.SQLiteLabNotebook({db!r}).open() as nb,
        labkit.ClusterLab(nb, {cluster}) as lab,
    ):
        lab["x"] = range(40)
        lab.runExperiment(Sleeps(0.2, {folder!r}))
        print("sent", flush=True)
        print(lab.wait(60), nb.numberOfResults())
"""


@contextmanager
def lab_that_sleeps(folder, cluster):
    """Run a lab in a process of its own, in which some points have begun."""
    text = LAB_THAT_SLEEPS.format(
        root=str(Path(__file__).parents[2]),
        db=str(folder / "nb.db"),
        folder=str(folder),
        cluster=cluster,
    )
    command = [sys.executable, "-c", textwrap.dedent(text)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            assert process.stdout.readline() == "sent\n"
            until(lambda: any(folder.glob("began-*")))
            yield process
        finally:
            process.kill()


def test_a_lab_that_has_slept_goes_on(cluster, tmp_path):
    with lab_that_sleeps(tmp_path, f"url_file={str(cluster.connection_file)!r}") as process:
        process.send_signal(signal.SIGSTOP)
        time.sleep(9)  # longer than a controller may be silent
        process.send_signal(signal.SIGCONT)
        assert process.stdout.read() == "True 40\n"


def put_to_sleep(lab):
    """Stop a process and all that descends from it; return them when none runs any more."""
    asleep = []
    while fresh := [p for p in [lab, *lab.children(recursive=True)] if p not in asleep]:
        for process in fresh:
            process.suspend()
        asleep += fresh
    return asleep


def test_a_lab_that_has_slept_with_its_own_cluster_goes_on(tmp_path):
    with lab_that_sleeps(tmp_path, "n=2") as process:
        asleep = put_to_sleep(psutil.Process(process.pid))
        try:
            commands = " ".join(word for p in asleep for word in p.cmdline())
            for part in ("supervisor", "ipyparallel.controller", "ipyparallel.engine", "worker"):
                assert part in commands
            began = len(list(tmp_path.glob("began-*")))
            assert began < 40
            time.sleep(12)  # longer than engines and hub may be silent
            assert len(list(tmp_path.glob("began-*"))) == began, "all of it sleeps"
        finally:
            for each in asleep:
                each.resume()
        assert process.stdout.read() == "True 40\n"
    with labkit.SQLiteLabNotebook(tmp_path / "nb.db").open() as nb:
        found = nb.dataframe(only_successful=False)
    assert sorted(found["x"]) == list(range(40)), "each point is recorded exactly once"
    assert found[STATUS].all()


class TestControllerDies:
    """It is noticed, said, and the lab goes on."""

    def test_an_own_one_is_started_again(self, notebook):
        with labkit.ClusterLab(notebook, n=2) as lab:
            lab["x"] = range(40)
            lab.runExperiment(Sleeps(0.1))
            until(lambda: lab.notebook().numberOfResults() > 0)
            family = psutil.Process(lab._connection.own._supervisor.pid).children(recursive=True)
            (controller,) = (
                p
                for p in psutil.Process(lab._connection.own._supervisor.pid).children()
                if "ipyparallel.controller" in p.cmdline()
            )
            controller.kill()
            assert lab.wait(timeout=60)
            assert sorted(lab.dataframe()["x"]) == list(range(40))
            assert not psutil.wait_procs(family, timeout=5)[1], "none of the old ones is left"

    def test_no_port_of_it_stays_taken(self, notebook):
        with labkit.ClusterLab(notebook, n=1) as lab:
            supervisor = psutil.Process(lab._connection.own._supervisor.pid)
            family = {p.pid for p in supervisor.children(recursive=True)}
            (controller,) = (
                p for p in supervisor.children() if "ipyparallel.controller" in p.cmdline()
            )
            ports = {port for port, pid in listening() if pid in family}
            assert ports
            controller.kill()
            # the next controller may have been given one of them
            until(
                lambda: not [p for p, pid in listening() if p in ports and pid in {None, *family}]
            )
            lab.runExperiment(Sleeps(0.05))
            assert lab.wait(timeout=60)
            assert sorted(lab.dataframe()["x"]) == list(range(4))

    def test_of_another_cluster(self, notebook, tmp_path):
        url_file = tmp_path / "profile" / "security" / "ipcontroller-client.json"
        with cluster_in(tmp_path / "profile") as controller:
            lab = labkit.ClusterLab(notebook, url_file=url_file)
            # engines go on without a controller, with what they have
            lab["x"] = range(200)
            lab.runExperiment(Sleeps(0.1))
            time.sleep(1)
            for process in [*psutil.Process(controller.pid).children(), controller]:
                process.kill()
            started = time.monotonic()
            with pytest.raises(ClusterError, match=r"has not answered.*call wait\(\)"):
                lab.wait(timeout=60)
            assert time.monotonic() - started < 10
        assert lab.notebook().anyPending()
        with cluster_in(tmp_path / "profile"):
            assert lab.wait(timeout=60)
            assert sorted(lab.dataframe()["x"]) == list(range(200))
            lab.close()

    def test_a_new_lab_goes_on_as_well(self, notebook, tmp_path):
        url_file = tmp_path / "profile" / "security" / "ipcontroller-client.json"
        with cluster_in(tmp_path / "profile"):
            lab = labkit.ClusterLab(notebook, url_file=url_file)
            lab["x"] = range(40)
            lab.runExperiment(Sleeps(0.1))
            lab.close()
        with (
            cluster_in(tmp_path / "profile"),
            labkit.ClusterLab(notebook, url_file=url_file) as lab,
        ):
            lab["x"] = range(40)
            lab.runExperiment(Sleeps(0.1), only="missing")
            assert lab.wait(timeout=60)
            assert sorted(lab.dataframe()["x"]) == list(range(40))


def listening():
    """Return the ports that processes listen at, and which: None when that is gone."""
    return [
        (c.laddr.port, c.pid)
        for c in psutil.net_connections("tcp")
        if c.status == psutil.CONN_LISTEN
    ]


@contextmanager
def cluster_in(profile, *options):
    """A controller, with options, and two engines that are nobody's own."""
    import ipyparallel

    def start(part, *arguments):
        command = [sys.executable, "-m", f"ipyparallel.{part}", f"--profile-dir={profile}"]
        return subprocess.Popen([*command, *arguments], stderr=subprocess.DEVNULL)

    profile.mkdir(exist_ok=True)
    (profile / "security").mkdir(exist_ok=True)
    for file in (profile / "security").iterdir():
        file.unlink()
    processes = [start("controller", "--ip=127.0.0.1", "--HeartMonitor.period=200", *options)]
    until((profile / "security" / "ipcontroller-engine.json").exists)
    processes += [start("engine"), start("engine")]
    file = profile / "security" / "ipcontroller-client.json"
    with ipyparallel.Client(str(file)) as client:
        client.wait_for_engines(2, timeout=60)
    family = [q for p in processes for q in psutil.Process(p.pid).children(recursive=True)]
    try:
        yield processes[0]
    finally:
        for process in processes:
            process.kill()
            process.wait()
        for process in family:
            if process.is_running():
                process.send_signal(signal.SIGKILL)
        psutil.wait_procs(family, timeout=10)
