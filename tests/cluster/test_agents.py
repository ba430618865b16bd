"""What agents do when something fails, and what launchers make of their silence."""

import asyncio
import fcntl
import json
import os
import shutil
import signal
import threading
import time
from types import SimpleNamespace

import psutil
import pytest

from labkit.cluster import arrival, roster, standing
from labkit.cluster.arrival import wait_for_arrival
from labkit.cluster.hostrequests import desk_folder
from labkit.cluster.links import Links
from labkit.cluster.roster import Roster
from labkit.cluster.standing import Standing
from labkit.cluster.watcher import give_up_when_over
from labkit.cluster.workload import Workload
from labkit.errors import ClusterError

from .agents import wait_for, with_word


def alive(engines):
    return [engine["pid"] for engine in engines if engine["alive"]]


def scale(launcher, count):
    """Have another number of engines, of which the controller knows all."""
    told = launcher.report().get("here", {})
    known = [engine["session"] for engine in told.get("engines", ())]
    launcher._scale({"here": count}, known)


def test_a_connection_that_is_closed_too_early_ends_the_agent(agents):
    links = Links({"here": {"local": True}}, [], "python3")
    launcher = agents.launcher()
    channel = links.connect("here", "labkit-early", 5)
    channel.request(do="start", **launcher._request("here", "no/mark"))
    assert channel.receive(time.monotonic() + 10)["can"] == 1
    closing = threading.Thread(target=channel.close, daemon=True)
    closing.start()
    closing.join(15)
    assert not closing.is_alive()
    wait_for(lambda: not with_word("labkit-early"))


def test_an_engine_that_cannot_be_started_costs_no_other(agents):
    launcher = agents.started()
    (first,) = alive(agents.engines())
    # a folder in which no process can begin
    agents.work.rmdir()
    scale(launcher, 2)
    assert "engine 1 cannot be started: " in launcher.failures.get("here", ""), agents.engines()
    assert alive(agents.engines()) == [first]
    # it is tried again
    agents.work.mkdir()
    wait_for(lambda: len(alive(agents.engines())) == 2)
    assert first in alive(agents.engines())


def test_an_agent_without_its_socket_is_not_taken_for_gone(agents):
    launcher = agents.started()
    (engine,) = alive(agents.engines())
    shutil.rmtree(desk_folder(launcher.token_of("here")))
    told = launcher.report()["here"]
    assert "runs, but does not answer" in told["failed"]
    scale(launcher, 2)
    assert psutil.pid_exists(engine)
    # a stop does without
    asyncio.run(launcher.stop())
    assert launcher.unstopped == {}
    assert not agents.left()


def test_an_engine_that_has_registered_once_is_started_again_while_others_live(agents):
    agents.started(2)
    first, second = alive(agents.engines())
    # the controller is not there for a while
    agents.tell("give-up")
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: "it had not registered; it is started again in 1 s" in logged(agents))
    agents.tell("register")
    wait_for(lambda: len(alive(agents.engines())) == 2)
    assert second in alive(agents.engines())
    wait_for(lambda: all(engine["registered"] for engine in agents.engines()))


def logged(agents):
    log = agents.profile / "log" / "ipengine-here-agent.out"
    return log.read_text() if log.exists() else ""


def test_an_agent_ends_when_none_of_its_engines_finds_the_controller(agents):
    agents.started(2)
    agents.tell("give-up")
    for pid in alive(agents.engines()):
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not agents.left())


# ---------- what is heard of a scale ----------


def test_a_late_answer_is_asked_for_again(agents, monkeypatch):
    launcher = agents.started()
    tell = launcher._tell

    def late(host, **what):
        answer = tell(host, **what)
        return {"failed": "no answer in time"} if "scale" in what else answer

    monkeypatch.setattr(launcher, "_tell", late)
    scale(launcher, 3)
    assert launcher.failures == {}
    assert launcher.started() == {"here": 3}


class Arrivals:
    """Waits for the engines of a launcher, whose agent says which have registered."""

    def __init__(self, agents, monkeypatch):
        self.agents = agents
        monkeypatch.setattr(arrival, "sessions", lambda client: dict(enumerate(self.sessions())))
        self.file = agents.profile / "security" / "ipcontroller-engine.json"
        self.file.write_text(json.dumps({"interface": "tcp://10.0.0.1", "registration": 4711}))
        self.others = []

    def sessions(self):
        told = self.agents.launcher().report().get("here", {})
        there = [engine["session"] for engine in told.get("engines", ()) if engine["registered"]]
        return [*there, *self.others]

    def of(self, launcher, timeout_s=30):
        """Return what has come."""
        controller = SimpleNamespace(poll=lambda: None, connection_files={"engine": str(self.file)})
        cluster = SimpleNamespace(
            launcher=launcher, controller=controller, name="here", engine_timeout=timeout_s
        )
        return asyncio.run(wait_for_arrival(cluster, None))


@pytest.fixture
def arrivals(agents, monkeypatch):
    return Arrivals(agents, monkeypatch)


