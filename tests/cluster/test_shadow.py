"""Shadow profiles: what a laptop fetches over ssh, and what becomes of it."""

import json

import pytest

from labkit.cluster import login, profiles, shadow
from labkit.cluster.configs import STARTER
from labkit.cluster.folders import replace_text
from labkit.errors import ClusterStartError, ParameterError, ProfileError

from .machines import CONTROLLER, DEFAULTS
from .testbed import python

ONE = f"{CONTROLLER}defaults: {{{DEFAULTS}, engines: 2}}\nhosts: {{h1: }}\n"
FILE = ".ipython/profile_shadow/security/ipcontroller-client.json"


#: Casts a shadow as the command does; says at last how long that took.
CAST = """
import sys, time
from labkit.cli import main, shadowing
began = time.monotonic()
try:
    main(["profile", "shadow", sys.argv[1]])
finally:
    print(time.monotonic() - began)
"""


def fails(machine, *words):
    """Execute a command that ends with an error; return what it says."""
    with pytest.raises(AssertionError) as caught:
        machine.execute(*words)
    return str(caught.value)


# ---------- on machines ----------


def test_a_shadow_is_fetched_private_and_fetched_again(cluster, bed):
    lap, running = bed["lap"], cluster(ONE, shared=False)
    make = ("labkit", "profile", "shadow", "root@ctl")
    told = fails(lap, *make)
    assert "the cluster of profile cluster does not run on root@ctl" in told
    assert "start it there: labkit cluster start --profile cluster" in told
    assert "profile_night: name another profile" in fails(lap, *make, "--profile", "night")
    running.start()
    running.ask("print(0)", 2)
    out = lap.execute("sh", "-c", f"umask 0; {' '.join(make)}")
    assert out.endswith('labkit.ClusterLab(profile="shadow")\n')
    modes = lap.execute("sh", "-c", f"cd; stat -c %a {FILE} .ipython/profile_shadow/security")
    assert modes.split() == ["600", "700"]
    theirs = running.on_ctl("sh", "-c", "cat ~/.ipython/profile_cluster/security/*client.json")
    assert lap.execute("sh", "-c", f"cat ~/{FILE}") == theirs
    record = json.loads(lap.execute("sh", "-c", "cat ~/.ipython/profile_shadow/shadow.json"))
    assert (record["from"], record["profile"], record["machine"]) == ("root@ctl", "cluster", "ctl")

    assert "cluster on root@ctl" in lap.execute("labkit", "profile", "list")
    shown = lap.execute("labkit", "profile", "show", "shadow")
    assert "address: 10.77.0.100" in shown
    assert json.loads(theirs)["key"] not in shown
    assert "is sound" in lap.execute("labkit", "profile", "check", "shadow")
    assert "up to date" in lap.execute("labkit", "profile", "refresh", "shadow")
    for command in ("cluster start", "cluster status", "doctor"):
        told = fails(lap, "labkit", *command.split(), "--profile", "shadow")
        assert "shadow is the shadow of a cluster elsewhere, of cluster on root@ctl" in told
    running.stop()
    assert "does not run" in fails(lap, "labkit", "profile", "check", "shadow")
    running.start()
    running.ask("print(0)", 2)
    told = fails(lap, "labkit", "profile", "check", "shadow")
    assert "was stopped, and started anew, since" in told
    assert "labkit profile refresh shadow" in told
    assert "is written" in lap.execute("labkit", "profile", "refresh", "shadow")
    assert "is sound" in lap.execute("labkit", "profile", "check", "shadow")
    assert "is removed\n" in lap.execute("labkit", "profile", "remove", "shadow", "--force")
    assert "There is no profile" in lap.execute("labkit", "profile", "list")


