"""What only a cluster can do, and what can only happen to one."""

import gc
import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import psutil
import pytest

import labkit
from labkit.errors import (
    ClusterError,
    ClusterStartError,
    ExperimentError,
    NotebookError,
    ParameterError,
    ProfileError,
    SourceChangedWarning,
)
from labkit.labs.traffic import Sent

from .experiments import Arrays, Kills, Sleeps, Square, Tallies, Unpicklable, Waits

STATUS = labkit.Experiment.STATUS


def until(condition, timeout_s=60.0):
    """Wait for a condition."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.05)


def engine_pids(lab):
    return lab._client[:].apply_sync(os.getpid)


@pytest.fixture
def lab(cluster, notebook):
    with labkit.ClusterLab(notebook, url_file=cluster.connection_file) as made:
        yield made


def test_submission_does_not_wait_for_results(lab, tmp_path):
    lab.runExperiment(Waits(tmp_path))
    assert not lab.ready()
    assert lab.notebook().numberOfPendingResults() == 4
    assert not lab.wait(timeout=0.1)
    (tmp_path / "go").touch()
    assert lab.wait()
    assert lab.readyFraction() == 1


def test_results_of_all_result_sets_are_taken(lab):
    nb = lab.notebook()
    for tag in ("first", "second", "third"):
        nb.addResultSet(tag)
        lab.runExperiment(Sleeps(0.05))
    nb.addResultSet("current")
    assert lab.wait()
    assert [nb.numberOfResults(t) for t in ("first", "second", "third", "current")] == [4, 4, 4, 0]


def test_create_with_waits_before_it_locks(lab):
    assert lab.createWith("made", lambda lab: lab.runExperiment(Sleeps(0.3)), finish=True)
    assert lab.notebook().resultSet("made").isLocked()
    assert list(lab.notebook().dataframe("made", only_successful=False)[STATUS]) == [True] * 4


def test_what_is_cancelled_while_it_runs_is_not_run_again(lab, tmp_path):
    ran = tmp_path / "ran"
    lab["x"] = range(6)
    lab.runExperiment(Tallies(str(ran)), chunk=6)
    until(ran.exists)
    for job in lab.notebook().allPendingResults():
        lab.notebook().cancelPendingResult(job)
    assert lab.wait(timeout=30)
    until(lab._traffic.has_arrivals)
    # others are taken, and what has arrived with them
    lab.runExperiment(Square())
    assert lab.wait(timeout=30)
    until(lambda: len(lab._connection.hub.idle()) == 2)
    assert len(ran.read_text().splitlines()) == 6


def test_what_is_cancelled_stays_so_when_its_outcome_arrives(lab, tmp_path):
    lab.runExperiment(Waits(tmp_path), chunk=4)
    for job in sorted(lab.notebook().allPendingResults())[1:]:
        lab.notebook().cancelPendingResult(job)
    (tmp_path / "go").touch()
    assert lab.wait()
    frame = lab.notebook().dataframe(only_successful=False)
    assert len(frame) == 4
    assert list(frame[labkit.Experiment.EXCEPTION].dropna()) == ["Cancelled"] * 3


def test_a_drained_lab_waits_for_no_arrival(lab, monkeypatch):
    connection, asked = lab._connection, threading.Event()

    def lacks(messages):
        asked.set()
        return ["a message that the network has swallowed"]

    lab["x"] = [1]
    running = threading.Thread(target=lab.runExperiment, args=[Square()])
    with monkeypatch.context() as patch:
        patch.setattr(connection, "is_tunnelled", True)
        patch.setattr(connection.hub, "lacks", lacks)
        running.start()
        assert asked.wait(60)
        lab.drain()
        running.join(60)
    assert not running.is_alive()
    assert lab.wait(60)


def test_drain_finishes_what_runs_and_leaves_the_rest_missing(lab, tmp_path):
    lab["x"] = range(40)
    lab.runExperiment(Sleeps(0.4, tmp_path))
    until(lambda: len(list(tmp_path.glob("began-*"))) >= 2)
    lab.drain()
    assert lab.wait()
    done = lab.notebook().numberOfResults()
    assert done == len(list(tmp_path.glob("began-*")))
    assert 2 <= done < 40
    assert len(lab.missing(Sleeps())) == 40 - done
    lab.runExperiment(Sleeps(0.0), only="missing")
    assert lab.wait()
    assert lab.notebook().numberOfResults() == 40


def test_what_could_not_be_recorded_is_recorded_later(lab, monkeypatch):
    def full(*_):
        raise NotebookError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(type(lab.notebook()), "recordBatches", full)
        lab.runExperiment(Square())
        with pytest.raises(NotebookError, match="full"):
            lab.wait()
    assert lab.wait(timeout=30)
    assert sorted(lab.dataframe()["x"]) == list(range(6))


class EndsOnce(labkit.Experiment):
    """Ends its process at one point, the first time; each run leaves a line."""

    x = labkit.Parameter(range(6))

    def __init__(self, file):
        super().__init__()
        self.file = file

    def do(self, params):
        with self.file.open("a") as lines:
            print(params["x"], file=lines)
        time.sleep(0.2)  # so long, and its outcome is written at once
        if params["x"] == 2 and self.file.read_text().split().count("2") == 1:
            os._exit(1)
        return {}


def test_what_is_left_of_a_chunk_runs_once_though_recording_has_failed(lab, monkeypatch, tmp_path):
    def full(*_):
        raise NotebookError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(type(lab.notebook()), "recordBatches", full)
        lab.runExperiment(EndsOnce(tmp_path / "runs"), chunk=6)
        for _ in range(3):
            with pytest.raises(NotebookError, match="full"):
                lab.wait()
    assert lab.wait(timeout=30)
    assert sorted(lab.dataframe()["x"]) == list(range(6))
    runs = (tmp_path / "runs").read_text().split()
    # the point before may not have been written when its process ended
    before = runs[: runs.index("2")][-1:]
    assert all(runs.count(x) == 1 for x in {*runs} - {*before, "2"})
    assert runs.count("2") == 2


@pytest.mark.parametrize(
    ("times", "reason"), [(1, None), (99, "outcomes lost, spool damaged, 3 attempts")]
)
def test_outcomes_that_a_disk_loses_are_made_again_so_many_times(lab, monkeypatch, times, reason):
    def spooled(sent, answer):
        if sent.chunk.attempt <= times:
            path = sent.spool()
            os.truncate(path, path.stat().st_size - 1)
        return real(sent, answer)

    real = Sent.runs_of
    monkeypatch.setattr(Sent, "runs_of", spooled)
    lab.runExperiment(Arrays())
    assert lab.wait(timeout=30)
    (found,) = lab.notebook().dataframe(only_successful=False).to_dict("records")
    assert found[STATUS] == (reason is None)
    assert found[labkit.Experiment.EXCEPTION] == reason
    assert found["labkit.attempt"] == (2 if reason is None else 3)


class TestBadInput:
    """Errors come before any work starts."""

    def test_no_such_profile(self, tmp_path):
        (tmp_path / "profile_cluster").mkdir()
        with pytest.raises(
            ProfileError,
            match=r"no profile clutser in .*; did you mean cluster\? Known: cluster; "
            r"labkit profile generate makes one of an inventory, and labkit profile shadow",
        ):
            labkit.ClusterLab(profile="clutser", ipython_dir=str(tmp_path))

    @pytest.mark.parametrize(
        ("head", "command"),
        [
            ("", "ipcluster start --profile=idle"),
            (
                "# written by labkit, digest 0123456789abcdef\n# from /hosts.yaml\n",
                "labkit cluster start --profile idle",
            ),
        ],
    )
    def test_no_cluster_with_the_profile(self, tmp_path, head, command):
        (tmp_path / "profile_idle").mkdir()
        (tmp_path / "profile_idle" / "ipcluster_config.py").write_text(head)
        with pytest.raises(ClusterStartError, match=f"profile idle: .*Start one by: {command}; "):
            labkit.ClusterLab(profile="idle", ipython_dir=str(tmp_path), timeout=0.1)

    def test_two_clusters_at_once(self):
        with pytest.raises(ParameterError, match="and lab is another"):
            labkit.ClusterLab(n=1, profile="lab")

    @pytest.mark.parametrize("n", [0, -1, 1.5, True, "2"])
    def test_number_of_engines(self, n):
        with pytest.raises(ParameterError, match="n="):
            labkit.ClusterLab(n=n)

    def test_an_experiment_that_cannot_travel(self, lab):
        with pytest.raises(
            ExperimentError, match=r"Unpicklable cannot travel.*attribute guard.*setUp"
        ):
            lab.runExperiment(Unpicklable())
        assert lab.notebook().numberOfAllPendingResults() == 0

    def test_an_experiment_that_the_engines_cannot_import(self, lab, tmp_path, monkeypatch):
        (tmp_path / "only_here.py").write_text(
            f"import labkit, os\nif os.getpid() != {os.getpid()}:\n    import absent_there\n"
            "class Here(labkit.Experiment):\n    x = labkit.Parameter([1])\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        import only_here

        with pytest.raises(
            ExperimentError, match=r"Here cannot be loaded on 2 of 2 engines.*absent_there"
        ):
            lab.runExperiment(only_here.Here())
        assert lab.notebook().numberOfAllPendingResults() == 0


class TestChangedCode:
    """What runs is what the lab has loaded, or nothing."""

    CODE = "import labkit\nclass Made(labkit.Experiment):\n    x = labkit.Parameter([1, 2])\n"
    CODE += "    def do(self, params):\n        return {'y': %s}\n"

    @pytest.fixture
    def edit(self, tmp_path, monkeypatch):
        """Write another version of a module, and load it here."""
        monkeypatch.syspath_prepend(tmp_path)

        def write(value, load=True):
            (tmp_path / "changing.py").write_text(self.CODE % value)
            importlib.invalidate_caches()
            if load:
                sys.modules.pop("changing", None)
                return importlib.import_module("changing").Made()
            return sys.modules["changing"].Made()

        yield write
        sys.modules.pop("changing", None)

    def test_engines_load_an_edited_module_again(self, edit, notebook):
        first = edit("1")
        with labkit.ClusterLab(notebook, n=1) as lab:
            lab.runExperiment(first)
            assert lab.wait()
            with pytest.warns(SourceChangedWarning):
                lab.runExperiment(edit("'second'"))
            assert lab.wait()
            assert list(lab.dataframe()["y"]) == [1, 1, "second", "second"]

    def test_engines_that_have_another_version_refuse(self, edit, notebook):
        edit("1")
        stale = edit("'newer'", load=False)
        with labkit.ClusterLab(notebook, n=1) as lab:
            with pytest.raises(ExperimentError, match=r"code of Made here is not that of the lab"):
                lab.runExperiment(stale)
            assert not notebook.anyPending()


def test_a_lab_that_nobody_holds_ends_its_cluster(notebook):
    lab = labkit.ClusterLab(notebook, n=1)
    lab.runExperiment(Square())
    pids = engine_pids(lab)
    del lab
    gc.collect()
    assert not psutil.wait_procs([psutil.Process(p) for p in pids if psutil.pid_exists(p)], 10)[1]


class TestLostEngines:
    """A kill takes an engine, not the sweep."""

    @pytest.fixture
    def own(self, notebook):
        with labkit.ClusterLab(notebook, n=2) as made:
            yield made

    @pytest.mark.parametrize("how", ["signal", "exit"])
    def test_a_point_that_kills_each_engine_fails_alone(self, own, tmp_path, how):
        own.runExperiment(Kills(tmp_path, how=how))
        assert own.wait(timeout=120)
        frame = own.notebook().dataframe(only_successful=False).set_index("x")
        assert sorted(frame.index) == list(range(40)), "each point is recorded exactly once"
        assert list(frame.index[~frame[STATUS]]) == [17]
        assert "3 attempts" in frame[labkit.Experiment.EXCEPTION][17]
        assert len(list(tmp_path.glob("tried-17-*"))) == 3

    def test_a_point_that_kills_its_engine_once_is_tried_again(self, own, tmp_path):
        own.runExperiment(Kills(tmp_path, at=(3, 30), times=1))
        assert own.wait(timeout=120)
        frame = own.notebook().dataframe()
        assert sorted(frame["x"]) == list(range(40))
        assert frame.set_index("x")["labkit.attempt"][3] == 2

    def test_engines_that_are_killed_from_outside(self, own):
        own["x"] = range(300)
        own.runExperiment(Sleeps(0.02))
        time.sleep(1)
        for pid in own._client[:].targets and [
            p.pid
            for p in psutil.process_iter(["cmdline"])
            if "ipyparallel.engine" in (p.info["cmdline"] or [])
            and str(own._connection.own.folder) in " ".join(p.info["cmdline"])
        ]:
            os.kill(pid, signal.SIGKILL)
        assert own.wait(timeout=120)
        assert sorted(own.notebook().dataframe()["x"]) == list(range(300))

    def test_a_cluster_that_is_gone_is_said(self, own, tmp_path):
        own["x"] = range(200)
        own.runExperiment(Sleeps(0.05))
        own._connection.own._supervisor.kill()
        with pytest.raises(ClusterError, match="own cluster has ended"):
            own.wait(timeout=60)
        own.close()
        done = own.notebook().numberOfResults()
        assert own.notebook().numberOfAllPendingResults() == 0
        assert len(own.missing(Sleeps())) == 200 - done

    def test_a_dead_cluster_is_said_before_work_is_given_to_it(self, own):
        own._connection.own._supervisor.kill()
        own._connection.own._supervisor.wait()
        with pytest.raises(ClusterError, match="own cluster has ended"):
            own.runExperiment(Square())
        assert not own.notebook().anyPending()

    def test_what_is_abandoned_is_missing(self, own):
        own["x"] = range(100)
        own.runExperiment(Sleeps(0.1))
        own.wait(timeout=1)
        own.abandon()
        assert not own.notebook().anyPending()
        assert own.wait()
        assert 0 < len(own.missing(Sleeps())) < 100

    def test_closing_does_not_wait_for_forked_children(self, own):
        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
        child.start()
        started = time.monotonic()
        own.close()
        assert time.monotonic() - started < 20
        assert child.is_alive()
        child.kill()
        child.join()

    def test_closing_keeps_what_is_finished_and_the_rest_is_missing(self, own):
        own["x"] = range(200)
        own.runExperiment(Sleeps(0.05))
        own.wait(timeout=2)
        own.close()
        nb = own.notebook()
        assert nb.numberOfAllPendingResults() == 0
        assert 0 < nb.numberOfResults() < 200
        assert len(own.missing(Sleeps())) == 200 - nb.numberOfResults()


LAB_THAT_ENDS = """
    import sys, os
    sys.path.insert(0, {root!r})
    import labkit
    from tests.labs.experiments import Sleeps
    lab = labkit.ClusterLab(labkit.SQLiteLabNotebook({db!r}), {cluster})
    lab["x"] = range(30)
    lab.runExperiment(Sleeps(0.1))
    print(*lab._client[:].apply_sync(os.getpid), flush=True)
    {end}
