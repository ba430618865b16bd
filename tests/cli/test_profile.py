"""``labkit profile``: what is written, asked, listed and removed."""

import json
import os
import pty
import subprocess
import sys

import pytest

HOSTS = "controller: {host: cl-0, interface: 10.0.0.1}\nhosts: {cl-1: {engines: 8}}\n"


@pytest.fixture
def ipython(folder, monkeypatch):
    """Return IPython's folder; beside it, there is an inventory."""
    monkeypatch.setenv("IPYTHONDIR", str(folder / "ipython"))
    (folder / "hosts.yaml").write_text(HOSTS)
    return folder / "ipython"


@pytest.fixture
def config(ipython, labkit_):
    """Return the file of a profile that starts the cluster."""
    labkit_("profile", "generate", "hosts.yaml")
    return ipython / "profile_cluster" / "ipcluster_config.py"


def test_generate(labkit_, ipython):
    lines = labkit_("profile", "generate", "hosts.yaml").stdout.splitlines()
    folder = ipython / "profile_cluster"
    assert lines[0] == f"{folder / 'ipcluster_config.py'} is written"
    assert lines[-1] == "Start the cluster by: labkit cluster start --profile cluster"
    assert labkit_("profile", "generate", "hosts.yaml").stdout == f"{folder} is up to date\n"


def test_a_dry_run_writes_nothing(labkit_, ipython):
    out = labkit_("profile", "generate", "hosts.yaml", "--dry-run").stdout
    assert '+c.HostsLauncher.engines = {\n+    "cl-1": 8,\n' in out
    assert not ipython.exists()


def test_mistakes_write_nothing(labkit_, ipython, folder):
    (folder / "hosts.yaml").write_text(HOSTS.replace("engines", "enginse"))
    done = labkit_("profile", "generate", "hosts.yaml", status=2)
    assert "hosts.yaml:2:16: unknown key enginse; did you mean engines?" in done.stderr
    assert not ipython.exists()


def test_changes_by_hand_stay_until_forced(labkit_, config):
    mine = config.read_text() + "c.Cluster.n = 2\n"
    config.write_text(mine)
    done = labkit_("profile", "generate", "hosts.yaml", status=2)
    assert "-c.Cluster.n = 2\n" in done.stdout
    assert "ipcluster_config.py was changed by hand. --force overwrites it" in done.stderr
    assert config.read_text() == mine
    labkit_("profile", "generate", "hosts.yaml", "--force")
    assert "c.Cluster.n = 2" not in config.read_text()


@pytest.mark.parametrize(("answer", "status"), [("y", 0), ("n", 2)])
def test_somebody_is_asked(config, answer, status):
    mine = config.read_text() + "c.Cluster.n = 2\n"
    config.write_text(mine)
    ours, theirs = pty.openpty()
    os.write(ours, f"{answer}\n".encode())
    words = [sys.executable, "-m", "labkit", "profile", "generate", "hosts.yaml"]
    done = subprocess.run(words, stdin=theirs, capture_output=True, text=True, check=False)
    os.close(ours)
    os.close(theirs)
    assert "this was changed by hand. Overwrite it? [y/N]" in done.stdout
    assert done.returncode == status, done.stderr
    assert (config.read_text() == mine) is (answer == "n")


def test_list(labkit_, ipython, folder):
    assert labkit_("profile", "list").stdout.startswith(f"There is no profile in {ipython}.")
    labkit_("profile", "generate", "hosts.yaml", "--profile", "night", "--stock")
    (line,) = labkit_("profile", "list").stdout.splitlines()[2:]
    assert line.split()[0] == "night"
    assert line.split()[1].endswith("/hosts.yaml")
    (facts,) = json.loads(labkit_("profile", "list", "--json").stdout)
    assert facts == {
        "profile": "night",
        "folder": str(ipython / "profile_night"),
        "inventory": str(folder / "hosts.yaml"),
        "stock": True,
        "state": "up to date",
        "running": "no",
    }


def test_list_tells_a_cluster_whose_controller_has_died(labkit_, config):
    file = config.parent / "security" / "cluster-.json"
    file.parent.mkdir()
    # the number is another process's by now
    told = {"cluster": {"machine": ""}, "controller": {"state": {"pid": os.getpid()}}}
    file.write_text(json.dumps(told))
    (line,) = labkit_("profile", "list").stdout.splitlines()[2:]
    assert line.split()[-1] == "died"


def test_show(labkit_, config):
    out = labkit_("profile", "show", "cluster").stdout
    assert "state: up to date" in out
    assert config.read_text() in out
    told = json.loads(labkit_("profile", "show", "cluster", "--json").stdout)
    assert told["files"]["ipcluster_config.py"] == config.read_text()


def test_check(labkit_, config, folder):
    assert labkit_("profile", "check", "cluster").stdout.endswith("is sound; up to date\n")
    config.write_text(config.read_text() + "c.Cluster.dely = 2\n")
    out = labkit_("profile", "check", "cluster", status=1).stdout
    assert "Cluster has no setting dely; did you mean delay?" in out
    assert f"changed by hand: labkit profile generate {folder / 'hosts.yaml'}" in out


def test_remove(labkit_, config):
    labkit_("profile", "remove", "cluster", status=1)
    assert config.exists()
    labkit_("profile", "remove", "cluster", "--force")
    assert not config.parent.exists()
    assert "no profile cluster" in labkit_("profile", "remove", "cluster", status=2).stderr
