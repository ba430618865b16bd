"""Engines that cannot load what others can: they get nothing of it, and cost no point."""

import logging
import os
import platform
import subprocess
import sys

import psutil
import pytest

import labkit
from labkit.cluster.local import LocalCluster
from labkit.errors import ExperimentError
from labkit.labs import rehearsal

from .test_attachments import ROOT, Host, until

#: As on a host that lacks a package.
MODULE = """
import os, pathlib, time
import labkit
GATE = {gate!r}
if "LAME" in os.environ or pathlib.Path(GATE).with_name("lame").exists():
    import absent_there

class Choosy(labkit.Experiment):
    def do(self, params):
        while not pathlib.Path(GATE).exists():
            time.sleep(0.05)
        return {{"process": os.getppid()}}
"""

#: As on a host where somebody has only installed ipyparallel.
BARE = "import sys\nsys.modules['labkit'] = None\nfrom ipyparallel.engine.app import main\nmain()"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A controller, and one engine that lacks what the experiment imports."""
    folder = tmp_path_factory.mktemp("lame")
    gate = folder / "open"
    (folder / "choosy.py").write_text(MODULE.format(gate=str(gate)))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setenv("LAME", "1")
        started = LocalCluster(1)
        patch.delenv("LAME")
        started.connect().close()
        started.gate, started.lame = gate, folder / "lame"
        yield started
    started.stop()


@pytest.fixture
def host(cluster, tmp_path):
    """A host whose engines lack nothing, unless the test says so."""
    made = Host(cluster, tmp_path / "host")
    yield made
    made.stop()


@pytest.fixture
def lab(cluster, notebook, host, monkeypatch, tmp_path):
    """A lab with the lame engine, and an able one."""
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path / "lab"))
    host.start_engine()
    with labkit.ClusterLab(notebook, url_file=cluster.connection_file) as made:
        until(lambda: made.numberOfEngines() == 2)
        yield made
        cluster.gate.unlink(missing_ok=True)
        host.stop()
        until(lambda: made.numberOfEngines() == 1)


def choosy():
    import choosy

    return choosy.Choosy()


def start_bare(host):
    host.engines.append(
        subprocess.Popen(
            [sys.executable, "-c", BARE, f"--profile-dir={host.cluster.folder}"],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    )


def complaints(caplog):
    return [r.message for r in caplog.records if "cannot load an experiment" in r.message]


def test_others_run_it_and_the_lab_tells_so_once(cluster, lab, host, caplog, monkeypatch):
    with caplog.at_level(logging.WARNING, "labkit"):
        lab["x"] = range(100)
        lab.runExperiment(choosy(), chunk=1)
        with monkeypatch.context() as patch:
            patch.setenv("LAME", "1")
            host.start_engine()
        start_bare(host)
        until(lambda: lab.numberOfEngines() == 4)
        until(lambda: lab.wait(timeout=0.5) or len(complaints(caplog)) == 2)
        cluster.gate.touch()
        assert lab.wait(timeout=60)
    found = lab.dataframe()
    assert sorted(found["x"]) == list(range(100))
    assert set(found["process"]) == {host.engines[0].pid}
    assert set(found["labkit.attempt"]) == {1}
    lame, bare = complaints(caplog)
    node = platform.node()
    assert f"on {node}: ModuleNotFoundError: No module named 'absent_there'" in lame
    assert f"on {node}: ModuleNotFoundError" in bare
    assert "labkit" in bare


def test_it_goes_to_engines_that_come_later(cluster, lab, host, sizes_sent):
    sent = sizes_sent(lab)
    lab["x"] = range(200)
    lab.runExperiment(choosy(), chunk=1)
    # the lame one sees and passes on all of them
    lab.wait(timeout=1)
    host.start_engine()
    until(lambda: lab.numberOfEngines() == 3)
    cluster.gate.touch()
    assert lab.wait(timeout=60)
    assert set(lab.dataframe()["process"]) == {engine.pid for engine in host.engines}
    assert sent == [1] * 200, "the controller hands them on, also when no lab is there"


def test_when_no_engine_can_it_fails(cluster, lab, host):
    lab["x"] = range(20)
    lab.runExperiment(choosy(), chunk=1)
    host.stop()
    assert lab.wait(timeout=60)
    found = lab.dataframe(only_successful=False)
    assert sorted(found["x"]) == list(range(20))
    assert not found[labkit.Experiment.STATUS].any()
    told = found[labkit.Experiment.EXCEPTION]
    assert told.str.contains("no engine can").all()
    assert told.str.contains("absent_there").all()
    with pytest.raises(ExperimentError, match=r"Choosy cannot be loaded on 1 of 1.*absent_there"):
        lab.runExperiment(choosy())


def hands(host):
    for process in psutil.Process(host.engines[0].pid).children():
        if "labkit.engine.worker" in " ".join(process.cmdline()):
            yield process


def test_one_that_can_no_more_is_found_out_and_one_that_can_again_too(
    cluster, lab, host, monkeypatch
):
    monkeypatch.setattr(rehearsal, "_SILENCE_S", 2.0)
    lab["x"] = range(6)
    lab.runExperiment(choosy(), chunk=1)
    # its next hand has everything to import, and cannot
    cluster.lame.touch()
    try:
        for hand in hands(host):
            hand.kill()
        assert lab.wait(timeout=30), "both pass on what they get, for ever"
    finally:
        cluster.lame.unlink()
    assert not lab.dataframe(only_successful=False)[labkit.Experiment.STATUS].any()
    cluster.gate.touch()
    lab.runExperiment(choosy(), only="failed")
    assert lab.wait(timeout=30)
    assert sorted(lab.dataframe()["x"]) == list(range(6))