"""


def lab_that_ends(tmp_path, end, cluster="n=2"):
    """Run a lab in a process of its own; return what it printed when it ends."""
    root = os.fspath(Path(__file__).parents[2])
    script = textwrap.dedent(LAB_THAT_ENDS).format(
        root=root, db=os.fspath(tmp_path / "lab.db"), end=end, cluster=cluster
    )
    command = [sys.executable, "-c", script]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def nannies_of(engine):
    """Return the processes that watch an engine for the controller."""
    try:
        return psutil.Process(engine).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


class TestEndOfALab:
    """The lab's process may end in any way."""

    # sys.exit() ends a process as an exception does, and os._exit() as a kill
    @pytest.mark.parametrize("end", ["lab.close()", "raise ValueError", "os.kill(os.getpid(), 9)"])
    def test_an_own_cluster_ends_with_it(self, tmp_path, end):
        with lab_that_ends(tmp_path, f"sys.stdin.readline(); {end}") as process:
            pids = [int(pid) for pid in process.stdout.readline().split()]
            family = [p for pid in pids for p in (psutil.Process(pid), *nannies_of(pid))]
            process.communicate("\n", timeout=60)
        assert len(pids) == 2
        _, alive = psutil.wait_procs(family, timeout=15)
        assert not alive

    def test_what_a_killed_lab_left_is_found_and_nothing_runs_twice(self, tmp_path):
        with lab_that_ends(tmp_path, "lab.wait(1); os.kill(os.getpid(), 9)") as process:
            process.communicate(timeout=60)
        nb = labkit.SQLiteLabNotebook(tmp_path / "lab.db")
        before = nb.numberOfResults()
        with labkit.ClusterLab(nb, n=2) as lab:
            lab["x"] = range(30)
            lab.runExperiment(Sleeps(0.0), only="missing")
            assert lab.wait()
        frame = nb.dataframe()
        assert sorted(frame["x"]) == list(range(30))
        assert (frame["slept"] == 0.1).sum() >= before

    def test_another_lab_takes_the_results_from_the_cluster(self, tmp_path):
        from ipyparallel import Cluster

        with Cluster(
            n=2, profile_dir=str(tmp_path / "profile"), cluster_id="", log_level=40
        ) as client:
            url_file = str(tmp_path / "profile" / "security" / "ipcontroller-client.json")
            client.wait_for_engines(2)
            with lab_that_ends(tmp_path, "os._exit(1)", f"url_file={url_file!r}") as process:
                process.communicate(timeout=60)
            nb = labkit.SQLiteLabNotebook(tmp_path / "lab.db")
            assert nb.numberOfPendingResults() > 0
            assert nb.numberOfPendingResults() + nb.numberOfResults() == 30
            with labkit.ClusterLab(nb, url_file=url_file) as lab:
                assert lab.wait(timeout=60)
                assert sorted(nb.dataframe()["x"]) == list(range(30))
                assert set(nb.dataframe()["slept"]) == {0.1}
                lab["x"] = range(30)
                assert lab.missing(Sleeps()) == []
            nb.close()
            assert not (tmp_path / "lab.db.spool").exists()


def test_an_own_cluster_has_as_many_threads_an_engine_as_are_wanted(notebook, monkeypatch):
    monkeypatch.setenv("LABKIT_THREADS", "2")
    with labkit.ClusterLab(notebook, n=1) as lab:
        assert lab.engines().apply_sync(os.getenv, "OMP_NUM_THREADS") == ["2"]


def test_an_own_cluster_has_one_thread_an_engine(notebook):
    with labkit.ClusterLab(notebook, n=1) as lab:
        assert lab.engines().apply_sync(os.getenv, "OMP_NUM_THREADS") == ["1"]
        lab["x"] = [3]
        lab.runExperiment(Square())
        assert lab.wait()
        assert lab.recreate()[1]["n"] == 1
