"""hosts.yaml: what it means, and what is wrong with it."""

import json
import re
import subprocess
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.cluster.inventory import load
from labkit.cluster.sshconfig import arguments, effective
from labkit.errors import InventoryError

EXAMPLE = """\
profile: lab
controller: {host: cl-0, interface: 10.0.0.1, ports: 10000-10099}
shared_filesystem: no
encryption: yes
defaults: {user: alice, engines: cores, env: {A: 1, B: b}, tags: lab}
hosts:
  cl-[0-2]: {engines: 8}
  gpu-1:
    engines: cores-1
    python: /opt/py/bin/python
    directory: ~/work
    threads_per_engine: 4
    env: {A: "2"}
    tags: [gpu]
    ssh: {port: 2222, identity: ~/.ssh/lab, jump: cl-1}
  far:
"""


@pytest.fixture
def hosts(tmp_path):
    """Write an inventory and load it."""

    def loaded(text):
        (tmp_path / "hosts.yaml").write_text(text)
        return load(tmp_path / "hosts.yaml")

    return loaded


@pytest.fixture
def mistakes(hosts):
    """Return what is wrong with an inventory, without the file's name."""

    def told(text):
        with pytest.raises(InventoryError) as error:
            hosts(text)
        return [line.partition("hosts.yaml:")[2] for line in error.value.mistakes]

    return told


def head(rest):
    return f"controller: {{host: cl-0, interface: 10.0.0.1}}\nhosts: {rest}\n"


# ---------- what it means ----------


def test_the_whole(hosts):
    found = hosts(EXAMPLE)
    assert (found.profile, found.controller, found.interface) == ("lab", "cl-0", "10.0.0.1")
    assert (found.ports, found.shared_filesystem, found.encryption) == ((10000, 10099), False, True)
    assert [host.name for host in found.hosts] == ["cl-0", "cl-1", "cl-2", "gpu-1", "far"]
    assert found.engines is None


def test_a_host_has_what_it_says_and_what_holds_for_all(hosts):
    first, _, _, gpu, far = hosts(EXAMPLE).hosts
    assert (gpu.user, gpu.engines, gpu.threads_per_engine) == ("alice", "cores-1", 4)
    assert (gpu.port, gpu.identity, gpu.jump) == (2222, "~/.ssh/lab", "cl-1")
    assert (gpu.python, gpu.directory) == ("/opt/py/bin/python", "~/work")
    assert gpu.env == {"A": "2", "B": "b"}
    assert gpu.tags == ("lab", "gpu")
    assert (far.engines, far.env, far.address) == ("cores", {"A": "1", "B": "b"}, "far")
    assert (first.local, gpu.local) == (True, False)


def test_without_defaults(hosts):
    (host,) = hosts("hosts: {localhost: }\n").hosts
    assert host.local
    assert (host.python, host.engines, host.threads_per_engine) == ("python3", "cores", 1)


def test_hosts_that_get_an_environment(hosts):
    found = hosts("packages: scikit-learn>=1\n" + head("{a: {python: bundle}, b: {python: /py}}"))
    assert found.packages == ("scikit-learn>=1",)
    assert [host.python for host in found.hosts] == ["bundle", "/py"]


def test_engines_are_counted(hosts):
    assert hosts(head("{'cl-[1-4]': {engines: 8}, b: {engines: 2}}")).engines == 34


def test_200_hosts_with_6400_engines_take_less_than_a_second(hosts):
    text = "".join(f"\n  node-{i}: {{engines: 32, env: {{N: {i}}}}}" for i in range(200))
    started = time.process_time()
    assert hosts(head(text)).engines == 6400
    assert time.process_time() - started < 1


# ---------- what is wrong ----------


