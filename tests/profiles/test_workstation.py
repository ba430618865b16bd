"""The profile for one workstation, as its README says to use it."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import labkit
from labkit.errors import ClusterStartError

from ..labs.experiments import Square

PROFILE = Path(__file__).parents[2] / "profiles" / "workstation"


@pytest.fixture
def ipython_dir(tmp_path):
    shutil.copytree(PROFILE, tmp_path / "profile_workstation")
    return tmp_path


@pytest.fixture
def cluster(ipython_dir):
    """The cluster, started by ipyparallel's own command."""
    command = [sys.executable, "-m", "ipyparallel.cluster", "start", "--profile=workstation"]
    environment = {**os.environ, "IPYTHONDIR": os.fspath(ipython_dir)}
    log = (ipython_dir / "ipcluster.log").open("wb")
    with log, subprocess.Popen(command, env=environment, stdout=log, stderr=log) as process:
        yield process
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)


def connected(ipython_dir, process, engines, timeout_s=60):
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        assert process.poll() is None, (ipython_dir / "ipcluster.log").read_text()
        try:
            lab = labkit.ClusterLab(profile="workstation", ipython_dir=os.fspath(ipython_dir))
        except ClusterStartError:
            time.sleep(0.2)
            continue
        if lab.numberOfEngines() == engines:
            return lab
        lab.close()
        time.sleep(0.2)
    raise AssertionError((ipython_dir / "ipcluster.log").read_text())


def test_a_lab_finds_an_engine_for_each_core(ipython_dir, cluster):
    with connected(ipython_dir, cluster, os.cpu_count()) as lab:
        lab.runExperiment(Square())
        assert lab.wait(timeout=60)
        assert sorted(lab.dataframe()["area"]) == [0, 1, 4, 9, 16, 25]
        assert set(lab.engines().apply_sync(os.getenv, "OMP_NUM_THREADS")) == {"1"}
