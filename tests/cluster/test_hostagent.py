"""What an agent makes of engines' logs, and what it leaves; on this machine."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from labkit.cluster.hostagent import _LAST_BYTES, _REGISTERED, _Agent
from labkit.cluster.hostengines import Engine
from labkit.cluster.hostprocesses import HANDS
from labkit.cluster.hostrequests import desk_folder
from labkit.cluster.links import Links, new_token
from labkit.engine import hand


@pytest.fixture
def request_(tmp_path):
    """What an agent is asked for, for engines that find no controller."""
    return {
        "engines": 1,
        "threads_per_engine": 1,
        "threads": {},
        "environment": {"TMPDIR": str(tmp_path)},
        "directory": None,
        "ipengine_config": None,
        "arguments": ["--IPEngine.wait_for_url_file=60"],
        "restarts": 0,
        "venv": None,
        "profile_dir": str(tmp_path / "profile"),
        "shared": True,
        "mark": "",
        "cluster_id": "",
    }


# ---------- logs ----------


@pytest.fixture
def agent(request_, tmp_path):
    """An agent that does not run, and the log of its engine."""
    made = _Agent({**request_, "host": "here", "token": "t"})
    made._folder = tmp_path
    (tmp_path / "log").mkdir()
    return made


def test_a_log_is_read_once(agent):
    engine, log = Engine(0), agent._log(0)
    with log.open("wb") as out:
        out.write(b"x" * 10**6 + _REGISTERED[:10])
        out.flush()
        assert not agent._has_registered(engine)
        # what has come is kept in mind, and these words may come in two parts
        assert 10**6 - 100 < engine.read_to <= 10**6
        out.write(_REGISTERED[10:] + b" 3\n" + b"y" * 10**6 + b"\nlast words\n")
    assert agent._has_registered(engine)
    log.unlink()
    assert agent._has_registered(engine)


def test_of_what_an_engine_has_said_the_end_is_told(agent):
    engine = Engine(0)
    agent._log(0).write_bytes(b"x" * 10**6 + b"\nlast words\n")
    assert len(agent._said_last(engine)) == _LAST_BYTES
    assert agent._last_words(engine)["lines"][-1] == "last words"
    engine.begins = 10**6 + 1
    assert agent._said_last(engine) == b"last words\n"


def test_an_engine_that_has_not_registered_has_a_remedy(agent):
    told = agent._decide(Engine(0))
    assert told.endswith("is not started again: labkit cluster scale here=... does so")


# ---------- what is left ----------


def test_engines_and_hands_mean_the_same():
    assert HANDS == hand.HANDS


@pytest.fixture
def links():
    return Links({"here": {"local": True}}, [], sys.executable)


def rooms(folder):
    return list(folder.glob("labkit-hands-*"))


def test_what_hands_have_left_goes_with_the_agent(links, request_, tmp_path):
    token = new_token()
    channel = links.connect("here", token, 5)
    channel.request(do="start", **request_)
    channel.receive(time.monotonic() + 20)
    (room,) = rooms(tmp_path)
    (room / "labkit-hand-of-one-that-was-killed").mkdir()
    channel.send(start=0)
    reports = [channel.receive(time.monotonic() + 20) for _ in range(2)]
    assert reports[-1]["ended"]
    channel.close()
    assert rooms(tmp_path) == []
    assert not desk_folder(token).exists()


def test_what_hands_have_left_goes_with_an_agent_that_was_killed(links, request_, tmp_path):
    token = new_token()
    channel = links.connect("here", token, 5)
    channel.request(do="start", **request_)
    pid = channel.receive(time.monotonic() + 20)["pid"]
    channel.send(start=1)
    assert channel.receive(time.monotonic() + 20)["started"] == 1
    (engine,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    environment = Path(f"/proc/{engine}/environ").read_bytes().split(b"\0")
    (room,) = rooms(tmp_path)
    assert f"{HANDS}={room}".encode() in environment
    os.kill(pid, signal.SIGKILL)
    channel.close()
    assert links.ask("here", token, do="stop", pid=pid) == {"ended": True, "left": []}
    assert rooms(tmp_path) == []
    assert not desk_folder(token).exists()