def test_all_mistakes_at_once(mistakes):
    assert mistakes(
        "profil: x\n"
        "controller: {host: cl-0, interface: 10.0.0.300}\n"
        "defaults: {engines: 0, usr: alice}\n"
        "hosts:\n"
        "  cl-[1-4]: {ssh: {prt: 22}}\n"
        "  cl-3:\n"
        "  n[4-1]: 5\n"
        "  far: {ssh: {jump: cl-9}}\n"
        "  far: {engines: 1}\n"
        "  [a, b]: {engines: 1}\n"
    ) == [
        "1:1: unknown key profil; did you mean profile? "
        "Known: controller, defaults, encryption, hosts, packages, profile, restarts, "
        "shared_filesystem",
        "2:37: interface: '10.0.0.300' is no IPv4 address of the controller's machine; "
        "* means all it has",
        "3:21: engines: 0 starts none: leave the host out instead",
        "3:24: unknown key usr; did you mean user? Known: address, directory, engines, env, "
        "local, python, ssh, tags, threads_per_engine, user",
        "5:20: unknown key prt; did you mean port? Known: identity, jump, port",
        "6:3: cl-3 is there already, at line 5",
        "7:5: 4-1 goes down; write the smaller one first",
        "7:11: n[4-1]: this should be a mapping, key: value",
        "8:21: unknown jump host cl-9; did you mean cl-4? Known: cl-0, cl-1, cl-2, cl-3, cl-4, "
        "far; it is not in ~/.ssh/config either, and has no address here",
        "9:3: far is there already, at line 8",
        "10:3: a key must be text; quote it",
    ]


@pytest.mark.parametrize(
    ("setting", "what"),
    [
        ("engines: -1", "engines: -1 is no number of engines"),
        ("engines: 1.5", "engines: 1.5 is no number of engines"),
        ("engines: yes", "engines: 'yes' is no number"),
        ("engines: true", "engines: True is no number"),
        ("engines: cores-0", "engines: 'cores-0' is no number"),
        ("threads_per_engine: 0", "threads_per_engine: 0 is too small: 1 or more"),
        ("threads_per_engine: two", "threads_per_engine: 'two' is no whole number"),
        ("user: '-oProxyCommand=x'", "user: '-oProxyCommand=x' should be a name"),
        ("address: -x", "address: '-x' should be a name"),
        ("python: ''", "python: '' should be one line"),
        ("python: -c", "python: '-c' begins with a dash"),
        ('directory: "a\\nb"', "directory: 'a\\nb' should be one line"),
        ("env: {1X: a}", "env: '1X' is no name of an environment variable"),
        ("env: {X: true}", "env: X: True is no text; quote it"),
        ("env: {X: [1]}", "env: X: [1] is no text"),
        ("env: [X]", "env: ['X'] should be a mapping"),
        ("tags: 3", "tags: 3 should be a list"),
        ("tags: [a b]", "tags: 'a b' should be a name"),
        ("local: maybe", "local: 'maybe' should be yes or no"),
        ("python: 'bundle:'", "python: 'bundle:' has no path: write bundle, or bundle:/path/to/"),
        ("ssh: 22", "ssh: this should be a mapping"),
        ("ssh: {port: 70000}", "port: 70000 is too large: 65535 at most"),
        ("ssh: {port: '22'}", "port: '22' is no whole number"),
        ("ssh: {jump: 'a b'}", "jump: 'a b' is no jump host"),
        ("ssh: {jump: '-x'}", "jump: '-x' is no jump host"),
    ],
)
def test_a_value_that_cannot_be(mistakes, setting, what):
    (told,) = mistakes(head(f"{{cl-1: {{{setting}}}}}"))
    assert told.startswith("2:")
    assert what in told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("hosts: {}\n", "1:8: hosts: there is no host: write one, as in cl-1: {engines: 8}"),
        ("profile: x\n", "1:1: hosts is missing: it names the hosts"),
        ("hosts: [a, b]\n", "1:8: hosts: this should be a mapping, key: value"),
        ("- a\n", "1:1: this should be a mapping, key: value"),
        ("profile: ../x\nhosts: {localhost: }\n", "1:10: profile: '../x' should be a name"),
        (head("{alice@b: }"), "2:9: alice@b: write the user as a setting: b: {user: alice}"),
        (head("{'b:22': }"), "2:9: b:22: write the port as a setting: b: {ssh: {port: 22}}"),
        (head("{-oX: }"), "2:9: '-oX' is no name of a host"),
        (head("{'c[1': }"), "2:10: [ is not closed in c[1"),
        (head("{a: , 'a': }"), "2:14: a is there already, at line 2"),
        (head("{'a[1-2]': {address: b}}"), "2:20: 2 hosts cannot have one address"),
        ("defaults: {address: x}\nhosts: {localhost: }\n", "1:12: hosts cannot have one address"),
        ("controller: {ports: 1000-1010}\nhosts: {localhost: }\n", "1:21: ports: 1000-1010 has 11"),
        ("controller: {ports: 9}\nhosts: {localhost: }\n", "1:21: ports: 9 is no range of ports"),
        ("controller: {ports: 9-1}\nhosts: {localhost: }\n", "1:21: ports: 9-1: ports go from"),
        ("packages: 7\nhosts: {localhost: }\n", "1:11: packages: 7 should be a list of packages"),
        ("packages: [a b]\nhosts: {localhost: }\n", "1:11: packages: 'a b' is no package, as pip"),
        ("packages: [7]\nhosts: {localhost: }\n", "1:11: packages: 7 is no package, as pip"),
        ("packages: a\nhosts: {localhost: }\n", "1:1: packages: nobody gets them: hosts that are"),
        ("shared_filesystem: 7\nhosts: {localhost: }\n", "1:20: shared_filesystem: 7 should be"),
    ],
)
def test_what_cannot_be(mistakes, text, told):
    (only,) = mistakes(text)
    assert only.startswith(told)


