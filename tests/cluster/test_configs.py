"""The three files of a profile: what they say for an inventory."""

import re
import time

import pytest
from traitlets.config.loader import PyFileConfigLoader

from labkit.cluster.configs import CONTROLLER, ENGINE, STARTER, configs
from labkit.cluster.inventory import load
from labkit.cluster.verification import complaints
from labkit.errors import InventoryError

EXAMPLE = """\
controller: {host: cl-0, interface: 10.0.0.1, ports: 10000-10019}
shared_filesystem: no
defaults: {user: alice, engines: 8}
hosts:
  cl-[0-2]: {}
  n[1-2]: {python: /opt/py, threads_per_engine: 4}
  gpu:
    address: 10.0.0.9
    engines: 2
    directory: ~/work
    env: {CUDA_VISIBLE_DEVICES: "0,1"}
    ssh: {port: 2222, identity: ~/.ssh/lab, jump: bob@localhost}
"""


@pytest.fixture
def config(tmp_path):
    """Write a profile's files for an inventory; return what they set, by class."""

    def loaded(text, *, stock=False):
        (tmp_path / "hosts.yaml").write_text(text)
        for name, content in configs(load(tmp_path / "hosts.yaml"), stock=stock).items():
            (tmp_path / name).write_text(content)
        assert complaints(tmp_path) == []
        found = {}
        for name in (STARTER, CONTROLLER, ENGINE):
            found |= PyFileConfigLoader(name, path=str(tmp_path)).load_config()
        return found

    return loaded


def test_the_controller_listens_where_the_inventory_says(config):
    found = config(EXAMPLE)["IPController"]
    assert found["ip"] == "10.0.0.1"
    assert "location" not in found
    assert "enable_curve" not in found
    assert found["engine_ports"] == list(range(10000, 10009))
    assert found["client_ports"] == list(range(10009, 10015))
    assert found["ports"] == list(range(10015, 10020))


def test_all_addresses_and_encryption(config):
    text = EXAMPLE.replace("10.0.0.1, ports: 10000-10019", '"*"') + "encryption: yes\n"
    found = config(text)["IPController"]
    assert (found["ip"], found["location"]) == ("*", "cl-0")
    assert found["enable_curve"] is True


def test_hosts_of_one_pattern_stay_together_where_they_are_alike(config):
    found = config(EXAMPLE)["HostsLauncher"]
    assert found["shared_filesystem"] is False
    assert found["engines"] == {
        "cl-0": {"n": 8, "local": True},
        "cl-1": {"n": 8, "ssh_args": ["-l", "alice"]},
        "cl-2": {"n": 8, "ssh_args": ["-l", "alice"]},
        "n[1-2]": {"n": 8, "ssh_args": ["-l", "alice"], "python": "/opt/py", "threads": 4},
        "gpu": {
            "n": 2,
            "address": "10.0.0.9",
            "ssh_args": [
                *("-p", "2222", "-l", "alice", "-o", "IdentityFile=~/.ssh/lab"),
                *("-o", "IdentitiesOnly=yes", "-J", "bob@localhost"),
            ],
            "directory": "~/work",
            "environment": {"CUDA_VISIBLE_DEVICES": "0,1"},
        },
    }


def test_simple_hosts_are_simple_lines(config):
    head = "controller: {host: c, interface: 10.0.0.1}\n"
    found = config(head + "hosts:\n  a[1-3]: {engines: 2}\n  b: {}\n")
    assert found["HostsLauncher"]["engines"] == {"a[1-3]": 2, "b": "cores"}


def test_environments_and_what_is_in_them(config):
    head = "controller: {host: c, interface: 10.0.0.1}\npackages: [a, 'b>=1']\n"
    found = config(head + "hosts:\n  h: {python: 'bundle:~/py'}\n")["HostsLauncher"]
    assert found["packages"] == ["a", "b>=1"]
    assert found["engines"] == {"h": {"n": "cores", "python": "bundle:~/py"}}


def test_the_files_are_short(config, tmp_path):
    config(EXAMPLE)
    assert max(len((tmp_path / n).read_text().splitlines()) for n in (STARTER, CONTROLLER)) < 35


def test_stock_says_the_same_to_ipyparallels_own_launcher(config):
    found = config(EXAMPLE, stock=True)
    assert found["Cluster"]["engine_launcher_class"] == "ssh"
    assert found["Cluster"]["n"] == 5 * 8 + 2
    assert found["SSHLauncher"]["remote_profile_dir"] == ".ipython/profile_cluster"
    gpu = found["SSHEngineSetLauncher"]["engines"]["gpu"]
    assert gpu["ssh_args"] == gpu["scp_args"]
    assert gpu["ssh_args"][1::2] == [
        "HostName=10.0.0.9",
        "Port=2222",
        "User=alice",
        "IdentityFile=~/.ssh/lab",
        "IdentitiesOnly=yes",
        "ProxyJump=bob@localhost",
    ]
    assert gpu["engine_args"] == ["--work-dir=~/work"]
    assert gpu["engine_cmd"][0] == "env"
    assert {"OMP_NUM_THREADS=1", "CUDA_VISIBLE_DEVICES=0,1"} < set(gpu["engine_cmd"])
    slow = found["SSHEngineSetLauncher"]["engines"]["n2"]
    assert slow["engine_cmd"][-3:] == ["/opt/py", "-m", "ipyparallel.engine"]
    assert "OMP_NUM_THREADS=4" in slow["engine_cmd"]


def test_stock_on_one_machine_needs_no_ssh(config):
    found = config("hosts: {localhost: {engines: 3}}\n", stock=True)
    assert found["Cluster"] == {"n": 3, "engine_launcher_class": "local"}


def test_stock_cannot_count_cores(config):
    with pytest.raises(InventoryError, match=r"counts no cores: write engines: 8.* for localhost"):
        config("hosts: {localhost: {engines: cores}}\n", stock=True)


def test_stock_sends_no_environment(config):
    with pytest.raises(InventoryError, match=r"as python: bundle asks for: .* for localhost"):
        config("hosts: {localhost: {engines: 1, python: bundle}}\n", stock=True)


def test_6400_engines_take_less_than_two_seconds(tmp_path):
    head = "controller: {host: c, interface: 10.0.0.1}\nhosts:\n"
    hosts = "".join(f"  node-{i}: {{engines: 32, env: {{N: {i}}}}}\n" for i in range(200))
    (tmp_path / "hosts.yaml").write_text(head + hosts)
    started = time.process_time()
    inventory = load(tmp_path / "hosts.yaml")
    made = [configs(inventory), configs(inventory, stock=True)]
    assert time.process_time() - started < 2
    assert inventory.engines == 6400
    assert all(text[STARTER].count("node-") == 200 for text in made)


# ---------- what ipyparallel does not understand ----------


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("c.IPClusterStart.n = 4", "no class IPClusterStart"),
        ("c.Cluster.m = 4", "Cluster has no setting m"),
        ("c.Cluster.n = 'four'", "Cluster.n: .*int"),
        ("c.Cluster.engine_launcher_class = 'SSHEngineSetLauncher'", "engine_launcher_class"),
        ("c.HostsLauncher.shared_filesystem = 'perhaps'", "HostsLauncher.shared_filesystem"),
        ("1 / 0", "cannot be loaded: ZeroDivisionError"),
    ],
)
def test_what_ipyparallel_would_pass_over_is_told(tmp_path, line, what):
    (tmp_path / STARTER).write_text(f"c = get_config()\n{line}\n")
    (told,) = complaints(tmp_path)
    assert told.startswith(f"{tmp_path / STARTER}: ")
    assert re.search(what, told)