def test_a_scale_hears_of_engines_that_end_at_once(agents, arrivals):
    agents.started()
    agents.tell("end")
    # as in a later process, to which the agent has no connection
    launcher = agents.launcher()
    scale(launcher, 3)
    began = time.monotonic()
    (told,) = arrivals.of(launcher)
    assert time.monotonic() - began < 15
    assert (told.wanted, told.engines) == (3, 1)
    assert [why.partition(" ended with status 1; ")[0] for why in told.why] == [
        "engine 1",
        "engine 2",
    ]
    assert "it was told to end" in told.why[0]


def test_of_engines_that_all_end_at_once_none_has_come(agents, arrivals):
    agents.tell("end")
    launcher = agents.launcher(2)
    launcher._start(None)
    wait_for(lambda: launcher.started() == {})
    (told,) = arrivals.of(launcher)
    assert (told.engines, told.is_whole) == (0, False)
    assert told.why[0].startswith("engine 0 ended")


def test_a_host_that_was_not_told_is_not_waited_for(agents, arrivals):
    agents.started()
    launcher = agents.unreachable()
    scale(launcher, 3)
    # it has obeyed nevertheless, and its answer was lost
    arrivals.others = [f"{launcher.token_of('here')}-1"]
    began = time.monotonic()
    (told,) = arrivals.of(launcher)
    assert time.monotonic() - began < 15
    assert (told.wanted, told.engines) == (3, 2)
    assert "Connection refused" in told.why[0]


def test_engines_that_do_not_register_are_told_with_log_and_remedy(agents, arrivals):
    agents.started()
    agents.tell()
    launcher = agents.launcher()
    scale(launcher, 2)
    log = agents.profile / "log" / "ipengine-here-1.out"
    wait_for(lambda: log.exists() and "it is there" in log.read_text())
    (told,) = arrivals.of(launcher, timeout_s=1)
    (why,) = told.why
    assert why.startswith(
        "1 of 2 engines have not registered in time: does the host reach 10.0.0.1:4711? "
        "labkit doctor --profile here"
    )
    assert why.endswith("ipengine-here-1.out\n  it is there")


def test_engines_that_should_not_be_there_are_told(agents, arrivals):
    launcher = agents.started()
    arrivals.others = [f"{launcher.token_of('here')}-9"]
    (told,) = arrivals.of(launcher, timeout_s=1)
    assert told.why == ("1 more than wanted registered: labkit cluster status shows which",)


# ---------- hosts out of reach ----------


def test_what_could_not_be_ended_is_ended_before_a_start(agents):
    old = agents.started().token_of("here")
    launcher = agents.unreachable()
    asyncio.run(launcher.stop())
    assert "Connection refused" in launcher.unstopped["here"]
    assert with_word(old)
    # it is still out of reach
    launcher = agents.unreachable()
    launcher._start(None)
    assert "Connection refused" in launcher.failures["here"]
    new = agents.started().token_of("here")
    assert not with_word(old)
    assert with_word(new)


def test_what_could_not_be_ended_is_ended_by_the_next_stop(agents):
    agents.started()
    asyncio.run(agents.unreachable().stop())
    launcher = agents.launcher()
    asyncio.run(launcher.stop())
    assert launcher.unstopped == {}
    assert not agents.left()
    assert not list(launcher.strays)


@pytest.mark.parametrize("count", [0, 3])
def test_a_scale_of_a_host_out_of_reach_is_done_later(agents, count):
    agents.started()
    scale(agents.unreachable(), count)
    assert len(alive(agents.engines())) == 1
    launcher = agents.launcher()
    assert launcher.owed() == {"here": count}
    launcher.settle(["here"], [])
    assert launcher.owed() == {}
    assert launcher.started() == ({"here": 3} if count else {})
    assert len([p for p in agents.left() if "ipyparallel.engine" in p.cmdline()]) == count


# ---------- several processes ----------


def test_what_others_start_while_a_watcher_looks_is_left_to_them(agents, monkeypatch):
    starting, watching = agents.launcher(), agents.launcher()
    called, seen = starting._called, []

    def call(host, token, mark):
        # it is written down that it is about to begin, and a host that is asked has nothing
        watching.update()
        assert "gone" in watching.reach([host])[host]
        seen.append(watching.agent_of(host))
        return called(host, token, mark)

    monkeypatch.setattr(starting, "_called", call)
    starting._start(None)
    (engine,) = alive(agents.engines())
    assert watching.bring_back({"here": seen[0]}) == []
    assert alive(agents.engines()) == [engine]


def test_what_somebody_was_killed_over_is_started_by_a_watcher(agents):
    agents.launcher()._expect(["here"])
    watching = agents.launcher()
    watching.update()
    assert watching.bring_back({"here": watching.agent_of("here")}) == ["here"]
    assert len(alive(agents.engines())) == 1


def test_nothing_is_brought_back_after_a_stop_by_others(agents):
    launcher = agents.started()
    asyncio.run(agents.launcher().stop())
    with pytest.raises(ClusterError, match="somebody has stopped these engines meanwhile"):
        launcher.bring_back({"here": launcher.agent_of("here")})
    assert not agents.left()