KEYS = st.sampled_from(
    [
        *("all", "hosts", "vars", "children", "labkit", "controller", "defaults", "ssh", "env"),
        *("jump", "engines", "tags", "user", "port", "ansible_host", "ansible_port", "interface"),
        *("cl-[1-2]", "a", "b[", "<<"),
    ]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.sampled_from(["a", "cores", "{{x}}", "*"])
VALUES = st.recursive(
    SCALARS, lambda v: st.lists(v, max_size=2) | st.dictionaries(KEYS, v, max_size=4), max_leaves=9
)
SETTINGS = st.dictionaries(KEYS, VALUES, max_size=3)
GROUP = st.fixed_dictionaries(
    {}, optional={"hosts": st.dictionaries(KEYS, SETTINGS), "vars": SETTINGS, "children": VALUES}
)
OURS = st.fixed_dictionaries(
    {"hosts": st.dictionaries(KEYS, SETTINGS | VALUES)},
    optional={"controller": VALUES, "defaults": SETTINGS | VALUES, "a": VALUES},
)
ANSIBLES = st.fixed_dictionaries({"all": GROUP}, optional={"a": GROUP | VALUES})


@given(OURS | ANSIBLES | VALUES)
def test_whatever_is_written_is_understood_or_told(tmp_path_factory, value):
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    # JSON is YAML
    file.write_text(json.dumps(value))
    told = ()
    try:
        load(file)
    except InventoryError as e:
        told = e.mistakes
    assert all(re.match(rf"{re.escape(str(file))}:\d+:\d+: \S", line) for line in told)


def test_hosts_elsewhere_need_an_address_of_the_controller(mistakes, hosts):
    (told,) = mistakes("controller: {host: cl-0}\nhosts: {cl-0: , cl-1: }\n")
    assert told.startswith("1:13: controller: interface is missing: the IPv4 address of cl-0")
    assert hosts("controller: {host: cl-0}\nhosts: {cl-0: }\n").interface == "127.0.0.1"


# ---------- ssh ----------


def test_a_gate_that_all_hosts_are_behind(hosts):
    text = "defaults: {ssh: {jump: gate}}\n" + head("{gate: {ssh: {identity: k}}, cl-1: }")
    gate, cl_1 = hosts(text).hosts
    assert arguments(gate) == ["-o", "IdentityFile=k", "-o", "IdentitiesOnly=yes", "gate"]
    assert arguments(cl_1) == ["-J", "gate", "cl-1"]
    proxy = "ssh -o BatchMode=yes -o IdentityFile=k -o IdentitiesOnly=yes -W '[%h]:%p' gate"
    assert arguments(cl_1, gate) == ["-o", f"ProxyCommand={proxy}", "cl-1"]


def test_a_gate_behind_a_gate_is_written_as_both(mistakes):
    (told,) = mistakes(head("{a: , b: {ssh: {jump: a}}, c: {ssh: {jump: b}}}"))
    assert told == "2:51: jump: b is itself behind a; write jump: a,b"


def test_the_systems_ssh_tells_what_it_would_do(hosts):
    if subprocess.run(["ssh", "-V"], capture_output=True, check=False).returncode:
        pytest.skip("needs ssh")
    told = effective(arguments(hosts(EXAMPLE).host("gpu-1")))
    assert (told["hostname"], told["user"], told["port"]) == ("gpu-1", "alice", "2222")
    assert told["identityfile"].endswith(".ssh/lab")
    assert told["proxyjump"] == "cl-1"
