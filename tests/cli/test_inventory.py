"""``labkit inventory``: what is checked, shown, listed."""

import json
import shutil

import pytest

SOUND = """\
controller: {host: cl-0, interface: 10.0.0.1}
defaults: {user: alice}
hosts:
  cl-[1-2]: {engines: 8, tags: [big, new]}
  cl-0: {engines: 1}
"""


@pytest.fixture
def hosts(folder):
    file = folder / "hosts.yaml"
    file.write_text(SOUND)
    return file


def test_a_sound_one(labkit_, hosts):
    done = labkit_("inventory", "check", "hosts.yaml")
    assert done.stdout == "hosts.yaml is sound: 3 hosts, 17 engines\n"
    assert json.loads(labkit_("inventory", "check", "hosts.yaml", "--json").stdout)["is_sound"]


def test_mistakes(labkit_, hosts):
    hosts.write_text(SOUND.replace("engines: 8", "enginse: 8").replace("user", "usr"))
    lines = labkit_("inventory", "check", "hosts.yaml", status=1).stdout.splitlines()
    assert [line.split(";")[0] for line in lines] == [
        "hosts.yaml:2:12: unknown key usr",
        "hosts.yaml:4:14: unknown key enginse",
    ]
    told = json.loads(labkit_("inventory", "check", "hosts.yaml", "--json", status=1).stdout)
    assert told == {"is_sound": False, "mistakes": lines}
    assert "2 mistakes in hosts.yaml" in labkit_("inventory", "show", "hosts.yaml", status=2).stderr


@pytest.mark.usefixtures("hosts")
def test_show(labkit_):
    if shutil.which("ssh") is None:
        pytest.skip("needs ssh")
    lines = labkit_("inventory", "show", "hosts.yaml").stdout.splitlines()
    assert lines[0] == "profile cluster, controller cl-0 at 10.0.0.1; 3 hosts, 17 engines"
    assert [line.split() for line in lines[4:]] == [
        ["cl-1", "cl-1", "alice", "22", "python3", "8", "1", "big,", "new"],
        ["cl-2", "cl-2", "alice", "22", "python3", "8", "1", "big,", "new"],
        ["cl-0", "-", "alice", "-", "python3", "1", "1", "-"],
    ]
    told = json.loads(labkit_("inventory", "show", "hosts.yaml", "--json").stdout)
    assert [host["name"] for host in told["hosts"]] == ["cl-1", "cl-2", "cl-0"]


@pytest.mark.usefixtures("hosts")
def test_expand(labkit_):
    assert labkit_("inventory", "expand", "hosts.yaml").stdout.split() == ["cl-1", "cl-2", "cl-0"]
    told = labkit_("inventory", "expand", "hosts.yaml", "--json").stdout
    assert json.loads(told) == ["cl-1", "cl-2", "cl-0"]


def test_schema(labkit_):
    made = json.loads(labkit_("inventory", "schema").stdout)
    assert made["required"] == ["hosts"]
    assert "threads_per_engine" in made["$defs"]["HostSettings"]["properties"]
    assert not made["additionalProperties"]