def test_an_end_of_what_has_ended_meanwhile_is_none(agents):
    launcher = agents.launcher()
    launcher._end("here")
    assert launcher.unstopped == {}


def test_whoever_waits_for_the_roster_is_told_for_whom(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(roster, "_SILENCE_S", 0.1)
    monkeypatch.setattr(roster, "_PATIENCE_S", 0.5)
    never = threading.Event()
    one, other = Roster(str(tmp_path), "set"), Roster(str(tmp_path), "set")
    with (
        one.held(never),
        pytest.raises(ClusterError, match=f"waiting for process {os.getpid()}, which starts"),
        other.held(never),
    ):
        raise AssertionError
    assert f"waiting for process {os.getpid()}, which starts or ends engines" in caplog.text


def test_a_lock_that_was_removed_is_none(tmp_path, monkeypatch):
    lock = fcntl.flock

    def late(descriptor, how):
        lock(descriptor, how)
        Roster(str(tmp_path), "set").remove()
        monkeypatch.undo()

    monkeypatch.setattr(fcntl, "flock", late)
    with Roster(str(tmp_path), "set").held(threading.Event()):
        assert Roster(str(tmp_path), "set")._locked() is None


def test_a_stop_waits_for_a_start(agents):
    launcher = agents.started()
    with launcher.roster.held(threading.Event()):
        stopping = threading.Thread(target=lambda: asyncio.run(agents.launcher().stop()))
        stopping.start()
        stopping.join(0.5)
        assert alive(agents.engines())
    stopping.join()
    assert not agents.left()


@pytest.fixture
def standing_of(monkeypatch):
    """Ask for the standing of hosts without a controller."""
    monkeypatch.setattr(standing, "sessions", lambda client: {})
    monkeypatch.setattr(Standing, "_work", lambda self, registered: Workload({}, frozenset(), 0))
    return lambda launcher: [(e.alive, e.why) for e in Standing(launcher, None).engines()]


def test_what_was_wrong_with_a_host_is_told_until_it_has_come(agents, standing_of, monkeypatch):
    launcher = agents.launcher()
    called = launcher._called
    refused = "it has another version"
    seen = []

    def call(host, token, mark):
        seen.append(standing_of(agents.launcher()))
        if len(seen) < 3:
            raise ClusterError(refused)
        return called(host, token, mark)

    monkeypatch.setattr(launcher, "_called", call)
    launcher._start(None)
    assert standing_of(agents.launcher()) == [(None, refused)]
    launcher.bring_back({"here": None})
    launcher.bring_back({"here": None})
    begun = "it is being started; if that lasts, labkit cluster scale here=... starts it anew"
    assert seen == [[(None, begun)], [(None, refused)], [(None, refused)]]
    assert launcher.failures == {}
    assert standing_of(agents.launcher()) == [(True, "it has not registered")]


def test_a_host_that_was_started_while_it_was_asked_is_asked_again(agents, monkeypatch):
    old = agents.started()
    asking = agents.launcher()
    tell, asked = asking._tell, []

    def restart_first(host, **what):
        if not asked:
            asyncio.run(old.stop())
            agents.started(2)
        asked.append(host)
        return tell(host, **what)

    monkeypatch.setattr(asking, "_tell", restart_first)
    assert len(alive(asking.report()["here"]["engines"])) == 2
    assert asked == ["here", "here"]


def test_others_may_start_engines_while_a_host_gets_its_environment(agents, monkeypatch):
    launcher = agents.launcher()
    called = launcher._called

    class FakeSupplier:
        delivered = False

        def wanted(self):
            return {"name": "environment"}

        def deliver(self, host, environment):
            with agents.launcher().roster.held(threading.Event()):
                assert agents.launcher().failures == {
                    "here": "it has no environment yet, and gets one"
                }
            self.delivered = True
            return SimpleNamespace(wheels=0, seconds=0.0)

    supplier = launcher._supplier = FakeSupplier()

    def call(host, token, mark):
        return called(host, token, mark) if supplier.delivered else (None, {})

    monkeypatch.setattr(launcher, "_called", call)
    launcher._start(None)
    assert launcher.failures == {}
    assert len(alive(agents.engines())) == 1


def test_a_start_that_is_given_up_ends_soon(agents):
    slow = agents.folder / "slow"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    launcher = agents.launcher(python=str(slow))

    async def give_up():
        starting = asyncio.ensure_future(launcher.start(1))
        await asyncio.sleep(0.5)
        starting.cancel()
        await asyncio.wait([starting])

    began = time.monotonic()
    asyncio.run(give_up())
    assert time.monotonic() - began < 5


def test_a_watcher_gives_up_what_takes_long_when_the_controller_ends(agents):
    slow = agents.folder / "slow"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    launcher = agents.launcher(python=str(slow))
    launcher.note()
    bringing = threading.Thread(target=launcher.bring_back, args=({"here": None},))
    bringing.start()
    wait_for(agents.left)
    is_over = threading.Event()
    give_up_when_over(is_over, lambda: False, [launcher])
    bringing.join(5)
    assert not bringing.is_alive()
    assert is_over.is_set()
