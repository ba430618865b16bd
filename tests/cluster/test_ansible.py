"""Ansible's inventories, read as if they were hosts.yaml."""

import pytest

from labkit.cluster.ansible import is_ansible
from labkit.cluster.inventory import load
from labkit.errors import InventoryError

EXAMPLE = """\
all:
  vars:
    ansible_user: alice
    labkit:
      profile: night
      controller: {host: cl-0, interface: 10.0.0.1}
      threads_per_engine: 2
      env: {A: all}
  children:
    big:
      hosts:
        n[01:03].example.org:
      vars: {labkit: {engines: 8, env: {B: big}}}
    gpu:
      children:
        fast:
      vars: {labkit: {engines: 2}, ansible_python_interpreter: /opt/py}
    fast:
      hosts:
        gpu-1:
          ansible_host: 10.0.0.9
          ansible_port: "2222"
          ansible_ssh_private_key_file: ~/.ssh/lab
          ansible_ssh_common_args: -o ProxyJump=bob@localhost:2200
        n02.example.org: {labkit: {engines: 3, tags: [own]}}
      vars: {labkit: {env: {A: fast}}, http_port: 80, secret: !vault x}
"""


@pytest.fixture
def hosts(tmp_path):
    """Write an inventory, load it, and return its hosts by name."""

    def loaded(text):
        (tmp_path / "hosts.yaml").write_text(text)
        return {host.name: host for host in load(tmp_path / "hosts.yaml").hosts}

    return loaded


def test_the_whole(hosts, tmp_path):
    assert list(hosts(EXAMPLE)) == [f"n0{i}.example.org" for i in (1, 2, 3)] + ["gpu-1"]
    found = load(tmp_path / "hosts.yaml")
    assert (found.profile, found.controller, found.interface) == ("night", "cl-0", "10.0.0.1")


def test_environments_that_are_sent(hosts, tmp_path):
    hosts(
        EXAMPLE.replace(
            "profile: night",
            "profile: night\n      packages: [a]\n      restarts: 3\n      python: bundle",
        )
    )
    found = load(tmp_path / "hosts.yaml")
    assert (found.packages, found.restarts) == (("a",), 3)
    assert found.hosts[0].python == "bundle"


def test_what_ansible_knows_of_a_host(hosts):
    gpu = hosts(EXAMPLE)["gpu-1"]
    assert (gpu.address, gpu.user, gpu.port) == ("10.0.0.9", "alice", 2222)
    assert (gpu.identity, gpu.jump, gpu.python) == (
        "~/.ssh/lab",
        "bob@localhost:2200",
        "/opt/py",
    )


def test_the_nearer_group_holds_over_the_further_one(hosts):
    found = hosts(EXAMPLE)
    assert [found[name].engines for name in found] == [8, 3, 8, 2]
    assert found["n01.example.org"].env == {"A": "all", "B": "big"}
    assert found["n02.example.org"].env == {"A": "fast", "B": "big"}
    assert all(host.threads_per_engine == 2 for host in found.values())


def test_groups_are_tags(hosts):
    found = hosts(EXAMPLE)
    assert found["n01.example.org"].tags == ("big",)
    assert found["n02.example.org"].tags == ("big", "gpu", "fast", "own")


def test_what_one_group_says_wrongly_is_no_trap_for_the_next(hosts):
    text = EXAMPLE.replace("{engines: 2}", "{engines: 2, tags: own}")
    assert hosts(text)["n02.example.org"].tags == ("big", "gpu", "own", "fast")
    with pytest.raises(InventoryError, match=r"yaml:17:\d+: tags: 3 should be a name"):
        hosts(text.replace("tags: own", "tags: 3, ssh: 3"))


@pytest.mark.parametrize(
    ("words", "jump"),
    [
        ("-J localhost", "localhost"),
        ("-o ControlMaster=auto -o ProxyJump=me@localhost", "me@localhost"),
        ("-o ProxyCommand='ssh -W %h:%p -q me@localhost'", "me@localhost"),
        ("-C", None),
    ],
)
def test_jump_hosts_among_arguments(hosts, words, jump):
    text = EXAMPLE.replace("-o ProxyJump=bob@localhost:2200", f'"{words}"')
    assert hosts(text)["gpu-1"].jump == jump


