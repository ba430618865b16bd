"""How hosts are asked, on real machines, whatever ssh's configuration says."""

import json
import sys

import pytest

from labkit.cluster import links
from labkit.errors import ClusterError

from .testbed import ROOT, python

#: Asks h1 for its logs; prints the answer.
ASK = """
import json, sys
from labkit.cluster.links import Links, new_token
place = {{"profile_dir": "/tmp", "shared": True, "mark": "", "cluster_id": "", "lines": 1}}
links = Links({{"h1": {{"ssh_args": {words!r}}}}}, [], {python!r}, **{settings!r})
print(json.dumps(links.ask("h1", new_token(), do="logs", **place)))
"""


@pytest.fixture
def ask(bed, tmp_path):
    """Have ctl ask h1, with more in the configuration of its ssh."""

    def asked(config, *words, environment=None, **settings):
        file = bed.folder / f"{tmp_path.name}.config"
        file.write_text(f"{config}\n{bed['ctl'].execute('cat', f'{bed.home}/.ssh/config')}")
        code = ASK.format(words=["-F", str(file), *words], python=sys.executable, settings=settings)
        out = bed["ctl"].execute(*python(code), **(environment or {}))
        return json.loads(out.splitlines()[-1])

    return asked


def test_what_is_for_people_at_a_terminal_is_left_out(ask):
    # the port is in use on ctl, by its sshd
    config = "Host h1\n RemoteCommand sleep 60\n LocalForward 22 localhost:22\n"
    assert ask(f"{config} ExitOnForwardFailure yes") == {"logs": {}}


def test_a_host_that_is_slow_to_log_in_can_be_asked(ask):
    config = "Host h1\n ProxyCommand sh -c 'sleep 3; exec ssh -W %h:%p h2'\n"
    assert ask(config) == {"logs": {}}
    assert "timed out" in ask(config, limit_s=6.0)["failed"]


def test_no_jump_host_asks_anything(ask, bed):
    asks = bed.folder / "asks"
    asks.write_text(f"#!/bin/sh\ntouch {bed.folder}/asked\nsleep 60\n")
    asks.chmod(0o755)
    config = "Host h2\n StrictHostKeyChecking ask\n UserKnownHostsFile /dev/null\n"
    environment = {"SSH_ASKPASS": str(asks), "DISPLAY": ":0"}
    told = ask(config, "-J", "h2", environment=environment, limit_s=12.0)
    assert "failed" in told
    assert not (bed.folder / "asked").exists()


def test_what_is_opened_while_all_is_given_up_is_cut(monkeypatch):
    given_up = links.Links({"here": {"local": True}}, [], sys.executable)

    class Late(links.Channel):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            made.append(self)
            given_up.cut()

    made = []
    monkeypatch.setattr(links, "Channel", Late)
    with pytest.raises(ClusterError, match="here: given up"):
        given_up.connect("here", links.new_token(), 5)
    assert made[0].join(5)


#: Asks h2 under many names for its logs, all at once, through h1, and starts and stops an agent
#: for each name; prints the answers, how many engines each can have, and what went wrong.
ASK_MANY = """
import asyncio, functools, json
from labkit.cluster.launchers import HostsLauncher
told = {{"address": "h2", "ssh_args": ["-J", "h1"], "python": {python!r}, "n": 1}}
told["environment"] = {{"PYTHONPATH": {root!r}}}
hosts = {{f"n{{i}}": told for i in range({count})}}
launcher = HostsLauncher(profile_dir={folder!r}, engines=hosts, engine_set_id="many")
logs = launcher.tails(hosts, 1)
launcher._expect(hosts)
launcher._supplier
begin = functools.partial(launcher._begin, mark="no/mark")
begun = launcher._links.at_once(begin, hosts)
failures = launcher.failures
asyncio.run(launcher.stop())
print(json.dumps([logs, begun, failures, launcher.unstopped]))
"""


def test_a_jump_host_is_not_asked_for_more_than_it_takes(bed, tmp_path):
    names = [f"n{i}" for i in range(24)]
    settings = {"python": sys.executable, "root": str(ROOT), "folder": str(tmp_path)}
    code = ASK_MANY.format(count=len(names), **settings)
    out = bed["ctl"].execute(*python(code), timeout_s=120)
    logs, begun, failures, unstopped = json.loads(out.splitlines()[-1])
    assert failures == {}
    assert logs == {name: {"logs": {}} for name in names}
    assert begun == dict.fromkeys(names, 1)
    assert unstopped == {}
