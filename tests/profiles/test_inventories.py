"""The inventories for the usual cases, as their READMEs say to use them."""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import labkit
from labkit.cluster.inventory import load
from labkit.errors import InventoryError

from ..cluster.testbed import ROOT, python
from ..labs.experiments import Square

PROFILES = Path(__file__).parents[2] / "profiles"
NAMES = sorted(path.parent.name for path in PROFILES.glob("*/hosts.yaml"))


def inventory(name):
    return (PROFILES / name / "hosts.yaml").read_text()


# ---------- all of them ----------


def test_every_inventory_is_listed_and_explained_in_five_lines():
    listed = re.findall(r"\]\((.*)/README.md\)", (PROFILES / "README.md").read_text())
    assert sorted(listed) == NAMES == sorted(p.name for p in PROFILES.iterdir() if p.is_dir())
    for name in NAMES:
        title, text = (PROFILES / name / "README.md").read_text().split("\n\n")
        assert title.startswith("# ")
        assert len(text.splitlines()) <= 5


@pytest.mark.parametrize("name", NAMES)
def test_an_inventory_is_sound_but_for_names_that_are_examples(name):
    try:
        load(PROFILES / name / "hosts.yaml")
    except InventoryError as e:
        (told,) = e.mistakes
        assert "unknown jump host login" in told


# ---------- one workstation ----------


@pytest.fixture
def workstation(tmp_path):
    """A cluster on this machine, as its README starts and stops it; its IPython folder."""
    environment = {**os.environ, "IPYTHONDIR": os.fspath(tmp_path), "PYTHONPATH": str(ROOT)}

    def run(*words):
        command = [sys.executable, "-m", "labkit", *words]
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)

    run("profile", "generate", PROFILES / "workstation" / "hosts.yaml")
    run("cluster", "start", "--profile", "workstation")
    yield tmp_path
    run("cluster", "stop", "--profile", "workstation")


def test_on_a_workstation_a_lab_finds_an_engine_for_each_core(workstation):
    with labkit.ClusterLab(profile="workstation", ipython_dir=os.fspath(workstation)) as lab:
        assert lab.numberOfEngines() == len(os.sched_getaffinity(0))
        lab.runExperiment(Square())
        assert lab.wait(timeout=60)
        assert sorted(lab.dataframe()["area"]) == [0, 1, 4, 9, 16, 25]
        assert set(lab.engines().apply_sync(os.getenv, "OMP_NUM_THREADS")) == {"1"}


# ---------- several machines ----------


def on_testbed(name, bed, **names):
    """Return an inventory with the names of the testbed's machines for those of the example."""
    names |= {
        "10.0.0.1": "10.77.0.100",
        "alice": "root",
        "~/venv/bin/python": f"{sys.executable}, env: {{PYTHONPATH: {ROOT}}}",
        "profile: .*": "profile: cluster",
        "engines: [a-z0-9-]+": "engines: 1",
    }
    text = inventory(name)
    for example, here in names.items():
        text, count = re.subn(example, here, text)
        assert count, example
    return text


HOSTNAME = "os.uname().nodename"


def test_five_machines_with_a_shared_disk(cluster, bed):
    running = cluster(on_testbed("shared-disk", bed, **{"cl-0": "ctl", r"cl-\[1-4\]": "h[1-3]"}))
    running.labkit("start")
    assert sorted(running.each(HOSTNAME, 3)) == ["h1", "h2", "h3"]


def test_machines_with_disks_of_their_own(cluster, bed):
    hosts = {"cl-0": "ctl", r"desk-\[1-2\]": "h1", "big": "h2", "gpu-1": "h3"}
    text = on_testbed(
        "own-disks", bed, **hosts, **{"2222": "22", "~/.ssh/lab": f"{bed.folder}/key"}
    )
    running = cluster(text, shared=False)
    running.labkit("start")
    asked = f"[{HOSTNAME}, os.environ.get('CUDA_VISIBLE_DEVICES'), os.environ['OMP_NUM_THREADS']]"
    assert sorted(running.each(asked, 3)) == [
        ["h1", None, "1"],
        ["h2", None, "8"],
        ["h3", "0,1", "1"],
    ]


def test_machines_behind_a_login_node(cluster, bed):
    hosts = {"host: lab": "host: ctl", "@login": "@h1", r"n\[01-16\]": "h[2-3]"}
    running = cluster(on_testbed("login-node", bed, **hosts))
    running.labkit("start")
    asked = f"[{HOSTNAME}, os.environ['SSH_CONNECTION'].split(' ')[0]]"
    assert sorted(running.each(asked, 2)) == [["h2", "10.77.0.1"], ["h3", "10.77.0.1"]]


def test_a_laptop_and_its_shadow(cluster, bed):
    names = {"cl-0": "ctl", r"cl-\[1-4\]": "h[1-2]"}
    running = cluster(on_testbed("laptop-shadow", bed, **names), shared=False)
    running.labkit("start")
    assert sorted(running.each(HOSTNAME, 2)) == ["h1", "h2"]
    bed["lap"].execute("labkit", "profile", "shadow", "root@ctl")
    code = """
    import labkit
    with labkit.ClusterLab(profile="shadow") as lab:
        print(lab.numberOfEngines())
    """
    assert bed["lap"].execute(*python(textwrap.dedent(code))) == "2\n"