def test_a_local_connection(hosts):
    text = "all: {hosts: {me: {ansible_connection: local, ansible_python_interpreter: auto}}}\n"
    assert hosts(text)["me"].local
    assert hosts(text)["me"].python == "python3"


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("engines: 3,", "enginse: 3,", "25:36: unknown key enginse; did you mean engines?"),
        ("engines: 8,", "engines: 0,", "13:32: engines: 0 starts none"),
        ("10.0.0.9", '"{{ ip }}"', "21:25: ansible_host is a template"),
        ("interface:", "interfaces:", "6:32: unknown key interfaces; did you mean interface?"),
        ('"2222"', "none", "22:25: port: 'none' is no whole number"),
        ("n[01:03]", "n[01:x]", "12:11: 01:x goes from a number to a letter"),
        ("        fast:\n", "        fast: {hots: }\n", "16:16: unknown key hots; did you mean"),
        ("        fast:\n", "        gpu:\n", "16:9: the group gpu holds itself"),
        ("http_port: 80", "labkit: 80", "26:40: labkit is there already"),
        ("{engines: 2}", "4", "17:22: labkit should be a mapping"),
    ],
)
def test_mistakes_have_their_place_in_ansibles_file(hosts, before, after, told):
    assert before in EXAMPLE
    with pytest.raises(InventoryError) as error:
        hosts(EXAMPLE.replace(before, after))
    assert any(f"hosts.yaml:{told}" in line for line in error.value.mistakes), error.value


def test_all_mistakes_are_told_at_once(hosts):
    text = (
        "all:\n"
        "  hots: {}\n"
        "  vars: {labkit: {profile: a b, profile: c}}\n"
        "  children:\n"
        "    big:\n"
        "      hosts: {n1: {ansible_host: '{{ ip }}', ansible_port: x}}\n"
        "      children: {small: }\n"
        "    small:\n"
        "      children: {big: , tiny: {hosts: {n2: {labkit: {engines: 0}}}}}\n"
    )
    with pytest.raises(InventoryError) as error:
        hosts(text)
    told = [line.partition("hosts.yaml:")[2] for line in error.value.mistakes]
    assert [line[: len(start)] for line, start in zip(told, ALL_TOLD, strict=True)] == ALL_TOLD


ALL_TOLD = [
    "1:1: controller: interface is missing",
    "2:3: unknown key hots; did you mean hosts?",
    "3:28: profile: 'a b' should be a name",
    "3:33: profile is there already, at line 3",
    "6:34: ansible_host is a template",
    "6:60: port: 'x' is no whole number",
    "7:18: the group small holds itself",
    "9:63: engines: 0 starts none",
]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("\n  hosts:\n    n[01:x]:", ["3:7: 01:x goes from a number to a letter"]),
        (
            "\n  hosts:\n    n[01:x]: {labkit: {engines: 0}}",
            ["3:7: 01:x goes from a number to a letter", "3:33: engines: 0 starts none"],
        ),
        ("{hosts: [a, b]}", ["1:14: hosts should be a mapping"]),
        ("{children: [a, b]}", ["1:17: children should be a mapping"]),
        (
            "{hosts: {a: {ansible_connection: '{{ c }}'}}}",
            ["1:39: ansible_connection is a template"],
        ),
        ("{vars: 3}", ["1:1: hosts: there is no host", "1:13: vars should be a mapping"]),
    ],
)
def test_a_mistake_brings_no_other_about_and_hides_none(hosts, text, told):
    with pytest.raises(InventoryError) as error:
        hosts(f"all: {text}\n")
    found = [line.partition("hosts.yaml:")[2] for line in error.value.mistakes]
    assert [line[: len(start)] for line, start in zip(found, told, strict=True)] == told


@pytest.mark.parametrize(
    ("value", "is_one"),
    [
        ({"all": {"hosts": {"a": None}}}, True),
        ({"web": {"hosts": {"a": None}}, "db": None}, True),
        ({"hosts": {"a": None}}, False),
        ({"host": {"a": None}, "profile": "x"}, False),
        ({}, False),
        ([], False),
        (None, False),
    ],
)
def test_which_files_are_ansibles(value, is_one):
    assert is_ansible(value) is is_one