#: What is wrong with ssh: changes of its settings, where to, and what labkit says.
REFUSALS = {
    "no key, so a password": ("PubkeyAuthentication no", "root@ctl", "ssh-copy-id root@ctl"),
    "another user": ("", "nobody@ctl", "is the user right"),
    "an unknown key": ("UserKnownHostsFile /dev/null", "ctl", "compare the key that ssh shows"),
    "no such name": ("", "root@cl-0", "root@cl-0 cannot be reached: Could not resolve hostname"),
    "another port": ("Port 23", "ctl", "Connection refused"),
    "nobody there": ("HostName 10.78.0.77", "ctl", "ctl cannot be reached"),
    "settings that are wrong": ("Prot 22", "ctl", "mend that file"),
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_what_ssh_refuses_is_told_soon_with_a_remedy(bed, kind):
    setting, destination, told = REFUSALS[kind]
    lap = bed["lap"]
    config = lap.folder / "home" / ".ssh" / "config"
    right = config.read_text()
    try:
        config.write_text(f"{setting}\n{right}")
        said = fails(lap, *python(CAST), destination)
    finally:
        config.write_text(right)
    assert told in said
    assert "Traceback" not in said
    assert float(said.splitlines()[-1]) < 10


# ---------- without machines ----------

SAID = {"key": "k", "interface": "tcp://*", "location": "cl-0"} | dict.fromkeys(shadow.CHANNELS, 1)
RECORD = {"from": "alice@cl-0", "profile": "cluster", "machine": "cl-0", "fetched": "2026-11-20"}


@pytest.fixture
def found(tmp_path):
    """A shadow, as if it had been fetched."""
    folder = tmp_path / "profile_night"
    (folder / "security").mkdir(parents=True)
    (folder / "shadow.json").write_text(json.dumps(RECORD))
    one = shadow.shadow_in(folder)
    one.connection_file.write_text(json.dumps(SAID))
    return one


@pytest.fixture
def there(tmp_path, monkeypatch):
    """Return IPython's folder on the other machine, which a fake ssh takes for it."""
    fake_ssh = tmp_path / "ssh"
    fake_ssh.write_text('#!/bin/sh\nfor last; do :; done\nexec sh -c "$last"\n')
    fake_ssh.chmod(0o755)
    monkeypatch.setattr(login, "_SSH", (str(fake_ssh),))
    folder = tmp_path / "there"
    monkeypatch.setenv("IPYTHONDIR", str(folder))
    (folder / "profile_cluster" / "security").mkdir(parents=True)
    return folder


#: How the profile there begins, and the commands that are right for it.
STARTERS = {
    "by labkit": (
        "# written by labkit, digest 0123456789abcdef\n",
        "labkit cluster start --profile cluster",
        "labkit cluster restart --profile cluster, which keeps this shadow valid",
    ),
    "for ipyparallel's launcher": (
        "# written by labkit with ipyparallel's own launcher, digest 0123456789abcdef\n",
        "ipcluster start --profile=cluster",
        "ipcluster stop --profile=cluster, ipcluster start --profile=cluster; and here: labkit",
    ),
    "by somebody": (
        "c = get_config()\n",
        "ipcluster start --profile=cluster",
        "ipcluster stop --profile=cluster, ipcluster start --profile=cluster; and here: labkit",
    ),
}


@pytest.mark.parametrize("kind", STARTERS)
def test_a_cluster_is_started_by_the_command_of_who_made_its_profile(found, there, kind):
    head, start, again = STARTERS[kind]
    (there / "profile_cluster" / STARTER).write_text(head)
    with pytest.raises(ClusterStartError, match=rf"start it there: {start}$"):
        found.is_current()
    there.joinpath("profile_cluster", "security", "ipcontroller-client.json").write_text(
        json.dumps(SAID)
    )
    assert found.is_current()
    assert f"does not answer, though its connection file is there; on cl-0: {again}" in str(
        found.why_silent(5.0)
    )


def test_a_profile_without_a_starter_is_ipyparallels(found, there):
    with pytest.raises(ClusterStartError, match=r"start it there: ipcluster start"):
        found.is_current()


def test_who_takes_a_shadow_for_a_profile_is_sent_to_the_controllers_machine(found, tmp_path):
    with pytest.raises(
        ProfileError,
        match=r"of cluster on alice@cl-0: .* Log in by ssh alice@cl-0, and there: labkit "
        r"cluster status --profile cluster",
    ):
        profiles.find(found.name, tmp_path)


def test_shadows_are_found_beside_other_profiles(found, tmp_path):
    (tmp_path / "profile_default").mkdir()
    assert list(shadow.shadows(tmp_path)) == [found]
    assert (found.name, found.origin) == ("night", "cluster on alice@cl-0")


@pytest.mark.parametrize(
    ("interface", "location", "address"),
    [
        ("tcp://10.0.0.1", "cl-0", "10.0.0.1"),
        ("tcp://*", "cl-0", "127.0.0.1"),
        ("tcp://*", "cl-9", "cl-9"),
    ],
)
def test_where_the_controller_is_seen_from_the_other_machine(found, interface, location, address):
    said = {**SAID, "interface": interface, "location": location}
    found.connection_file.write_text(json.dumps(said))
    assert found.address() == address


@pytest.mark.parametrize("text", ["", "[]", '{"key": "k"}', "{"])
def test_a_file_that_is_no_connection_file_is_told(found, text):
    found.connection_file.write_text(text)
    with pytest.raises(ProfileError, match=r"no connection file: .*labkit profile refresh night"):
        found.connection()


@pytest.mark.parametrize("change", [{"from": "-oProxyCommand=x"}, {"profile": "../x"}, {"from": 1}])
def test_a_record_that_was_changed_is_refused(found, change):
    (found.folder / "shadow.json").write_text(json.dumps(RECORD | change))
    with pytest.raises(ProfileError, match="does not say where"):
        shadow.shadow_in(found.folder)


@pytest.mark.parametrize("destination", ["-oProxyCommand=x", "", "a b", "a\n"])
def test_what_ssh_would_take_for_an_option_is_no_machine(destination):
    with pytest.raises(ParameterError, match="no machine to log in to"):
        login.checked(destination)


def test_profiles_of_this_machine_and_other_shadows_stay(found, tmp_path):
    with pytest.raises(ProfileError, match="night is the shadow of cluster on alice@cl-0 already"):
        shadow.cast("bob@cl-0", "cluster", name="night", folder=tmp_path)
    (tmp_path / "profile_day").mkdir()
    (tmp_path / "profile_day" / "ipcluster_config.py").touch()
    with pytest.raises(ProfileError, match="day is a profile of this machine already"):
        shadow.cast("bob@cl-0", "cluster", name="day", folder=tmp_path)


def test_what_labkit_does_not_know_stays(found):
    (found.folder / "mine.txt").touch()
    assert found.remove() == [found.folder / "mine.txt"]
    (found.folder / "mine.txt").unlink()
    assert found.remove() == []
    assert not found.folder.exists()


def test_a_private_file_is_private_from_the_beginning(tmp_path):
    path = tmp_path / "key"
    path.write_text("old")
    path.chmod(0o644)
    replace_text(path, "new", mode=0o600)
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o600
